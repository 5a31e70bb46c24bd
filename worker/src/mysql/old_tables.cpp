#include "mysql/old_tables.hpp"

#include "mysql/client.hpp"
#include "mysql/control_session.hpp"
#include "mysql/sql_text.hpp"

#include <nlohmann/json.hpp>

namespace tandem::mysql {

using nlohmann::json;

struct OldTables::Impl {
    const core::SourceConnection connection;
    const std::vector<const core::TableConfig *> tables;
    ControlSession session;
    Client client;
    json last = json::array();

    Impl(const core::SourceConnection &source, std::vector<const core::TableConfig *> looked_at)
        : connection(source), tables(std::move(looked_at)), session(connection), client(connection) {}

    // Without PROCESS a TRUNCATE does not show otherwise.
    bool is_empty(const core::TableConfig &table) {
        return client
            .one_row("SELECT 1 FROM " + quote_name(connection.database, table.name) + " LIMIT 1",
                     "looking whether table \"" + table.name + "\" is empty")
            .empty();
    }
};

OldTables::OldTables(const core::SourceConnection &connection, std::vector<const core::TableConfig *> tables)
    : impl_(std::make_unique<Impl>(connection, std::move(tables))) {}
OldTables::~OldTables() = default;

json OldTables::look() {
    const core::SeenSource source = impl_->session.look(impl_->tables);
    json found = json::array();
    for (const core::TableConfig *table : impl_->tables) {
        const core::SeenTable &seen = source.tables.at(table->table_id);
        const auto fault = core::judge_contents(*table, source, seen, table->identity);
        found.push_back({{"table_id", table->table_id},
                         {"identity", core::identity_of(source, seen)},
                         {"exists", seen.exists},
                         {"empty", seen.exists && impl_->is_empty(*table)},
                         {"reason", fault ? json(fault->reason) : json(nullptr)}});
    }
    return impl_->last = std::move(found);
}

const json &OldTables::look_for_empty_ones() {
    for (std::size_t i = 0; i < impl_->tables.size(); ++i)
        if (json &seen = impl_->last.at(i); seen.at("exists").get<bool>())
            seen["empty"] = impl_->is_empty(*impl_->tables[i]);
    return impl_->last;
}

} // namespace tandem::mysql
