#include "mysql/old_tables.hpp"

#include "mysql/client.hpp"
#include "mysql/control_session.hpp"
#include "mysql/sql_text.hpp"

#include <nlohmann/json.hpp>

namespace tandem::mysql {

using nlohmann::json;

json look_at_old_tables(const core::SourceConnection &connection, const std::vector<const core::TableConfig *> &tables) {
    ControlSession session(connection);
    Client client(connection);
    const core::SeenSource source = session.look(tables);
    json found = json::array();
    for (const core::TableConfig *table : tables) {
        const core::SeenTable &seen = source.tables.at(table->table_id);
        const auto fault = core::judge_contents(*table, source, seen, table->identity);
        // Without PROCESS a TRUNCATE does not show otherwise.
        const bool empty = seen.exists && client
                                              .one_row("SELECT 1 FROM " + quote_name(connection.database, table->name) + " LIMIT 1",
                                                       "looking whether table \"" + table->name + "\" is empty")
                                              .empty();
        found.push_back({{"table_id", table->table_id},
                         {"identity", core::identity_of(source, seen)},
                         {"empty", empty},
                         {"reason", fault ? json(fault->reason) : json(nullptr)}});
    }
    return found;
}

} // namespace tandem::mysql
