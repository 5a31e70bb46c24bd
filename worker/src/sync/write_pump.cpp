#include "sync/write_pump.hpp"

#include "core/error.hpp"
#include "core/hex.hpp"
#include "log.hpp"
#include "sync/failpoint.hpp"
#include "sync/serve_loop.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

namespace tandem::sync {

using core::Error;
using nlohmann::json;

namespace {

constexpr Millis shortest_pause{2}, longest_pause{100}; // an idle source costs ten small queries in a second
constexpr Millis keep_alive{30000};
constexpr std::size_t rows_together = 64; // their locks are held on the old side until the last of them is written

} // namespace

// The writes of one transaction of PostgreSQL, in its order.
struct WritePump::Group {
    struct Write {
        std::string id;
        int table_id = 0;
        mysql::RowWrite row;
    };
    std::string transaction, token;
    std::vector<Write> writes;
};

WritePump::WritePump(std::string conninfo, std::string holder, core::SourceConnection connection, std::shared_ptr<const Lease> lease)
    : conninfo_(std::move(conninfo)), holder_(std::move(holder)), connection_(std::move(connection)), lease_(std::move(lease)),
      thread_([this] { run(); }) {}

WritePump::~WritePump() {
    stop_.request();
    thread_.join();
}

void WritePump::run() {
    serve_while_leading(
        "writing to the old side", connection_.name, stop_, *lease_, [this] { serve(); },
        [this] {
            api_.reset();
            writer_.reset();
            tables_.clear();
        });
}

void WritePump::serve() {
    api_ = std::make_unique<postgres::WorkerApi>(conninfo_, "writes " + connection_.name, holder_,
                                                 [this] { return stop_.requested() || !lease_->held(); });
    // Commits of this session wait for the log, whatever the settings of its role and database say.
    api_->session().run("SET synchronous_commit = on");
    Clock::time_point pinged = Clock::now();
    Millis pause = shortest_pause;
    while (!stop_.requested() && lease_->held()) {
        if (write_groups()) {
            pause = shortest_pause;
            pinged = Clock::now();
            continue;
        }
        if (writer_ && Clock::now() - pinged > keep_alive) {
            writer_->ping();
            pinged = Clock::now();
        }
        stop_.wait_for(pause);
        pause = std::min(longest_pause, pause * 2);
    }
}

std::vector<WritePump::Group> WritePump::read_groups() {
    const auto rows = api_->session().query(
        "SELECT transaction, token, write_id, table_id, key, before, after, overwrite FROM tandem.write_groups($1, $2)",
        {std::to_string(connection_.source_id), std::to_string(lease_->epoch())});
    const auto image = [&](int row, int column) {
        return rows.is_null(row, column) ? std::nullopt : std::optional(core::unhex(rows.text(row, column)));
    };
    std::vector<Group> groups;
    for (int row = 0; row < rows.rows(); ++row) {
        const std::string transaction = rows.text(row, 0);
        if (groups.empty() || groups.back().transaction != transaction)
            groups.push_back({transaction, rows.text(row, 1), {}});
        mysql::RowWrite write{core::unhex(rows.text(row, 4)), image(row, 6)};
        if (rows.text(row, 7) != "t")
            write.expected = mysql::Expected{image(row, 5)};
        groups.back().writes.push_back({rows.text(row, 2), static_cast<int>(rows.number(row, 3)), std::move(write)});
    }
    return groups;
}

std::vector<bool> WritePump::known_columns(int table_id) {
    const auto known = api_->session().query("SELECT tandem.write_known($1)", {std::to_string(table_id)});
    return known.is_null(0, 0) ? std::vector<bool>() : json::parse(known.text(0, 0)).get<std::vector<bool>>();
}

// An epoch is taken for each before anything of it is read to be written.
void WritePump::take_tables(const std::set<int> &table_ids) {
    if (!writer_) {
        writer_ = std::make_unique<mysql::RowWriter>(connection_,
                                                     mysql::WriteOptions{.unseen = false, .check_foreign_keys = true, .together = true});
        writer_->prepare_marks();
    }
    for (core::TableConfig &config : api_->tables(connection_.source_id)) {
        if (!table_ids.contains(config.table_id))
            continue;
        Table &table = tables_[config.table_id];
        table.known = known_columns(config.table_id);
        table.config = std::move(config);
        table.epoch = writer_->bump_epoch(table.config);
    }
    for (const int id : table_ids)
        if (!tables_.contains(id))
            throw Error(core::Side::new_side, "42704",
                        "table " + std::to_string(id) + " has writes for the old side and is not known to the worker", true);
}

bool WritePump::write_groups() {
    std::vector<Group> groups = read_groups();
    if (groups.empty())
        return false;
    std::set<int> tables, unknown;
    for (const Group &group : groups)
        for (const Group::Write &write : group.writes)
            tables.insert(write.table_id);
    for (const int id : tables) // a column that was added or left out changes the images
        if (const auto found = tables_.find(id); found == tables_.end() || found->second.known != known_columns(id))
            unknown.insert(id);
    if (!unknown.empty()) {
        take_tables(unknown);
        return true; // what was read before the epoch does not count
    }
    failpoint("writes:after_read");
    // make_durable: with synchronous_commit = off a commit is seen before it is on disk, and a crash takes it back. The old side must not have it then.
    api_->session().query("SELECT pg_catalog.pg_logical_emit_message(true, 'pg_tandem', '')"
                          " WHERE pg_catalog.pg_current_wal_insert_lsn() > pg_catalog.pg_current_wal_flush_lsn()");
    const Group *const end = groups.data() + groups.size();
    for (const Group *next = groups.data(); next != end;) {
        std::size_t rows = 0;
        const Group *some = next;
        while (some != end && (some == next || rows + some->writes.size() <= rows_together))
            rows += (some++)->writes.size();
        if (some - next > 1 && write_together(next, some)) {
            next = some;
        } else {
            for (; next != some; ++next)
                if (stop_.requested() || !lease_->held() || !write(*next))
                    return true;
        }
        if (stop_.requested() || !lease_->held())
            break;
    }
    return true;
}

// One entry for each row keeps the order of the transaction, which foreign keys need.
mysql::MarkedWrites WritePump::writes_of(const Group &group) {
    mysql::MarkedWrites writes{{}, group.token};
    for (const Group::Write &write : group.writes) {
        const Table &table = tables_.at(write.table_id);
        writes.tables.push_back({&table.config, table.epoch, table.known, {write.row}});
    }
    return writes;
}

// Transactions that nothing speaks against cost one commit on each side (model G: Worker, second).
bool WritePump::write_together(const Group *first, const Group *end) {
    std::vector<mysql::MarkedWrites> writes;
    std::vector<std::string> transactions, tokens;
    for (const Group *group = first; group != end; ++group) {
        writes.push_back(writes_of(*group));
        transactions.push_back(group->transaction);
        tokens.push_back(group->token);
    }
    if (!writer_->write_together(writes))
        return false;
    failpoint("writes:after_write");
    acknowledge(transactions, tokens);
    return true;
}

void WritePump::acknowledge(const std::vector<std::string> &transactions, const std::vector<std::string> &tokens) {
    std::string list = "{";
    for (const std::string &transaction : transactions)
        list += (list.size() > 1 ? "," : "") + transaction;
    api_->session().query(
        "SELECT tandem.write_done($1, $2, t, NULL) FROM pg_catalog.unnest($3::pg_catalog.text[]) WITH ORDINALITY AS u (t, n) ORDER BY n",
        {std::to_string(connection_.source_id), std::to_string(lease_->epoch()), list + "}"});
    failpoint("writes:after_done");
    writer_->forget_marks(tokens);
}

// A row that is refused is refused for good: its writer must look at it. Anything else (a lock, a table that is away, a right that is missing) is no
// matter of the row; giving up what waits behind it would lose writes that the next minute takes.
bool WritePump::write(const Group &group) {
    const std::vector<mysql::TableWrites> writes = writes_of(group).tables;
    json refusal = nullptr;
    try {
        const std::vector<mysql::RowRefusal> refused = writer_->write_once(writes, group.token);
        if (!refused.empty())
            refusal = {{"write_id", group.writes[refused.front().table].id},
                       {"sqlstate", refused.front().sqlstate},
                       {"message", refused.front().message},
                       {"may_pass", false},
                       {"conflict", refused.front().conflict}};
    } catch (const core::SessionLost &) {
        throw;
    } catch (const Error &error) {
        if (error.sqlstate() == "55000") // another writer took the epoch
            throw;
        refusal = {{"write_id", group.writes.front().id},
                   {"sqlstate", error.sqlstate()},
                   {"message", error.what()},
                   {"may_pass", true},
                   {"conflict", false}};
    }
    failpoint("writes:after_write");
    if (refusal.is_null()) {
        acknowledge({group.transaction}, {group.token});
        return true;
    }
    log::warning("transaction not taken by the old side", {{"source", connection_.name},
                                                           {"transaction", group.transaction},
                                                           {"write_id", refusal.at("write_id").get<std::string>()},
                                                           {"sqlstate", refusal.at("sqlstate").get<std::string>()},
                                                           {"error", refusal.at("message").get<std::string>()}});
    api_->session().query("SELECT tandem.write_done($1, $2, $3, $4)",
                          {std::to_string(connection_.source_id), std::to_string(lease_->epoch()), group.transaction,
                           refusal.dump(-1, ' ', false, json::error_handler_t::replace)});
    failpoint("writes:after_done");
    return !refusal.at("may_pass").get<bool>();
}

} // namespace tandem::sync
