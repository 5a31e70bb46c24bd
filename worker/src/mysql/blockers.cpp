#include "mysql/blockers.hpp"

#include "core/error.hpp"
#include "mysql/client.hpp"
#include "mysql/sql_text.hpp"

namespace tandem::mysql {

std::vector<EndedSession> end_blockers(Client &client, const core::SourceConnection &connection, const std::vector<std::string> &users,
                                       bool idle) {
    std::vector<std::string> names;
    for (const std::string &user : users)
        names.push_back(quote_text(user));
    std::string busy = "t.trx_started < NOW() - INTERVAL 1 SECOND OR (p.command <> 'Sleep' AND p.time >= 1)";
    if (idle)
        busy += " OR (p.command = 'Sleep' AND p.db = " + quote_text(connection.database) + ")";
    const auto found =
        client.rows("SELECT p.id, p.user, p.host FROM information_schema.processlist p"
                    " LEFT JOIN information_schema.innodb_trx t ON t.trx_mysql_thread_id = p.id WHERE p.user IN (" +
                        join(names, ", ") + ") AND p.id <> CONNECTION_ID() AND COALESCE(p.state, '') NOT LIKE 'Waiting for%' AND (" + busy +
                        ") ORDER BY p.id",
                    "looking for sessions that hold the tables");
    std::vector<EndedSession> ended;
    for (const auto &row : found) {
        EndedSession session{row.at(0), row.at(1), row.at(2), {}};
        try {
            client.execute("KILL " + session.id, "ending a session that holds the tables");
        } catch (const core::SessionLost &) {
            throw;
        } catch (const core::Error &error) {
            if (error.native_code == 1094) // it has ended by itself
                continue;
            session.trouble = error.what();
        }
        ended.push_back(std::move(session));
    }
    return ended;
}

} // namespace tandem::mysql
