#include "mysql/old_fence.hpp"

#include "core/error.hpp"
#include "mysql/sql_text.hpp"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace tandem::mysql {
namespace {

// Ends a statement of another session after a time. lock_wait_timeout counts whole seconds, which is too long for a pause. Its own session
// is open before the clock starts.
class Watchdog {
  public:
    Watchdog(const core::SourceConnection &connection, unsigned long session, std::chrono::milliseconds after)
        : killer_(connection), thread_([this, session, after] {
              std::unique_lock lock(mutex_);
              if (done_.wait_for(lock, after, [this] { return over_; }))
                  return;
              fired_ = true;
              lock.unlock();
              try {
                  killer_.execute("KILL QUERY " + std::to_string(session), "ending the wait for a lock");
              } catch (const core::Error &) {
                  // lock_wait_timeout ends it a little later.
              }
          }) {}
    ~Watchdog() { stop(); }
    Watchdog(const Watchdog &) = delete;
    Watchdog &operator=(const Watchdog &) = delete;

    // True: the statement may have been, or may still be, told to end.
    bool stop() {
        {
            const std::lock_guard lock(mutex_);
            over_ = true;
        }
        done_.notify_all();
        if (thread_.joinable())
            thread_.join();
        return fired_;
    }

  private:
    Client killer_;
    std::mutex mutex_;
    std::condition_variable done_;
    bool over_ = false, fired_ = false;
    std::thread thread_; // last
};

std::string lock_list(const core::SourceConnection &connection, const Tables &tables) {
    // An alias of the pump's statements is a lock of its own.
    std::vector<std::string> parts;
    for (const core::TableConfig *table : tables) {
        const std::string name = quote_name(connection.database, table->name);
        parts.push_back(name + " WRITE");
        parts.push_back(name + " AS " + child_alias(table->table_id) + " WRITE");
        parts.push_back(quote_name(connection.metadata_database, table->outbox) + " WRITE");
    }
    return join(parts, ", ");
}

void create_capture(Client &client, const core::SourceConnection &connection, const core::TableConfig &table, const std::string &event) {
    for (const Trigger &trigger : triggers(connection, table))
        if (trigger.event == event)
            client.execute(create_trigger(connection, table, trigger), "creating trigger \"" + trigger.name + "\"");
}

} // namespace

TriggerMode::TriggerMode(Client &client) : client_(client), mode_(client.one_row("SELECT @@SESSION.sql_mode", "reading sql_mode").at(0)) {
    client_.execute(std::string("SET SESSION sql_mode = '") + trigger_sql_mode + "'", "pinning sql_mode");
}

TriggerMode::~TriggerMode() {
    try {
        client_.execute("SET SESSION sql_mode = '" + mode_ + "'", "setting sql_mode back");
    } catch (const core::Error &) {
        // The session is gone, and its mode with it.
    }
}

bool lock_tables(Client &client, const core::SourceConnection &connection, const Tables &tables, std::chrono::milliseconds most) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(most).count() + 1;
    client.execute("SET SESSION lock_wait_timeout = " + std::to_string(seconds), "setting the lock timeout");
    bool got = false;
    std::string reason;
    {
        Watchdog watchdog(connection, client.id(), most);
        try {
            client.execute("LOCK TABLES " + lock_list(connection, tables), "locking the old tables");
            got = true;
        } catch (const core::SessionLost &) {
            throw;
        } catch (const core::Error &error) {
            if (!error.retryable())
                throw;
        }
        if (watchdog.stop()) {
            // The kill may reach the session after the statement has ended: let it hit this.
            for (int i = 0; i < 2; ++i) {
                try {
                    client.execute("DO SLEEP(0.002)", "clearing an interruption");
                } catch (const core::SessionLost &) {
                    throw;
                } catch (const core::Error &) {
                    continue;
                }
            }
        }
    }
    client.execute("SET SESSION lock_wait_timeout = 10", "resetting the lock timeout");
    return got;
}

void unlock_tables(Client &client) { client.execute("UNLOCK TABLES", "unlocking the old tables"); }

std::vector<Fence> find_fences(Client &client, const core::SourceConnection &connection, const Tables &tables) {
    std::vector<Fence> found;
    for (const core::TableConfig *table : tables) {
        const auto rows =
            client.rows("SELECT trigger_name, action_timing, event_object_table FROM information_schema.triggers"
                        " WHERE trigger_schema = " +
                            quote_text(connection.database) + " AND event_object_schema = " + quote_text(connection.database) +
                            " AND event_object_table = " + quote_text(table->name),
                        "looking for fences");
        for (const auto &row : rows) {
            auto fence = parse_fence_name(row.at(0));
            if (!fence || fence->suffix != table->trigger_suffix)
                continue;
            fence->after = row.at(1) == "AFTER";
            fence->table = row.at(2);
            found.push_back(*fence);
        }
    }
    return found;
}

std::vector<std::string> taken_events(Client &client, const core::SourceConnection &connection, const core::TableConfig &table) {
    const std::string version = client.one_row("SELECT VERSION()", "asking for the version").at(0);
    // MySQL before 5.7.2 and MariaDB before 10.2.3 allow one trigger for each timing and event.
    int major = 0, minor = 0, patch = 0;
    std::sscanf(version.c_str(), "%d.%d.%d", &major, &minor, &patch);
    const bool maria = version.find("MariaDB") != std::string::npos;
    const int number = major * 10000 + minor * 100 + patch;
    if (number >= (maria ? 100203 : 50702))
        return {};
    std::vector<std::string> taken;
    for (const auto &row :
         client.rows("SELECT event_manipulation, trigger_name FROM information_schema.triggers WHERE trigger_schema = " +
                         quote_text(connection.database) + " AND event_object_schema = " + quote_text(connection.database) +
                         " AND event_object_table = " + quote_text(table.name) + " AND action_timing = 'BEFORE'",
                     "looking for triggers of table \"" + table.name + "\""))
        if (!parse_fence_name(row.at(1)))
            taken.push_back(row.at(0));
    return taken;
}

void make_fence(const TriggerMode &mode, const core::SourceConnection &connection, const core::TableConfig &table, std::uint64_t epoch,
                const std::vector<std::string> &taken, const std::string &moved_to, const std::vector<Fence> &there) {
    Client &client = mode.client();
    for (const std::string event : fence_events) {
        if (std::ranges::any_of(there, [&](const Fence &fence) { return fence.event == event && fence.suffix == table.trigger_suffix; }))
            continue;
        const bool after = std::ranges::find(taken, event) != taken.end();
        const std::string doing = "fencing table \"" + table.name + "\"";
        if (after)
            for (const Trigger &trigger : triggers(connection, table))
                if (trigger.event == event)
                    client.execute("DROP TRIGGER IF EXISTS " + quote_name(connection.database, trigger.name), doing);
        client.execute(create_fence(connection, table, event, epoch, after, moved_to), doing);
    }
}

void drop_fences(Client &client, const core::SourceConnection &connection, const core::TableConfig &table, const std::vector<Fence> &fences,
                 bool locked) {
    const bool replaces_capture = std::ranges::any_of(fences, [](const Fence &fence) { return fence.after; });
    const bool lock = replaces_capture && !locked;
    if (lock && !lock_tables(client, connection, {&table}, std::chrono::milliseconds(1500)))
        throw core::Error(core::Side::old_side, "55P03", "table \"" + table.name + "\" could not be locked to take its fence away", true,
                          "It is tried again.");
    try {
        const TriggerMode mode(client);
        for (const Fence &fence : fences) {
            client.execute("DROP TRIGGER IF EXISTS " + quote_name(connection.database, fence.name),
                           "dropping fence \"" + fence.name + "\"");
            if (fence.after)
                create_capture(client, connection, table, fence.event);
        }
    } catch (const core::SessionLost &) {
        throw;
    } catch (const core::Error &) {
        if (lock)
            unlock_tables(client);
        throw;
    }
    if (lock)
        unlock_tables(client);
}

std::string auto_increment_column(Client &client, const core::SourceConnection &connection, const core::TableConfig &table) {
    const auto column =
        client.one_row("SELECT column_name FROM information_schema.columns WHERE table_schema = " + quote_text(connection.database) +
                           " AND table_name = " + quote_text(table.name) + " AND extra LIKE '%auto_increment%'",
                       "looking for the numbered column of table \"" + table.name + "\"");
    return column.empty() ? std::string() : column[0];
}

std::uint64_t next_auto_increment(Client &client, const core::SourceConnection &connection, const core::TableConfig &table) {
    const auto next =
        client.one_row("SELECT auto_increment FROM information_schema.tables WHERE table_schema = " + quote_text(connection.database) +
                           " AND table_name = " + quote_text(table.name),
                       "reading the next number of table \"" + table.name + "\"");
    return next.empty() || next[0].empty() ? 0 : std::stoull(next[0]);
}

} // namespace tandem::mysql
