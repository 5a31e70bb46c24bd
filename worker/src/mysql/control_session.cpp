// Questions, capture objects and checks on the old side. Every DDL statement here is idempotent on its own, so a call that was
// interrupted anywhere is completed by calling it again.
#include "mysql/control_session.hpp"

#include "core/error.hpp"
#include "core/table_config.hpp"
#include "mysql/capture_ddl.hpp"
#include "mysql/capture_sight.hpp"
#include "mysql/client.hpp"
#include "mysql/control_client.hpp"
#include "mysql/durable.hpp"
#include "mysql/describe.hpp"
#include "mysql/old_phase.hpp"
#include "mysql/privileges.hpp"
#include "mysql/sql_text.hpp"
#include "mysql/write_marks.hpp"

#include <chrono>
#include <random>

namespace tandem::mysql {
namespace {

constexpr unsigned probe_events = 1000;
constexpr const char *count_limit = "1000000";

std::string random_id() {
    std::random_device random;
    char text[33];
    std::snprintf(text, sizeof text, "%08x%08x%08x%08x", random(), random(), random(), random());
    return text;
}

// DDL may wait for the table this long and no longer: new writers of the application queue up behind it.
class LockTimeout {
  public:
    LockTimeout(ControlClient &client, unsigned timeout_ms) : client_(client) {
        const std::string seconds = std::to_string(std::max(1U, (timeout_ms + 999) / 1000));
        client_.execute("SET SESSION lock_wait_timeout = " + seconds + ", innodb_lock_wait_timeout = " + seconds,
                        "setting the lock timeout");
    }
    ~LockTimeout() {
        try {
            client_.execute("SET SESSION lock_wait_timeout = 10, innodb_lock_wait_timeout = 5", "resetting the lock timeout");
        } catch (const core::Error &) {
            // The session is gone, and its settings with it.
        }
    }
    LockTimeout(const LockTimeout &) = delete;
    LockTimeout &operator=(const LockTimeout &) = delete;

  private:
    ControlClient &client_;
};

// Who makes the first outbox of a metadata database, and who removes the last, of any source: not both at once.
class MetadataLock {
  public:
    MetadataLock(ControlClient &client, const core::SourceConnection &connection)
        : client_(client),
          name_("MD5(" + quote_text("pg_tandem/" + connection.metadata_database) + ")") { // names of locks have 64 characters
        if (client_.query("SELECT GET_LOCK(" + name_ + ", 10)", "locking the metadata database").at(0).at(0).value_or("0") != "1")
            throw core::Error(core::Side::old_side, "55P03", "another tandem-sync has the metadata database locked", true);
    }
    ~MetadataLock() {
        try {
            client_.query("SELECT RELEASE_LOCK(" + name_ + ")", "unlocking the metadata database");
        } catch (const core::Error &) {
            // The session is gone, and its locks with it.
        }
    }
    MetadataLock(const MetadataLock &) = delete;
    MetadataLock &operator=(const MetadataLock &) = delete;

  private:
    ControlClient &client_;
    const std::string name_;
};

constexpr std::array shared_tables{gap_table, "table_phase", "durable_mark", write_mark, server_mark};

} // namespace

struct ControlSession::Impl {
    core::SourceConnection connection;
    ControlClient client;
    CaptureSight sight{client, connection};

    Impl(const core::SourceConnection &source, Database use)
        : connection(source), client(use == Database::named ? source : without(source)) {}

    static core::SourceConnection without(core::SourceConnection source) {
        source.database.clear();
        return source;
    }

    struct ExistingTrigger {
        std::string table, event, timing, statement, sql_mode;
    };

    std::optional<ExistingTrigger> find_trigger(const std::string &name, const std::string &table) {
        const std::string doing = "looking for trigger \"" + name + "\"";
        // With the table's name MySQL 5.6 opens one table's triggers and not those of the whole database.
        const auto rows =
            client.query("SELECT event_object_table, event_manipulation, action_timing, sql_mode FROM"
                         " information_schema.triggers WHERE trigger_schema = " +
                             quote_text(connection.database) + " AND event_object_schema = " + quote_text(connection.database) +
                             " AND event_object_table = " + quote_text(table) + " AND trigger_name = " + quote_text(name),
                         doing);
        if (rows.empty())
            return std::nullopt;
        // The text as it was written: MySQL 5.6 shows names with backticks wrongly in information_schema.
        std::vector<ControlRow> original;
        try {
            original = client.query("SHOW CREATE TRIGGER " + quote_name(connection.database, name), doing);
        } catch (const core::Error &error) {
            if (error.native_code != 1360) // dropped since the query above
                throw;
            return std::nullopt;
        }
        const ControlRow &row = rows[0];
        return ExistingTrigger{row[0].value_or(""), row[1].value_or(""), row[2].value_or(""), original.at(0).at(2).value_or(""),
                               row[3].value_or("")};
    }

    // Empty: as we would create it. Else what is wrong.
    std::string trigger_fault(const core::TableConfig &table, const Trigger &trigger) {
        const auto existing = find_trigger(trigger.name, table.name);
        if (!existing)
            return "trigger \"" + trigger.name + "\" does not exist on table \"" + table.name + "\"";
        if (existing->table != table.name && lower_case_names() == "0")
            return "trigger \"" + trigger.name + "\" is on table \"" + existing->table + "\"";
        if (existing->event != trigger.event || existing->timing != "AFTER" ||
            !existing->statement.ends_with("FOR EACH ROW\n" + trigger.body) || existing->sql_mode != trigger_sql_mode)
            return "trigger \"" + trigger.name + "\" was changed";
        return {};
    }

    const std::string &lower_case_names() {
        if (lower_case_names_.empty())
            lower_case_names_ = client.variable("lower_case_table_names");
        return lower_case_names_;
    }

    bool table_exists(const std::string &database, const std::string &table) {
        return !client
                    .query("SELECT 1 FROM information_schema.tables WHERE table_schema = " + quote_text(database) +
                               " AND table_name = " + quote_text(table),
                           "looking for table \"" + table + "\"")
                    .empty();
    }

    // name, type and collation of every column, one line each
    std::vector<std::string> column_lines(const std::string &database, const std::string &table) {
        std::vector<std::string> lines;
        for (const ControlRow &row :
             client.query("SELECT column_name, column_type, collation_name FROM information_schema.columns WHERE"
                          " table_schema = " +
                              quote_text(database) + " AND table_name = " + quote_text(table) + " ORDER BY ordinal_position",
                          "reading the columns of table \"" + table + "\""))
            lines.push_back(row[0].value_or("") + " " + row[1].value_or("") + " " + row[2].value_or(""));
        return lines;
    }

    std::string outbox_fault(const core::TableConfig &table) {
        const auto lines = column_lines(connection.metadata_database, table.outbox);
        if (lines.empty())
            return "outbox \"" + table.outbox + "\" does not exist";
        const auto key = core::key_columns_of(table);
        bool same = lines.size() == key.size() + 3;
        for (std::size_t i = 0; same && i < key.size(); ++i)
            same = lines[i + 3] == key_column(i) + " " + key[i].mysql_type + " " + key[i].collation;
        return same ? std::string() : "outbox \"" + table.outbox + "\" does not have the key's columns";
    }

    std::string drift(const core::TableConfig &table) {
        const auto lines = column_lines(connection.database, table.name);
        if (lines.empty())
            return "table \"" + table.name + "\" does not exist";
        for (const core::Column &column : table.columns) {
            const std::string line = column.name + " " + column.mysql_type + " " + column.collation;
            if (std::find(lines.begin(), lines.end(), line) == lines.end())
                return "column \"" + column.name + "\" of table \"" + table.name + "\" is no longer " + column.mysql_type +
                       (column.collation.empty() ? "" : " " + column.collation);
        }
        return {};
    }

    void drop_trigger(const std::string &name) {
        client.execute("DROP TRIGGER IF EXISTS " + quote_name(connection.database, name), "dropping trigger \"" + name + "\"");
    }

    void make_trigger(const core::TableConfig &table, const Trigger &trigger) {
        if (trigger_fault(table, trigger).empty())
            return;
        drop_trigger(trigger.name);
        client.execute(std::string("SET SESSION sql_mode = '") + trigger_sql_mode + "'", "pinning sql_mode");
        client.execute("SET NAMES utf8mb4", "pinning the character set");
        const std::string doing = "creating trigger \"" + trigger.name + "\" on table \"" + table.name + "\"";
        try {
            client.execute(create_trigger(connection, table, trigger), doing);
        } catch (const core::Error &error) {
            if (error.native_code != 1235)
                throw;
            core::Error taken(core::Side::old_side, "55000",
                              "table \"" + table.name + "\" already has an AFTER " + trigger.event +
                                  " trigger and this server allows only one",
                              false, "Merge the existing trigger's work elsewhere and drop it, or upgrade to MySQL 5.7 or later.");
            taken.native_code = 1235;
            throw taken;
        }
    }

  private:
    std::string lower_case_names_;
};

ControlSession::ControlSession(const core::SourceConnection &connection, Database use) : impl_(std::make_unique<Impl>(connection, use)) {}
ControlSession::~ControlSession() = default;

nlohmann::json ControlSession::server_facts() { return describe_server(impl_->client); }

std::vector<nlohmann::json> ControlSession::describe(const std::vector<std::string> &tables, const std::string &pattern) {
    ControlClient &client = impl_->client;
    const std::string &database = impl_->connection.database;
    const ServerVersion version = server_version(client);
    nlohmann::json missing = nlohmann::json::array();
    for (const PrivilegeCheck &check : check_privileges(client, impl_->connection))
        if (check.required && !check.ok && std::find(missing.begin(), missing.end(), check.statement) == missing.end())
            missing.push_back(check.statement);
    std::vector<nlohmann::json> answers;
    for (const std::string &table : find_tables(client, database, tables, pattern)) {
        if (database == impl_->connection.metadata_database)
            break; // our own tables are never moved
        nlohmann::json answer = describe_table(client, version, database, table);
        if (answer.is_null())
            continue;
        answer["missing_privileges"] = missing;
        answers.push_back(std::move(answer));
    }
    return answers;
}

void ControlSession::install_capture(const core::TableConfig &table, unsigned lock_timeout_ms) {
    ControlClient &client = impl_->client;
    const LockTimeout timeout(client, lock_timeout_ms);
    const MetadataLock lock(client, impl_->connection);
    const std::string doing = "creating the outbox of table \"" + table.name + "\"";
    client.execute(create_metadata_database(impl_->connection), "creating the metadata database on the old side");
    client.execute(create_gap_table(impl_->connection), "creating the gap table on the old side");
    client.execute(create_phase_table(impl_->connection), "creating the table of phases on the old side");
    client.execute(create_durable_mark(impl_->connection), "creating the table of durable marks on the old side");
    client.execute(create_write_mark(impl_->connection), "creating the table of written transactions on the old side");
    client.execute(create_server_mark(impl_->connection), "marking the old server");
    client.execute(set_server_mark(impl_->connection, random_id()), "marking the old server");

    const std::string outbox = quote_name(impl_->connection.metadata_database, table.outbox);
    if (impl_->table_exists(impl_->connection.metadata_database, table.outbox)) {
        const std::string fault = impl_->outbox_fault(table);
        if (!fault.empty()) {
            // Events in it could not be told apart from ours any more: only an empty one may be replaced.
            if (!client.query("SELECT 1 FROM " + outbox + " LIMIT 1", doing).empty())
                throw core::Error(core::Side::old_side, "55000", fault + " and still holds events", false,
                                  "The key of the table changed. Drop the table with tandem.drop_table and add it again.");
            client.execute("DROP TABLE " + outbox, doing);
        }
    }
    try {
        client.execute(create_outbox(impl_->connection, table), doing);
    } catch (const core::Error &error) {
        if (error.native_code != 1291) // a duplicated label; without strict mode the old table could be made all the same
            throw;
        throw core::Error(core::Side::old_side, "0A000",
                          "the key of table \"" + table.name + "\" has labels that are equal for their collation: " + error.what(), false,
                          "Change the type of the column so that its labels differ.");
    }
    if (table.has_triggers)
        for (const Trigger &trigger : triggers(impl_->connection, table))
            impl_->make_trigger(table, trigger);
}

std::vector<std::string> ControlSession::remove_capture(const core::TableConfig &table, unsigned lock_timeout_ms) {
    ControlClient &client = impl_->client;
    const LockTimeout timeout(client, lock_timeout_ms);
    const MetadataLock lock(client, impl_->connection);
    // Triggers first: without the outbox they would only record gaps.
    for (const Trigger &trigger : triggers(impl_->connection, table))
        impl_->drop_trigger(trigger.name);
    client.execute("DROP TABLE IF EXISTS " + quote_name(impl_->connection.metadata_database, table.outbox),
                   "dropping the outbox of table \"" + table.name + "\"");
    if (impl_->table_exists(impl_->connection.metadata_database, gap_table))
        clear_gaps(table);
    if (impl_->table_exists(impl_->connection.metadata_database, "table_phase"))
        client.execute(forget_phase(impl_->connection, table), "forgetting the phase of table \"" + table.name + "\"");
    std::vector<std::string> dropped;
    const std::string schema = quote_text(impl_->connection.metadata_database);
    if (!client
             .query("SELECT 1 FROM information_schema.tables WHERE table_schema = " + schema +
                        " AND LOCATE('_outbox_', table_name) > 0 LIMIT 1",
                    "looking for other outboxes")
             .empty())
        return dropped;
    for (const char *name : shared_tables)
        if (impl_->table_exists(impl_->connection.metadata_database, name)) {
            client.execute("DROP TABLE IF EXISTS " + quote_name(impl_->connection.metadata_database, name),
                           std::string("dropping table ") + name + " of the metadata database");
            dropped.emplace_back(name);
        }
    return dropped;
}

void ControlSession::clear_gaps(const core::TableConfig &table) {
    impl_->client.execute("DELETE FROM " + quote_name(impl_->connection.metadata_database, gap_table) +
                              " WHERE outbox = " + quote_text(table.outbox),
                          "clearing the gaps of table \"" + table.name + "\"");
}

CaptureStatus ControlSession::check_capture(const core::TableConfig &table) {
    CaptureStatus status;
    std::vector<std::string> faults;
    const auto note = [&](std::string fault) {
        if (!fault.empty())
            faults.push_back(std::move(fault));
    };
    note(impl_->outbox_fault(table));
    if (table.has_triggers)
        for (const Trigger &trigger : triggers(impl_->connection, table))
            note(impl_->trigger_fault(table, trigger));
    if (impl_->table_exists(impl_->connection.metadata_database, gap_table)) {
        const auto rows =
            impl_->client.query("SELECT COUNT(*) FROM (SELECT 1 FROM " + quote_name(impl_->connection.metadata_database, gap_table) +
                                    " WHERE outbox = " + quote_text(table.outbox) + " LIMIT " + count_limit + ") g",
                                "counting the gaps of table \"" + table.name + "\"");
        status.gaps = std::stoull(rows.at(0).at(0).value_or("0"));
    } else {
        note(std::string("table \"") + gap_table + "\" does not exist");
    }
    status.drift = impl_->drift(table);
    status.missing = join(faults, "; ");
    status.complete = faults.empty();
    return status;
}

core::SeenSource ControlSession::look(const std::vector<const core::TableConfig *> &tables, bool everywhere) {
    return impl_->sight.look(tables, everywhere);
}

core::SeenSource ControlSession::look_under_lock(const std::vector<const core::TableConfig *> &tables, Client &holder) {
    return impl_->sight.look(tables, false, [&](const std::string &sql) {
        std::vector<ControlRow> rows;
        for (const auto &row : holder.rows(sql, "looking at the locked tables")) {
            ControlRow &fields = rows.emplace_back();
            for (const std::string &field : row)
                fields.push_back(field.empty() ? std::nullopt : std::optional(field));
        }
        return rows;
    });
}

double ControlSession::measure_capture_cost(const core::TableConfig &table) {
    ControlClient &client = impl_->client;
    const std::string doing = "measuring the cost of capture for table \"" + table.name + "\"";
    const std::string outbox = quote_name(impl_->connection.metadata_database, table.outbox);
    const auto insert_us = [&](unsigned events) {
        const std::string sql = "INSERT INTO " + outbox + " (tandem_removes) VALUES " + join(std::vector<std::string>(events, "(0)"), ", ");
        const auto start = std::chrono::steady_clock::now();
        client.execute(sql, doing);
        return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
    };
    // One statement of one row and one of many: the difference is the rows' own cost. Rolled back, so nobody ever reads these events.
    client.execute("START TRANSACTION", doing);
    double cost;
    try {
        insert_us(1);
        const double one = insert_us(1);
        cost = (insert_us(probe_events + 1) - one) / probe_events;
    } catch (...) {
        try {
            client.execute("ROLLBACK", doing);
        } catch (const core::Error &) {
            // The session is gone; the server rolls back by itself.
        }
        throw;
    }
    client.execute("ROLLBACK", doing);
    return std::max(0.0, cost);
}

std::vector<ControlSession::Grant> ControlSession::check_grants() {
    std::vector<Grant> grants;
    for (PrivilegeCheck &check : check_privileges(impl_->client, impl_->connection))
        grants.push_back({check.privilege, check.statement, check.purpose, check.required, check.ok, check.error});
    return grants;
}

} // namespace tandem::mysql
