#include "mysql/old_load.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cstdlib>

namespace tandem::mysql {
namespace {

std::int64_t number_of(const std::string &text) { return std::strtoll(text.c_str(), nullptr, 10); }

} // namespace

OldSideLoad LoadReader::read(Client &client) {
    OldSideLoad load;
    const auto named_value = [&](const std::string &sql, std::size_t value = 1) {
        const auto row = client.one_row(sql, "reading the load of the old side");
        return row.size() > value ? row[value] : std::string();
    };
    const auto attempt = [&](const char *what, const auto &read) {
        try {
            read();
        } catch (const core::SessionLost &) {
            throw;
        } catch (const core::Error &error) {
            load.unreadable += (load.unreadable.empty() ? "" : "; ") + std::string(what) + ": " + error.what();
        }
    };
    attempt("threads running", [&] {
        const std::string value = named_value("SHOW GLOBAL STATUS LIKE 'Threads_running'");
        if (value.empty())
            return;
        // Everybody sees the threads of his own account, this look among them.
        const std::string own = named_value("SELECT COUNT(*) FROM information_schema.processlist WHERE command <> 'Sleep' AND user = "
                                            "LEFT(USER(), CHAR_LENGTH(USER()) - LOCATE('@', REVERSE(USER())))",
                                            0);
        load.threads_running = std::max(0.0, static_cast<double>(number_of(value) - number_of(own)));
    });
    attempt("history list length", [&] {
        if (history_in_status_) {
            const std::string value = named_value("SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'");
            history_in_status_ = !value.empty();
            if (!value.empty())
                load.history_list = number_of(value);
        }
        if (!history_in_status_) {
            const std::string value =
                named_value("SELECT count FROM information_schema.innodb_metrics WHERE name = 'trx_rseg_history_len'", 0);
            if (!value.empty())
                load.history_list = number_of(value);
        }
    });
    attempt("replica lag", [&] { load.replica_lag_s = client.replica_lag(); });
    return load;
}

} // namespace tandem::mysql
