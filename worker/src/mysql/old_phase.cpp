#include "mysql/old_phase.hpp"

#include "mysql/sql_text.hpp"

namespace tandem::mysql {

std::string phase_table(const core::SourceConnection &connection) { return quote_name(connection.metadata_database, "table_phase"); }

std::string create_phase_table(const core::SourceConnection &connection) {
    return "CREATE TABLE IF NOT EXISTS " + phase_table(connection) +
           " (\n"
           "  outbox VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,\n"
           "  phase VARCHAR(20) CHARACTER SET ascii NOT NULL DEFAULT 'old',\n"
           "  epoch BIGINT UNSIGNED NOT NULL,\n"
           "  changed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)\n"
           ") ENGINE=InnoDB COMMENT='pg_tandem: who may write, and the epoch of writes from the new side'";
}

std::string bump_phase_epoch(const core::SourceConnection &connection, const core::TableConfig &table) {
    return "INSERT INTO " + phase_table(connection) + " (outbox, epoch) VALUES (" + quote_text(table.outbox) +
           ", 1) ON DUPLICATE KEY UPDATE epoch = epoch + 1, changed_at = CURRENT_TIMESTAMP(6)";
}

std::string forget_phase(const core::SourceConnection &connection, const core::TableConfig &table) {
    return "DELETE FROM " + phase_table(connection) + " WHERE outbox = " + quote_text(table.outbox);
}

std::string unseen_variable(const core::TableConfig &table) { return "@tandem_unseen_" + table.trigger_suffix; }

} // namespace tandem::mysql
