#include "mysql/old_state.hpp"

#include "core/error.hpp"
#include "mysql/client.hpp"
#include "mysql/control_client.hpp"
#include "mysql/old_fence.hpp"
#include "mysql/privileges.hpp"

#include <nlohmann/json.hpp>

namespace tandem::mysql {

using nlohmann::json;

namespace {

constexpr int long_after_s = 5;

// Needs PROCESS; without it nothing is known, which is said.
json long_transactions(Client &client) {
    json found = json::array();
    try {
        for (const auto &row : client.rows("SELECT t.trx_mysql_thread_id, p.user, TIMESTAMPDIFF(SECOND, t.trx_started, NOW())"
                                           " FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
                                           " ON p.id = t.trx_mysql_thread_id WHERE t.trx_started < NOW() - INTERVAL " +
                                               std::to_string(long_after_s) + " SECOND ORDER BY t.trx_started LIMIT 20",
                                           "looking for long transactions"))
            found.push_back({{"id", row.at(0)}, {"user", row.at(1)}, {"seconds", row.at(2)}});
    } catch (const core::SessionLost &) {
        throw;
    } catch (const core::Error &) {
        return json::array(); // without PROCESS the lock tells, by its timeout
    }
    return found;
}

} // namespace

json old_state(const core::SourceConnection &connection, const json &question) {
    Client client(connection);
    json state;
    state["now"] = client.one_row("SELECT UNIX_TIMESTAMP(NOW(6))", "reading the clock").at(0);
    std::vector<core::TableConfig> configs;
    for (const json &table : question.value("tables", json::array())) {
        core::TableConfig config;
        config.name = table.at("name").get<std::string>();
        config.trigger_suffix = table.at("suffix").get<std::string>();
        configs.push_back(std::move(config));
    }
    Tables tables;
    for (const core::TableConfig &config : configs)
        tables.push_back(&config);
    state["fences"] = json::array();
    for (const Fence &fence : find_fences(client, connection, tables))
        state["fences"].push_back(
            {{"name", fence.name}, {"table", fence.table}, {"suffix", fence.suffix}, {"epoch", fence.epoch}, {"after", fence.after}});
    state["long_after"] = long_after_s;
    state["long_transactions"] = long_transactions(client);
    state["missing_privileges"] = json::array();
    ControlClient control(connection);
    for (const PrivilegeCheck &check : check_privileges(control, connection))
        if ((check.required || check.for_cutover) && !check.ok)
            state["missing_privileges"].push_back(check.statement);
    return state;
}

} // namespace tandem::mysql
