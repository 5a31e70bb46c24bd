#include "mysql/durable.hpp"

#include "core/error.hpp"
#include "mysql/client.hpp"
#include "mysql/sql_text.hpp"

#include <mysql/mysqld_error.h>

namespace tandem::mysql {
namespace {

constexpr const char *durable_mark = "durable_mark";
constexpr const char *doing = "waiting until what was read is on the old side's disk";

} // namespace

std::string create_durable_mark(const core::SourceConnection &connection) {
    return "CREATE TABLE IF NOT EXISTS " + quote_name(connection.metadata_database, durable_mark) +
           " (\n"
           "  session BIGINT UNSIGNED NOT NULL PRIMARY KEY,\n"
           "  count BIGINT UNSIGNED NOT NULL\n"
           ") ENGINE=InnoDB COMMENT='pg_tandem: commits that wait for the log'";
}

void DurableMark::make_durable(Client &client, const core::SourceConnection &connection) {
    const std::string mark = "REPLACE INTO " + quote_name(connection.metadata_database, durable_mark) + " VALUES (" +
                             std::to_string(client.id()) + ", " + std::to_string(++count_) + ")";
    try {
        client.execute(mark, doing);
    } catch (const core::Error &error) {
        if (error.native_code != ER_NO_SUCH_TABLE)
            throw;
        client.execute(create_durable_mark(connection), doing);
        client.execute(mark, doing);
    }
    // Rows of sessions that are gone. One that is there writes its row again.
    if (count_ == 1)
        client.execute("DELETE FROM " + quote_name(connection.metadata_database, durable_mark) + " WHERE session <> " +
                           std::to_string(client.id()),
                       doing);
}

} // namespace tandem::mysql
