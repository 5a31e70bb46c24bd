#include "mysql/privileges.hpp"

#include "mysql/sql_text.hpp"

namespace tandem::mysql {
namespace {

// 'user'@'host' of the account that the server took the session for.
std::string account(ControlClient &client) {
    const std::string user = client.query("SELECT CURRENT_USER()", "asking for the account").at(0).at(0).value_or("");
    const auto at = user.rfind('@');
    const auto quoted = [](const std::string &text) {
        std::string result = "'";
        for (const char c : text) {
            if (c == '\'')
                result.push_back(c);
            result.push_back(c);
        }
        return result + "'";
    };
    return quoted(user.substr(0, at)) + "@" + quoted(at == std::string::npos ? "%" : user.substr(at + 1));
}

bool denied(unsigned code) { return code == 1044 || code == 1142 || code == 1143 || code == 1227 || code == 1370; }

// In a GRANT the database is a LIKE pattern.
std::string grant_target(const std::string &database) {
    std::string pattern;
    for (const char c : database) {
        if (c == '_' || c == '%')
            pattern.push_back('\\');
        pattern.push_back(c);
    }
    return quote_name(pattern) + ".*";
}

// Granted on the database or globally, as far as information_schema shows (not through a role).
bool granted(ControlClient &client, const std::string &database, const std::string &privilege) {
    return !client
                .query("SELECT 1 FROM information_schema.schema_privileges WHERE privilege_type = " + quote_text(privilege) + " AND " +
                           quote_text(database) +
                           " LIKE table_schema UNION ALL SELECT 1 FROM information_schema.user_privileges WHERE"
                           " privilege_type = " +
                           quote_text(privilege),
                       "reading privileges")
                .empty();
}

} // namespace

std::vector<PrivilegeCheck> check_privileges(ControlClient &client, const core::SourceConnection &connection) {
    const std::string user = account(client);
    const std::string application = quote_name(connection.database, "tandem_no_such_table");
    const std::string metadata = quote_name(connection.metadata_database, "tandem_no_such_table");
    struct Probe {
        const char *privilege;
        bool on_metadata;
        const char *purpose;
        std::string sql;
        bool for_cutover = false;
    };
    const std::vector<Probe> probes{
        {"SELECT", false, "read the rows", "SELECT 1 FROM " + application},
        {"TRIGGER", false, "create the capture triggers",
         "CREATE TRIGGER " + quote_name(connection.database, "tandem_probe") + " AFTER INSERT ON " + application +
             " FOR EACH ROW SET @tandem = 1"},
        {"CREATE", true, "create the outboxes",
         "CREATE TABLE " + metadata + " LIKE " + quote_name(connection.metadata_database, "tandem_none")},
        {"DROP", true, "drop the outboxes in the end", "DROP TABLE " + metadata},
        {"SELECT", true, "read the outboxes", "SELECT 1 FROM " + metadata},
        {"INSERT", true, "let the triggers (which run as this user) write the outboxes", "INSERT INTO " + metadata + " VALUES (1)"},
        {"DELETE", true, "delete events that are applied", "DELETE FROM " + metadata},
        {"LOCK TABLES", false, "for the cut-over: lock the tables", "LOCK TABLES " + application + " WRITE", true},
        {"LOCK TABLES", true, "for the cut-over: lock the outboxes", "LOCK TABLES " + metadata + " WRITE", true},
        {"UPDATE", true, "for the cut-over: keep the phase", "UPDATE " + metadata + " SET phase = 1", true},
        {"INSERT", false, "after the cut-over: write back new rows", "INSERT INTO " + application + " VALUES (1)", true},
        {"UPDATE", false, "after the cut-over: write back changes", "UPDATE " + application + " SET id = 1", true},
        {"DELETE", false, "after the cut-over: write back deletions", "DELETE FROM " + application, true},
    };
    const auto grant = [&](bool on_metadata) {
        std::vector<std::string> all;
        for (const Probe &probe : probes)
            if (probe.on_metadata == on_metadata)
                all.emplace_back(probe.privilege);
        return "GRANT " + join(all, ", ") + " ON " + grant_target(on_metadata ? connection.metadata_database : connection.database) +
               " TO " + user;
    };
    std::vector<PrivilegeCheck> checks;
    for (const Probe &probe : probes) {
        PrivilegeCheck check;
        check.privilege = probe.privilege;
        check.statement = grant(probe.on_metadata);
        check.purpose = probe.purpose;
        check.required = !probe.for_cutover;
        check.for_cutover = probe.for_cutover;
        std::string message;
        const unsigned code = client.probe(probe.sql, message);
        check.ok = !denied(code);
        if (!check.ok)
            check.error = message;
        if (code == 1419) {
            // Binary logging on, no SUPER: the server wants the administrator's word that triggers are harmless to replication. These are.
            PrivilegeCheck trust;
            trust.statement = "SET GLOBAL log_bin_trust_function_creators = 1";
            trust.purpose = "create triggers while binary logging is on, without SUPER";
            trust.error = message;
            checks.push_back(trust);
            // The server says so before it looks at TRIGGER itself: take its word from the tables of grants.
            check.ok = granted(client, connection.database, probe.privilege);
            check.error = check.ok ? "" : "could not be tried before the setting above is made";
        }
        checks.push_back(check);
    }
    PrivilegeCheck process;
    process.privilege = "PROCESS";
    process.statement = "GRANT PROCESS ON *.* TO " + user;
    process.purpose = "optional: InnoDB's own number of a table, which shows at once that a table was swapped";
    process.required = false;
    const bool modern =
        client.query("SELECT VERSION() NOT LIKE '%MariaDB%' AND VERSION() + 0 >= 8", "asking for the version").at(0).at(0) == "1";
    process.ok =
        client.probe(std::string("SELECT 1 FROM information_schema.") + (modern ? "innodb_tables" : "innodb_sys_tables") + " LIMIT 1",
                     process.error) == 0;
    checks.push_back(process);
    return checks;
}

} // namespace tandem::mysql
