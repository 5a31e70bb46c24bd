#include "mysql/write_marks.hpp"

#include "mysql/client.hpp"
#include "mysql/sql_text.hpp"

namespace tandem::mysql {
namespace {

std::string name_of(const core::SourceConnection &connection) { return quote_name(connection.metadata_database, write_mark); }

// "a", "b" with `before` and `behind` around each.
std::string listed(const std::vector<std::string> &marks, const char *before, const char *behind) {
    std::string list;
    for (const std::string &mark : marks)
        list += (list.empty() ? "" : ", ") + (before + quote_text(mark) + behind);
    return list;
}

} // namespace

std::string create_write_mark(const core::SourceConnection &connection) {
    return "CREATE TABLE IF NOT EXISTS " + name_of(connection) +
           " (\n"
           "  token CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,\n"
           "  at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP\n"
           ") ENGINE=InnoDB COMMENT='pg_tandem: transactions of PostgreSQL that were written here and are not acknowledged yet'";
}

std::set<std::string> find_marks(Client &client, const core::SourceConnection &connection, const std::vector<std::string> &marks) {
    std::set<std::string> found;
    for (const auto &row :
         client.rows("SELECT token FROM " + name_of(connection) + " WHERE token IN (" + listed(marks, "", "") + ")", "looking for marks"))
        found.insert(row.at(0));
    return found;
}

void make_marks(Client &client, const core::SourceConnection &connection, const std::vector<std::string> &marks) {
    client.execute("INSERT INTO " + name_of(connection) + " (token) VALUES " + listed(marks, "(", ")"), "marking transactions as written");
}

void forget_marks(Client &client, const core::SourceConnection &connection, const std::vector<std::string> &marks) {
    client.execute("DELETE FROM " + name_of(connection) + " WHERE token IN (" + listed(marks, "", "") + ")", "forgetting marks");
}

} // namespace tandem::mysql
