// `tandem-sync cutover`, `rehearse`, `rollback`: the SQL procedures of the same purpose, with their steps on standard output.
#include "commands/commands.hpp"

#include "postgres/session.hpp"

#include <iostream>
#include <nlohmann/json.hpp>

namespace tandem::commands {
namespace {

std::string array_literal(const std::vector<std::string> &items) {
    std::string text = "{";
    for (const std::string &item : items) {
        text += text.size() > 1 ? ",\"" : "\"";
        for (const char c : item) {
            if (c == '"' || c == '\\')
                text.push_back('\\');
            text.push_back(c);
        }
        text += "\"";
    }
    return text + "}";
}

} // namespace

int cutover(const Options &options) {
    const char *procedure = options.command == Command::cutover    ? "cutover"
                            : options.command == Command::rehearse ? "rehearse_cutover"
                                                                   : "rollback";
    nlohmann::json waive = nlohmann::json::object();
    for (const std::string &one : options.waive)
        waive[one.substr(0, one.find('='))] = one.substr(one.find('=') + 1);
    postgres::Session session(options.postgres, std::string("tandem-sync ") + procedure);
    session.on_notice([](const std::string &line) { std::cout << line << std::endl; });
    std::string call =
        std::string("CALL tandem.") + procedure +
        "($1::text[], max_pause => $2::bigint * interval '1 ms', waive => $3::jsonb, lock_wait => $4::bigint * interval '1 ms'";
    std::vector<std::optional<std::string>> arguments{array_literal(options.tables), std::to_string(options.max_pause_ms), waive.dump(),
                                                      std::to_string(options.lock_wait_ms)};
    if (!options.kill.empty()) {
        call += ", kill => $5::text[]";
        arguments.emplace_back(array_literal(options.kill));
    }
    session.query(call + ")", arguments);
    return 0;
}

} // namespace tandem::commands
