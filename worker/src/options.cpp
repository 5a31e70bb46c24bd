#include "options.hpp"

#include "core/error.hpp"
#include "postgres/session.hpp"

#include <algorithm>
#include <boost/program_options.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <sys/stat.h>

namespace tandem {
namespace {

namespace po = boost::program_options;

constexpr const char *exit_codes = R"(
Exit codes: 0 done; 1 failed, or check found something missing; 2 wrong usage.
Environment: TANDEM_POSTGRES, TANDEM_CONFIG, TANDEM_SOURCE, TANDEM_LOG_LEVEL, TANDEM_LOG_FORMAT; and the PG* variables of libpq.
The configuration file has lines "name = value" with the names of the options.
)";

constexpr const char *general_help = R"(tandem-sync moves live tables from MySQL or MariaDB to PostgreSQL, for the extension pg_tandem.

Usage: tandem-sync COMMAND [OPTION]...

Commands:
  run       work until told to stop (SIGTERM, SIGINT)
  check     print and test what the old side must grant, its facts, and the capture of each table
  status    print sources, tables and lag
  cutover   make the new side the source of truth of tables
  rehearse  all of a cut-over but the commit
  rollback  make the old side the source of truth again
  version   print the version

tandem-sync COMMAND --help tells the options of a command.
)";

const std::map<std::string, Command> commands = {
    {"run", Command::run},           {"check", Command::check},       {"status", Command::status},   {"cutover", Command::cutover},
    {"rehearse", Command::rehearse}, {"rollback", Command::rollback}, {"version", Command::version}, {"help", Command::help}};

po::options_description described(Command command) {
    po::options_description all("Options", 120, 60);
    auto add = all.add_options();
    add("help,h", "print this help");
    if (command == Command::version)
        return all;
    add("postgres", po::value<std::string>(), "where the new database is: libpq connection string or URI, without a password");
    add("config", po::value<std::string>(), "configuration file; mode 0600 if it holds a password");
    add("source", po::value<std::vector<std::string>>()->composing(), "only this source; may be repeated");
    add("log-level", po::value<std::string>(), "debug, info, warning or error (default info)");
    add("log-format", po::value<std::string>(), "logfmt or json (default logfmt)");
    if (command == Command::check) {
        add("server", po::value<std::string>(), "foreign server to check before add_source");
        add("database", po::value<std::string>(), "database on that server");
        add("mapping-role", po::value<std::string>(), "role whose user mapping is used with --server");
        add("metadata-database", po::value<std::string>(), "database for the outboxes with --server (default tandem)");
        add("tls", po::value<std::string>(), "auto, verify or disable, with --server (default auto)");
    }
    if (command == Command::cutover || command == Command::rehearse || command == Command::rollback) {
        add("table", po::value<std::vector<std::string>>()->composing(), "table as source.table; repeat for all that move together");
        add("max-pause-ms", po::value<int>()->default_value(1000), "how long writes may wait");
        add("lock-wait-ms", po::value<int>()->default_value(30000), "how long to try for the lock");
        add("waive", po::value<std::vector<std::string>>()->composing(), "GATE=REASON; may be repeated");
        add("kill", po::value<std::vector<std::string>>()->composing(),
            "user of the old side whose sessions may be ended when they hold the tables; may be repeated; not for rollback");
    }
    return all;
}

std::string text_of(const po::variables_map &values, const char *name) {
    return values.count(name) != 0 ? values[name].as<std::string>() : std::string();
}

bool has_password(const std::string &conninfo) {
    try {
        return postgres::conninfo_has_password(conninfo);
    } catch (const core::Error &error) {
        throw UsageError(error.what(), error.hint());
    }
}

// A password is never taken from argv, which every user of the machine can read.
void refuse_password_in_arguments(const po::variables_map &values) {
    if (values.count("postgres") != 0 && has_password(values["postgres"].as<std::string>()))
        throw UsageError(
            "a password on the command line can be read by every user of this machine",
            "Put it into a password file (PGPASSFILE), a service file (PGSERVICE), the environment (TANDEM_POSTGRES), or a configuration"
            " file of mode 0600 (--config).");
}

po::variables_map read_file(const std::string &path, const po::options_description &known) {
    std::ifstream file(path);
    struct stat info {};
    if (!file || ::stat(path.c_str(), &info) != 0)
        throw UsageError("configuration file \"" + path + "\" cannot be read: " + std::strerror(errno));
    po::variables_map values;
    // A file may serve all commands, so options of other commands are not an error.
    po::store(po::parse_config_file(file, known, true), values);
    if (values.count("postgres") != 0 && (info.st_mode & 077) != 0 && has_password(values["postgres"].as<std::string>()))
        throw UsageError("configuration file \"" + path + "\" holds a password and can be read by others", "chmod 0600 " + path);
    return values;
}

void read_environment(po::variables_map &values, const po::options_description &known, const Environment &environment) {
    po::parsed_options parsed(&known);
    for (const auto &[name, value] : environment) {
        std::string option = name.substr(std::strlen("TANDEM_"));
        std::ranges::transform(option, option.begin(), [](unsigned char c) { return c == '_' ? '-' : static_cast<char>(std::tolower(c)); });
        static const std::vector<std::string> accepted = {"postgres", "config", "source", "log-level", "log-format"};
        if (std::ranges::find(accepted, option) != accepted.end() && !value.empty())
            parsed.options.emplace_back(option, std::vector<std::string>{value});
    }
    po::store(parsed, values);
}

log::Level level_of(const std::string &name) {
    static const std::map<std::string, log::Level> levels = {
        {"debug", log::Level::debug}, {"info", log::Level::info}, {"warning", log::Level::warning}, {"error", log::Level::error}};
    const auto found = levels.find(name);
    if (found == levels.end())
        throw UsageError("log level \"" + name + "\" is not known", "Use debug, info, warning or error.");
    return found->second;
}

log::Format format_of(const std::string &name) {
    if (name != "logfmt" && name != "json")
        throw UsageError("log format \"" + name + "\" is not known", "Use logfmt or json.");
    return name == "json" ? log::Format::json : log::Format::logfmt;
}

void fill(Options &options, const po::variables_map &values) {
    options.postgres = text_of(values, "postgres");
    if (values.count("source") != 0)
        options.sources = values["source"].as<std::vector<std::string>>();
    if (const std::string level = text_of(values, "log-level"); !level.empty())
        options.log_level = level_of(level);
    if (const std::string format = text_of(values, "log-format"); !format.empty())
        options.log_format = format_of(format);
    if (values.count("table") != 0)
        options.tables = values["table"].as<std::vector<std::string>>();
    if (values.count("kill") != 0)
        options.kill = values["kill"].as<std::vector<std::string>>();
    if (!options.kill.empty() && options.command == Command::rollback)
        throw UsageError("--kill is of the old side's lock, which a rollback does not need");
    if (values.count("waive") != 0)
        options.waive = values["waive"].as<std::vector<std::string>>();
    for (const std::string &waived : options.waive)
        if (waived.find('=') == std::string::npos || waived.back() == '=')
            throw UsageError("--waive needs GATE=REASON, not \"" + waived + "\"");
    if (values.count("max-pause-ms") != 0) {
        options.max_pause_ms = values["max-pause-ms"].as<int>();
        options.lock_wait_ms = values["lock-wait-ms"].as<int>();
        if (options.tables.empty())
            throw UsageError("no table given", "Name them: --table shop.users --table shop.orders");
    }
    options.server = text_of(values, "server");
    options.database = text_of(values, "database");
    options.mapping_role = text_of(values, "mapping-role");
    options.metadata_database = text_of(values, "metadata-database");
    options.tls = text_of(values, "tls");
    if (options.server.empty() != options.database.empty())
        throw UsageError("--server and --database belong together");
    if (!options.tls.empty() && options.tls != "auto" && options.tls != "verify" && options.tls != "disable")
        throw UsageError("--tls must be auto, verify or disable");
}

} // namespace

Environment tandem_environment(char **environ_block) {
    Environment found;
    for (char **entry = environ_block; entry != nullptr && *entry != nullptr; ++entry) {
        const std::string text = *entry;
        const std::size_t equals = text.find('=');
        if (text.rfind("TANDEM_", 0) == 0 && equals != std::string::npos)
            found[text.substr(0, equals)] = text.substr(equals + 1);
    }
    return found;
}

Options parse_options(const std::vector<std::string> &arguments, const Environment &environment) {
    Options options;
    options.help = general_help + std::string(exit_codes);
    if (arguments.empty())
        throw UsageError("no command given", "tandem-sync --help");
    if (arguments.front() == "--help" || arguments.front() == "-h")
        return options;
    const std::string name = arguments.front() == "--version" ? "version" : arguments.front();
    const auto command = commands.find(name);
    if (command == commands.end())
        throw UsageError("command \"" + name + "\" is not known", "tandem-sync --help");
    options.command = command->second;
    if (options.command == Command::help)
        return options;

    const po::options_description known = described(options.command);
    try {
        po::variables_map values;
        const po::positional_options_description none;
        po::store(
            po::command_line_parser(std::vector<std::string>(arguments.begin() + 1, arguments.end())).options(known).positional(none).run(),
            values);
        if (values.count("help") != 0) {
            std::ostringstream text;
            text << "Usage: tandem-sync " << name << " [OPTION]...\n\n" << known << exit_codes;
            options.help = text.str();
            options.command = Command::help;
            return options;
        }
        if (options.command == Command::version)
            return options;
        refuse_password_in_arguments(values);
        read_environment(values, known, environment); // what is set already stays
        if (const std::string path = text_of(values, "config"); !path.empty())
            for (const auto &[option, value] : read_file(path, known))
                if (values.count(option) == 0)
                    values.insert({option, value});
        fill(options, values);
    } catch (const po::error &error) {
        throw UsageError(error.what(), "tandem-sync " + name + " --help");
    }
    return options;
}

} // namespace tandem
