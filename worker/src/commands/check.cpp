// `tandem-sync check`: what the old side must grant, whether it does, and whether capture is whole. Changes nothing.
#include "commands/commands.hpp"
#include "commands/text_table.hpp"

#include "core/error.hpp"
#include "mysql/control_session.hpp"
#include "postgres/worker_api.hpp"

#include <algorithm>
#include <iostream>
#include <utility>

namespace tandem::commands {
namespace {

using nlohmann::json;

std::string fact(const json &facts, const char *name) {
    const auto found = facts.find(name);
    if (found == facts.end() || found->is_null())
        return "-";
    return found->is_string() ? found->get<std::string>() : found->dump();
}

bool check_grants(mysql::ControlSession &session) {
    bool fine = true;
    std::cout << "grants:\n";
    std::string statement;
    for (const mysql::ControlSession::Grant &grant : session.check_grants()) {
        if (std::exchange(statement, grant.statement) != grant.statement)
            std::cout << "  " << grant.statement << ";\n";
        std::cout << "    "
                  << (grant.ok         ? "ok       "
                      : grant.required ? "MISSING  "
                                       : "without  ")
                  << grant.privilege << (grant.privilege.empty() ? "" : ": ") << grant.purpose << "\n";
        if (!grant.ok && !grant.error.empty())
            std::cout << "             " << grant.error << "\n";
        fine = fine && (grant.ok || !grant.required);
    }
    return fine;
}

// Only tables whose capture should be there: the others have nothing on the old side yet.
bool check_tables(mysql::ControlSession &session, const std::vector<core::TableConfig> &tables) {
    bool fine = true;
    TextTable report({"table", "state", "capture", "remark"});
    for (const core::TableConfig &table : tables) {
        if (table.state.empty() || table.state == "registered" || table.state == "capturing" || table.desired_state == "dropped") {
            report.add({table.name, table.state.empty() ? "registered" : table.state, "-", ""});
            continue;
        }
        const mysql::CaptureStatus capture = session.check_capture(table);
        const bool whole = capture.complete && capture.gaps == 0 && capture.drift.empty();
        std::string remark = capture.missing;
        if (capture.gaps > 0)
            remark += (remark.empty() ? "" : "; ") + std::to_string(capture.gaps) + " events lost (capture_gap)";
        if (!capture.drift.empty())
            remark += (remark.empty() ? "" : "; ") + capture.drift;
        report.add({table.name, table.state, whole ? "whole" : "BROKEN", remark});
        fine = fine && whole;
    }
    if (report.rows() > 0)
        report.print(std::cout);
    return fine;
}

bool check_source(const core::SourceConnection &connection, const std::vector<core::TableConfig> &tables) {
    std::cout << "source " << (connection.name.empty() ? connection.database : connection.name) << ": " << connection.username << " on "
              << connection.host << ":" << connection.port << ", database " << connection.database << ", metadata database "
              << connection.metadata_database << "\n";
    try {
        mysql::ControlSession session(connection, mysql::ControlSession::Database::unnamed);
        // First the grants: without them nothing below may be readable.
        const bool granted = check_grants(session);
        const json facts = session.server_facts();
        std::cout << "server: " << fact(facts, "server_version") << ", binlog_format " << fact(facts, "binlog_format") << ", read_only "
                  << fact(facts, "read_only") << ", lower_case_table_names " << fact(facts, "lower_case_table_names") << "\n"
                  << "durability: innodb_flush_log_at_trx_commit " << fact(facts, "flush_log_at_commit")
                  << (fact(facts, "flush_log_at_commit") == "1"
                          ? "\n"
                          : ", not 1: a crash may take back changes that the new side has got; reconcile after one (docs/old-side.md)\n")
                  << "TLS: mode " << connection.tls << ", cipher " << fact(facts, "tls_cipher") << "\n";
        bool fine = granted && !(facts.contains("read_only") && facts["read_only"] == true);
        fine = check_tables(session, tables) && fine;
        std::cout << (fine ? "all is well\n" : "something is missing\n");
        return fine;
    } catch (const core::Error &error) {
        std::cout << "ERROR: " << error.what() << "\n";
        if (!error.hint().empty())
            std::cout << "HINT: " << error.hint() << "\n";
        return false;
    }
}

} // namespace

int check(const Options &options) {
    postgres::WorkerApi api(options.postgres, "check", "check");
    if (!options.server.empty()) {
        core::SourceConnection connection = api.server(options.server, options.database, options.mapping_role);
        if (!options.metadata_database.empty())
            connection.metadata_database = options.metadata_database;
        if (!options.tls.empty())
            connection.tls = options.tls;
        return check_source(connection, {}) ? 0 : 1;
    }
    bool fine = true;
    std::size_t checked = 0;
    for (const postgres::SourceRow &source : api.sources()) {
        const std::string &name = source.connection.name;
        if (!options.sources.empty() && std::find(options.sources.begin(), options.sources.end(), name) == options.sources.end())
            continue;
        if (checked++ > 0)
            std::cout << "\n";
        fine = check_source(source.connection, api.tables(source.connection.source_id)) && fine;
    }
    if (checked == 0)
        throw core::Error(core::Side::new_side, "42704", "there is no source to check", false,
                          "Add one with tandem.add_source, or name --server and --database.");
    return fine ? 0 : 1;
}

} // namespace tandem::commands
