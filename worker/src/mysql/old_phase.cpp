#include "mysql/old_phase.hpp"

#include "mysql/sql_text.hpp"

#include <charconv>

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

std::string fence_name(const core::TableConfig &table, const std::string &event, std::uint64_t epoch) {
    const char letter = event == "INSERT" ? 'i' : event == "UPDATE" ? 'u' : 'd';
    return std::string("tandem_f") + letter + "_" + table.trigger_suffix + "_" + std::to_string(epoch);
}

std::optional<Fence> parse_fence_name(const std::string &name) {
    constexpr std::size_t head = 10; // tandem_fi_
    if (!name.starts_with("tandem_f") || name.size() < head + 3 || name[head - 1] != '_')
        return std::nullopt;
    const auto line = name.rfind('_');
    if (line <= head)
        return std::nullopt;
    Fence fence;
    fence.name = name;
    fence.suffix = name.substr(head, line - head);
    fence.event = name[head - 2] == 'i' ? "INSERT" : name[head - 2] == 'u' ? "UPDATE" : "DELETE";
    const char *end = name.data() + name.size();
    const auto [at, error] = std::from_chars(name.data() + line + 1, end, fence.epoch);
    if (error != std::errc() || at != end)
        return std::nullopt;
    return fence;
}

std::string create_fence(const core::SourceConnection &connection, const core::TableConfig &table, const std::string &event,
                         std::uint64_t epoch, bool after, const std::string &moved_to) {
    // MESSAGE_TEXT holds 128 characters.
    std::string text = "pg_tandem: table " + table.name + " has moved to " + moved_to;
    if (text.size() > 120) {
        text.resize(120);
        while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0x80) != 0)
            text.pop_back(); // not within a character
        text += "...";
    }
    std::string quoted = "'";
    for (const char c : text) {
        if (c == '\'' || c == '\\')
            quoted.push_back(c);
        quoted.push_back(c);
    }
    quoted += "'";
    return "CREATE DEFINER = CURRENT_USER TRIGGER " + quote_name(connection.database, fence_name(table, event, epoch)) +
           (after ? " AFTER " : " BEFORE ") + event + " ON " + quote_name(connection.database, table.name) +
           " FOR EACH ROW\n"
           "BEGIN\n"
           "  IF " +
           unseen_variable(table) +
           " IS NULL THEN\n"
           "    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = " +
           quoted +
           ";\n"
           "  END IF;\n"
           "END";
}

} // namespace tandem::mysql
