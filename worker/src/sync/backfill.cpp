// See backfill.hpp. Here: the threads, which table and chunk comes next, and the end of a table. One chunk: backfill_chunk.cpp.
#include "sync/backfill.hpp"

#include "core/backoff.hpp"
#include "core/error.hpp"
#include "log.hpp"
#include "sync/backfill_sessions.hpp"
#include "sync/failpoint.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace tandem::sync {

using core::Error;

namespace {

constexpr Millis idle_look{50};
constexpr Millis load_look{250};
constexpr Millis index_pause{2000}; // after an index that could not be built yet
constexpr Millis progress_every{10000};
constexpr Millis ordered_patience{5000}; // the queue asks many times a second while it has history to read

// The chunk or the table is not ours to copy any more, which is no trouble: paused, set back, taken over.
bool is_lost_chunk(const Error &error) { return error.side() == core::Side::new_side && error.sqlstate() == "55000"; }

} // namespace

Backfill::Backfill(std::string conninfo, std::string holder, core::SourceConnection connection, std::shared_ptr<const Lease> lease)
    : conninfo_(std::move(conninfo)), holder_(std::move(holder)), connection_(std::move(connection)), lease_(std::move(lease)) {}

Backfill::~Backfill() {
    stop_.request();
    for (std::thread &thread : threads_)
        thread.join();
}

void Backfill::copy(const std::vector<core::TableConfig> &tables, const postgres::Settings &settings) {
    const std::lock_guard lock(mutex_);
    take(settings);
    std::map<int, std::shared_ptr<Table>> kept;
    for (const core::TableConfig &config : tables) {
        const auto known = tables_.find(config.table_id);
        if (known != tables_.end()) {
            kept.insert(*known);
            continue;
        }
        auto table = std::make_shared<Table>();
        table->config = config;
        kept.emplace(config.table_id, std::move(table));
    }
    for (const auto &[table_id, table] : tables_)
        if (!kept.contains(table_id))
            table->wanted = false;
    tables_ = std::move(kept);
    if (tables_.empty())
        return;
    start_watch();
    while (static_cast<int>(threads_.size()) <= std::min(settings_.backfill_copiers, most_copiers))
        threads_.emplace_back([this, index = static_cast<int>(threads_.size()) - 1] { run(index); });
}

// Nobody waits out a pause that the old budget of rows made. Under mutex_.
void Backfill::take(const postgres::Settings &settings) {
    if (settings.backfill_rows_per_second != settings_.backfill_rows_per_second) {
        ordered_due_ = budget_free_ = {};
        ++budget_;
    }
    settings_ = settings;
}

// Under mutex_.
void Backfill::start_watch() {
    if (threads_.empty())
        threads_.emplace_back([this] { watch(); });
}

bool Backfill::may_read_ordered(const postgres::Settings &settings) {
    const std::lock_guard lock(mutex_);
    take(settings);
    ordered_asked_ = Clock::now();
    start_watch();
    return !pace_.waits && ordered_asked_ >= ordered_due_;
}

void Backfill::read_ordered(std::int64_t rows, std::chrono::microseconds worked) {
    const std::lock_guard lock(mutex_);
    ordered_due_ = next_work(rows, worked, Clock::now());
}

// When work may go on after a piece of it: what the pace and the budget of rows leave to others. Under mutex_.
Clock::time_point Backfill::next_work(std::int64_t rows, std::chrono::microseconds worked, Clock::time_point now) {
    Clock::time_point due = now + pause_after(worked, pace_.share);
    if (settings_.backfill_rows_per_second > 0) {
        budget_free_ = std::max(budget_free_, now) + std::chrono::microseconds(rows * 1000000 / settings_.backfill_rows_per_second);
        due = std::max(due, budget_free_);
    }
    return due;
}

// Rows of a chunk that the budget of rows allows in the time for one: a larger one would hold its rows and its snapshot through pauses. Under mutex_.
std::int64_t Backfill::within_budget(std::int64_t rows) const {
    if (settings_.backfill_rows_per_second <= 0)
        return rows;
    return std::min(
        rows, std::max<std::int64_t>(AdaptiveRows::least, settings_.backfill_rows_per_second * settings_.backfill_chunk / Millis(1000)));
}

std::vector<BackfillNews> Backfill::take_news() {
    const std::lock_guard lock(mutex_);
    return std::exchange(news_, {});
}

bool Backfill::holds(int table_id) {
    const std::lock_guard lock(mutex_);
    const auto found = in_hand_.find(table_id);
    return found != in_hand_.end() && found->second > 0;
}

void Backfill::fail(Table &table, BackfillNews::Kind kind, const std::string &reason) {
    const std::lock_guard lock(mutex_);
    if (!table.wanted.exchange(false))
        return;
    news_.push_back({table.config.table_id, kind, reason});
}

// All that are to be copied, each copier beginning with another one.
std::vector<std::shared_ptr<Backfill::Table>> Backfill::tables(int first) {
    const std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<Table>> found;
    for (const auto &[table_id, table] : tables_)
        if (table->wanted && table->ready <= Clock::now())
            found.push_back(table);
    // With few tables all copiers work on the first: it is done sooner, and its changes wait for less.
    if (found.size() > 8)
        std::ranges::rotate(found, found.begin() + first % static_cast<int>(found.size()));
    return found;
}

bool Backfill::idle(int index) {
    const std::lock_guard lock(mutex_);
    return tables_.empty() || index >= settings_.backfill_copiers || pace_.waits || !lease_->held();
}

void Backfill::run(int index) {
    core::Backoff backoff(Millis(100), Millis(5000));
    std::unique_ptr<Sessions> sessions;
    Clock::time_point used{};
    while (!stop_.requested()) {
        if (idle(index)) {
            if (Clock::now() - used > Millis(10000))
                sessions.reset();
            stop_.wait_for(idle_look);
            continue;
        }
        bool worked = false;
        for (const std::shared_ptr<Table> &table : tables(index)) {
            try {
                if (!sessions)
                    sessions = std::make_unique<Sessions>(connection_, conninfo_, holder_, index,
                                                          [this] { return stop_.requested() || !lease_->held(); });
                worked = work(*sessions, table);
                backoff.reset();
            } catch (const Abandoned &) {
                sessions.reset();
            } catch (const Error &error) {
                sessions.reset();
                if (stop_.requested())
                    return;
                if (is_lost_chunk(error)) {
                    log::debug("chunk given up", {{"source", connection_.name}, {"table", table->config.name}, {"error", error.what()}});
                    stop_.wait_for(idle_look);
                } else if (error.retryable()) {
                    log::warning("copying failed, is tried again", {{"source", connection_.name},
                                                                    {"table", table->config.name},
                                                                    {"sqlstate", error.sqlstate()},
                                                                    {"error", error.what()}});
                    stop_.wait_for(backoff.next());
                } else {
                    if (error.side() == core::Side::old_side)
                        fail(*table, BackfillNews::Kind::unreadable, std::string("it cannot be read on the old side: ") + error.what());
                    else
                        fail(*table, BackfillNews::Kind::failed, std::string("its history cannot be copied: ") + error.what());
                }
            }
            if (worked || stop_.requested())
                break;
        }
        if (worked)
            used = Clock::now();
        else
            stop_.wait_for(idle_look);
    }
}

// One step for a table: plans ahead, copies a chunk, or ends it. False: nothing for this copier to do.
bool Backfill::work(Sessions &sessions, const std::shared_ptr<Table> &table) {
    if (plan(sessions, *table))
        return true;
    postgres::MarkedChunk marked;
    {
        const std::lock_guard marking(table->marking);
        marked = sessions.api.mark_chunk(table->config.table_id, lease_->epoch(), {table->busy.begin(), table->busy.end()});
        if (marked.chunk)
            table->busy.insert(*marked.chunk);
        else if (marked.copies && marked.planned_all && marked.undone == 0 && table->busy.empty())
            marked.attempt = -1; // nothing is left
    }
    {
        const std::lock_guard lock(mutex_);
        if (!table->planning && marked.copies) {
            table->known = true;
            table->planned = marked.planned;
            table->planned_all = marked.planned_all;
            table->unstarted = marked.unstarted;
            table->last_high = marked.last_high;
        }
    }
    if (!marked.copies)
        return false;
    if (!marked.chunk)
        return marked.attempt == -1 ? end(sessions, *table) : plan(sessions, *table);

    {
        const std::lock_guard lock(mutex_);
        ++in_hand_[table->config.table_id];
    }
    const auto give_back = [&] {
        {
            const std::lock_guard lock(mutex_);
            --in_hand_[table->config.table_id];
        }
        const std::lock_guard marking(table->marking);
        table->busy.erase(*marked.chunk);
    };
    Copied copied;
    try {
        copied = copy_chunk(sessions, *table, marked);
    } catch (...) {
        give_back();
        throw;
    }
    give_back();
    make_way(*table, copied.rows, copied.worked);
    return true;
}

// A few chunks ahead of the copiers. Where they end is decided on the old side, by walking the index of the key.
bool Backfill::plan(Sessions &sessions, Table &table) {
    mysql::KeyBound after;
    int planned = 0;
    int wanted = 0;
    std::int64_t rows = 0;
    {
        const std::lock_guard lock(mutex_);
        const int ahead = settings_.backfill_copiers + 2;
        if (!table.known || table.planning || table.planned_all || table.unstarted >= ahead / 2 + 1)
            return false;
        table.planning = true;
        after = table.last_high;
        planned = table.planned;
        wanted = ahead - table.unstarted;
        rows = within_budget(table.size.rows());
    }
    const auto done_planning = [&](const mysql::PlannedBounds *bounds) {
        const std::lock_guard lock(mutex_);
        table.planning = false;
        table.known = bounds != nullptr; // else asked again
        if (bounds == nullptr)
            return;
        const int added = static_cast<int>(bounds->bounds.size()) + (bounds->last ? 1 : 0);
        table.planned += added;
        table.unstarted += added;
        table.planned_all = bounds->last;
        if (!bounds->bounds.empty())
            table.last_high = bounds->bounds.back();
    };
    try {
        const mysql::PlannedBounds bounds = sessions.source.plan(table.config, after, rows, wanted);
        sessions.api.plan_chunks(table.config.table_id, lease_->epoch(), planned, bounds.bounds, bounds.last);
        done_planning(&bounds);
    } catch (...) {
        done_planning(nullptr);
        throw;
    }
    return true;
}

// Every chunk is done: indexes that were put off, then the table is in sync.
bool Backfill::end(Sessions &sessions, Table &table) {
    {
        const std::lock_guard lock(mutex_);
        if (table.ending)
            return false;
        table.ending = true;
    }
    std::string problem;
    std::string state;
    try {
        failpoint("backfill:before_end_backfill");
        while ((state = sessions.api.end_backfill(table.config.table_id, lease_->epoch())) == "building indexes" && problem.empty()) {
            const Clock::time_point started = Clock::now();
            failpoint("backfill:before_build_index");
            const auto built = sessions.api.build_index(table.config.table_id, lease_->epoch());
            failpoint("backfill:after_build_index");
            if (built && built->empty())
                log::info("index built", {{"source", connection_.name},
                                          {"table", table.config.name},
                                          {"ms", std::chrono::duration_cast<Millis>(Clock::now() - started).count()}});
            problem = built.value_or("");
        }
    } catch (...) {
        const std::lock_guard lock(mutex_);
        table.ending = false;
        throw;
    }
    const std::lock_guard lock(mutex_);
    table.ending = false;
    if (!problem.empty()) {
        log::warning("index put off", {{"source", connection_.name}, {"table", table.config.name}, {"reason", problem}});
        table.ready = Clock::now() + index_pause;
    } else if (state == "done" && table.wanted.exchange(false)) {
        log::info("history copied",
                  {{"source", connection_.name}, {"table", table.config.name}, {"rows", table.rows}, {"merged", table.merged}});
        news_.push_back({table.config.table_id, BackfillNews::Kind::ended, ""});
    }
    return true;
}

void Backfill::log_progress(const Pace &pace) {
    const std::lock_guard lock(mutex_);
    for (const auto &[table_id, table] : tables_)
        if (table->wanted)
            log::info("copying history", {{"source", connection_.name},
                                          {"table", table->config.name},
                                          {"rows", table->rows},
                                          {"megabytes", table->bytes >> 20},
                                          {"chunks_planned", table->planned},
                                          {"pace", pace.waits ? "waits" : std::to_string(static_cast<int>(pace.share * 100)) + " %"},
                                          {"reason", pace.reason}});
}

// Watches the load of the old side. What cannot be read does not count, and is told.
void Backfill::watch() {
    core::Backoff backoff(Millis(200), Millis(5000));
    std::unique_ptr<Sessions> sessions;
    Clock::time_point reported{}, logged = Clock::now();
    std::string told;
    double running = -1; // smoothed: one sample says little
    while (!stop_.requested()) {
        bool needed;
        postgres::Settings settings;
        {
            const std::lock_guard lock(mutex_);
            needed = !tables_.empty() || Clock::now() - ordered_asked_ < ordered_patience;
            settings = settings_;
        }
        if (!needed || !lease_->held()) {
            sessions.reset();
            stop_.wait_for(idle_look);
            continue;
        }
        try {
            if (!sessions)
                sessions = std::make_unique<Sessions>(connection_, conninfo_, holder_, -1,
                                                      [this] { return stop_.requested() || !lease_->held(); });
            mysql::OldSideLoad load = sessions->source.load();
            if (load.threads_running >= 0) {
                running = running < 0 ? load.threads_running : running * 0.7 + load.threads_running * 0.3;
                load.threads_running = running;
            }
            const Pace pace = pace_of(load, settings);
            if (load.unreadable != told && !load.unreadable.empty())
                log::info("load of the old side is known in part only", {{"source", connection_.name}, {"problem", load.unreadable}});
            told = load.unreadable;
            {
                const std::lock_guard lock(mutex_);
                pace_ = pace;
            }
            if (Clock::now() - reported > Millis(1000)) {
                reported = Clock::now();
                const auto known = [](auto value) { return value < 0 ? nlohmann::json(nullptr) : nlohmann::json(value); };
                sessions->api.report_pace(
                    connection_.source_id, lease_->epoch(),
                    {{"throttle",
                      pace.reason.empty() ? nlohmann::json(nullptr) : nlohmann::json((pace.waits ? "waits: " : "slowed: ") + pace.reason)},
                     {"threads_running", known(std::lround(load.threads_running))},
                     {"history_list", known(load.history_list)},
                     {"replica_lag", known(load.replica_lag_s)},
                     {"unreadable", load.unreadable.empty() ? nlohmann::json(nullptr) : nlohmann::json(load.unreadable)}});
            }
            if (Clock::now() - logged > progress_every) {
                logged = Clock::now();
                log_progress(pace);
            }
            backoff.reset();
            stop_.wait_for(load_look);
        } catch (const Error &error) {
            sessions.reset();
            log::debug("load of the old side could not be read", {{"source", connection_.name}, {"error", error.what()}});
            stop_.wait_for(backoff.next());
        }
    }
}

} // namespace tandem::sync
