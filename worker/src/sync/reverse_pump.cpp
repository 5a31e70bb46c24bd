#include "sync/reverse_pump.hpp"

#include "core/error.hpp"
#include "core/hex.hpp"
#include "core/table_config.hpp"
#include "log.hpp"
#include "sync/failpoint.hpp"
#include "sync/serve_loop.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tandem::sync {

using core::Error;
using nlohmann::json;

namespace {

constexpr int events_in_batch = 1000;
constexpr Millis look_for_tables{500};
constexpr Millis shortest_pause{2}, longest_pause{20}; // a rollback waits for the last change

std::string text_array(const std::vector<std::string> &hex) {
    std::string text = "{";
    for (const std::string &one : hex)
        text += (text.size() > 1 ? "," : "") + one;
    return text + "}";
}

// The events of one table in one snapshot, and what becomes of them.
struct Part {
    std::vector<std::string> keys; // hexadecimal, distinct
    std::set<std::string> seen;
    double age_ms = -1;
    json taken = json::array();
    json refused = json::array();
    std::vector<std::string> written; // key of each row given to the writer
};

json refusal(const std::string &key, const std::string &sqlstate, const std::string &message, bool may_pass) {
    return {{"key", key}, {"sqlstate", sqlstate}, {"message", message}, {"may_pass", may_pass}};
}

} // namespace

ReversePump::ReversePump(std::string conninfo, std::string holder, core::SourceConnection connection, std::shared_ptr<const Lease> lease)
    : conninfo_(std::move(conninfo)), holder_(std::move(holder)), connection_(std::move(connection)), lease_(std::move(lease)),
      thread_([this] { run(); }) {}

ReversePump::~ReversePump() {
    stop_.request();
    thread_.join();
}

void ReversePump::run() {
    serve_while_leading(
        "reverse sync", connection_.name, stop_, *lease_, [this] { serve(); },
        [this] {
            api_.reset();
            writer_.reset();
            tables_.clear();
        });
}

void ReversePump::serve() {
    api_ = std::make_unique<postgres::WorkerApi>(conninfo_, "reverse " + connection_.name, holder_,
                                                 [this] { return stop_.requested() || !lease_->held(); });
    // Commits of this session wait for the log, whatever the settings of its role and database say.
    api_->session().run("SET synchronous_commit = on");
    Clock::time_point looked{};
    Clock::time_point pinged = Clock::now();
    Millis pause = shortest_pause;
    while (!stop_.requested() && lease_->held()) {
        if (look_.exchange(false) || Clock::now() - looked >= look_for_tables) {
            looked = Clock::now();
            follow();
        }
        if (tables_.empty()) {
            for (int slice = 0; slice < 10 && !look_ && !stop_.requested(); ++slice)
                stop_.wait_for(Millis(20));
            continue;
        }
        if (write_batch()) {
            pause = shortest_pause;
            pinged = Clock::now();
            continue;
        }
        if (Clock::now() - pinged > Millis(30000)) {
            writer_->ping();
            pinged = Clock::now();
        }
        stop_.wait_for(pause);
        pause = std::min(longest_pause, pause * 2);
    }
}

// Which tables go back now. An epoch is taken for each before anything of it is read.
void ReversePump::follow() {
    const auto result = api_->session().query("SELECT tandem.reverse_tables($1, $2)",
                                              {std::to_string(connection_.source_id), std::to_string(lease_->epoch())});
    std::map<int, std::vector<bool>> wanted;
    for (const json &table : json::parse(result.text(0, 0)))
        wanted[table.at("table_id").get<int>()] = table.at("known").get<std::vector<bool>>();
    std::erase_if(tables_, [&](const auto &entry) { return !wanted.contains(entry.first); });
    const bool changed = std::ranges::any_of(wanted, [&](const auto &entry) {
        const auto known = tables_.find(entry.first);
        return known == tables_.end() || known->second.known != entry.second;
    });
    if (changed) {
        if (!writer_)
            writer_ = std::make_unique<mysql::RowWriter>(connection_, mysql::WriteOptions{});
        for (core::TableConfig &config : api_->tables(connection_.source_id)) {
            const auto found = wanted.find(config.table_id);
            if (found == wanted.end())
                continue;
            Table &table = tables_[config.table_id];
            const bool taken = table.epoch != 0;
            table.config = std::move(config);
            table.known = found->second;
            if (!taken)
                table.epoch = writer_->bump_epoch(table.config);
        }
    }
}

bool ReversePump::write_batch() {
    postgres::Session &session = api_->session();
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    // Refused in this very snapshot if somebody else leads.
    session.query("SELECT tandem.reverse_tables($1, $2)", {std::to_string(connection_.source_id), std::to_string(lease_->epoch())});
    const auto events = session.query("SELECT event_id, table_id, key, age_ms FROM tandem.reverse_events($1, $2)",
                                      {std::to_string(connection_.source_id), std::to_string(events_in_batch)});
    std::map<int, Part> parts;
    std::string ids = "{";
    for (int row = 0; row < events.rows(); ++row) {
        const int table_id = static_cast<int>(events.number(row, 1));
        if (!tables_.contains(table_id))
            continue; // not led yet: its events stay
        if (!events.is_null(row, 0))
            ids += (ids.size() > 1 ? "," : "") + events.text(row, 0);
        Part &part = parts[table_id];
        const std::string key = events.text(row, 2);
        if (part.seen.insert(key).second)
            part.keys.push_back(key);
        if (!events.is_null(row, 3))
            part.age_ms = std::max(part.age_ms, std::strtod(events.text(row, 3).c_str(), nullptr));
    }
    ids += "}";
    std::vector<mysql::TableWrites> writes;
    std::vector<Part *> order;
    for (auto &[table_id, part] : parts) {
        const Table &table = tables_.at(table_id);
        mysql::TableWrites write{&table.config, table.epoch, table.known, {}};
        const auto rows = session.query("SELECT key, image, sqlstate, message FROM tandem.reverse_rows($1, $2)",
                                        {std::to_string(table_id), text_array(part.keys)});
        for (int row = 0; row < rows.rows(); ++row) {
            const std::string key = rows.text(row, 0);
            if (!rows.is_null(row, 2)) {
                part.refused.push_back(refusal(key, rows.text(row, 2), rows.text(row, 3), false));
                continue;
            }
            part.written.push_back(key);
            write.rows.push_back({core::unhex(key), rows.is_null(row, 1) ? std::nullopt : std::optional(core::unhex(rows.text(row, 1)))});
        }
        writes.push_back(std::move(write));
        order.push_back(&part);
    }
    session.run("COMMIT");
    if (parts.empty())
        return false;
    failpoint("reverse:after_read");
    // make_durable: with synchronous_commit = off a commit is seen before it is on disk, and a crash takes it back. The old side must not have it then.
    session.query("SELECT pg_catalog.pg_logical_emit_message(true, 'pg_tandem', '')"
                  " WHERE pg_catalog.pg_current_wal_insert_lsn() > pg_catalog.pg_current_wal_flush_lsn()");

    std::vector<std::set<std::size_t>> left_out(writes.size());
    for (const mysql::RowRefusal &refused : writer_->write(writes)) {
        left_out[refused.table].insert(refused.row);
        order[refused.table]->refused.push_back(
            refusal(order[refused.table]->written[refused.row], refused.sqlstate, refused.message, refused.may_pass));
    }
    failpoint("reverse:after_write");
    json tables = json::array();
    for (std::size_t t = 0; t < writes.size(); ++t) {
        Part &part = *order[t];
        for (std::size_t i = 0; i < part.written.size(); ++i)
            if (!left_out[t].contains(i))
                part.taken.push_back(part.written[i]);
        for (const json &one : part.refused)
            log::warning("row not taken by the old side", {{"source", connection_.name},
                                                           {"table", writes[t].table->name},
                                                           {"sqlstate", one.at("sqlstate").get<std::string>()},
                                                           {"error", one.at("message").get<std::string>()}});
        json entry = {{"table_id", writes[t].table->table_id}, {"taken", std::move(part.taken)}, {"refused", std::move(part.refused)}};
        entry["age_ms"] = part.age_ms < 0 ? json(nullptr) : json(part.age_ms);
        tables.push_back(std::move(entry));
    }
    session.query("SELECT tandem.reverse_done($1, $2, $3, $4)",
                  {std::to_string(connection_.source_id), std::to_string(lease_->epoch()), ids,
                   json{{"tables", std::move(tables)}}.dump(-1, ' ', false, json::error_handler_t::replace)});
    failpoint("reverse:after_done");
    return true;
}

} // namespace tandem::sync
