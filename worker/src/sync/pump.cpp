// The pump's sessions, its loop, and the way back: await_journal and delete_exact. See pump.hpp.
#include "sync/pump.hpp"

#include "core/error.hpp"
#include "log.hpp"
#include "sync/failpoint.hpp"

#include <nlohmann/json.hpp>

namespace tandem::sync {

using core::Error;

namespace {

std::int64_t us_since(Clock::time_point start) {
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count();
}

} // namespace

Pump::Pump(std::string conninfo, postgres::SourceRow source, LeaseKeeper &leases, const Stop &stop, std::int64_t reconnects)
    : conninfo_(std::move(conninfo)), row_(std::move(source)), leases_(leases), stop_(stop), schedule_(Millis(1), Millis(100)) {
    stats_.reconnects = reconnects;
}

Pump::~Pump() {
    // Before the lease: they must not touch the old side after somebody else may lead.
    reconciler_.reset();
    reverse_.reset();
    writes_.reset();
    backfill_.reset();
    capture_.reset();
    guard_.reset();
    if (lease_)
        leases_.let_go(lease_);
}

// Asked while waiting for a silent PostgreSQL: without a lease, or long after being told to stop, waiting is of no use.
bool Pump::gave_up() const {
    if (lease_ && !lease_->held())
        return true;
    return stop_.requested() && stopping_since_ && Clock::now() - *stopping_since_ > stop_grace;
}

// Every new PostgreSQL session takes a new epoch: a COPY cut off from its client may still commit, and must then be refused.
bool Pump::bump_epoch() {
    const Clock::time_point asked_at = Clock::now();
    const std::optional<std::int64_t> epoch = api_->acquire_lease(row_.connection.source_id, leases_.holder());
    if (!epoch)
        return false;
    epoch_ = *epoch;
    lease_ = leases_.keep(row_.connection.source_id, epoch_, asked_at, settings_.lease_ttl);
    return true;
}

Pump::Outcome Pump::run() {
    const std::string &name = row_.connection.name;
    api_ = std::make_unique<postgres::WorkerApi>(conninfo_, "pump " + name, leases_.holder(), [this] { return gave_up(); });
    settings_ = api_->settings();
    bool standing_by = false;
    while (!bump_epoch()) {
        if (!standing_by)
            log::info("another worker leads, standing by", {{"source", name}});
        standing_by = true;
        if (stop_.wait_for(std::min(settings_.lease_ttl / 4, Millis(1000))))
            return Outcome::stopped;
    }
    // The lease is committed; nothing after it needs to wait for the disk: the queue is unlogged, and every report is repeatable.
    api_->session().run("SET synchronous_commit = off");
    log::info("leading", {{"source", name}, {"epoch", epoch_}});

    source_ = std::make_unique<mysql::SourceSession>(row_.connection);
    capture_ = std::make_unique<CaptureKeeper>(row_.connection, lease_, settings_.source_lock_timeout_ms);
    reverse_ = std::make_unique<ReversePump>(conninfo_, leases_.holder(), row_.connection, lease_);
    writes_ = std::make_unique<WritePump>(conninfo_, leases_.holder(), row_.connection, lease_);
    backfill_ = std::make_unique<Backfill>(conninfo_, leases_.holder(), row_.connection, lease_);
    guard_ = std::make_unique<CaptureGuard>(row_.connection, lease_);
    schedule_.set(settings_.poll_min, settings_.poll_max);
    reconciler_ = std::make_unique<Reconciler>(conninfo_, leases_.holder(), row_.connection, lease_);
    load_tables();
    put_back_remains();
    const Outcome outcome = loop();
    if (outcome == Outcome::stopped)
        api_->release_lease(row_.connection.source_id, leases_.holder(), epoch_);
    return outcome;
}

Pump::Outcome Pump::loop() {
    for (;;) {
        if (stop_.requested()) {
            drain();
            return Outcome::stopped;
        }
        if (!lease_->held())
            return Outcome::fenced;
        if (std::exchange(look_for_run_, false))
            take_cutover();
        advance_tables();
        follow_changed_keys(false);
        bool worked = false;
        const std::size_t depth = static_cast<std::size_t>(settings_.pipeline_depth);
        if (in_flight_.size() < depth)
            worked = copy_live_batch();
        if (in_flight_.size() < depth)
            worked = copy_reset_batch() || copy_chunk_batch() || sweep() || worked;
        report_stats(false);
        if (worked) {
            schedule_.worked();
            if (in_flight_.size() < depth)
                continue; // fill the pipeline before looking for acknowledgements
        }
        if (!await_journal(pause_length(worked)))
            return Outcome::fenced;
    }
}

Millis Pump::pause_length(bool worked) {
    if (barrier_.settling())
        return Millis(0);
    // A full pipeline waits for an acknowledgement, not for the old side.
    const bool full = in_flight_.size() >= static_cast<std::size_t>(settings_.pipeline_depth);
    Millis pause = full || worked ? Millis(250) : schedule_.next_pause();
    if (capture_->busy())
        pause = std::min(pause, Millis(20));
    return std::min(pause, settings_.lease_ttl / 4);
}

// Waits in PostgreSQL for whatever comes first, and works it off. False: fenced.
bool Pump::await_journal(Millis timeout) {
    const postgres::WaitResult events = api_->wait_events(row_.connection.source_id, epoch_, generation_, timeout);
    if (events.fenced) {
        log::warning("lease taken by another worker", {{"source", row_.connection.name}, {"epoch", epoch_}});
        return false;
    }
    if (!events.acked.empty()) {
        failpoint("pump:after_await_journal");
        delete_exact(events.acked);
        schedule_.worked();
    }
    if (events.generation != generation_) {
        generation_ = events.generation;
        settings_ = api_->reload_settings();
        schedule_.set(settings_.poll_min, settings_.poll_max);
        capture_->set_lock_timeout(settings_.source_lock_timeout_ms);
        load_tables();
        look_for_run_ = true;
        schedule_.worked();
    }
    if (const auto reached = barrier_.seen(events.barrier, events.requests))
        api_->reached_barrier(row_.connection.source_id, epoch_, *reached);
    else if (barrier_.wanted())
        schedule_.worked();
    if (events.requests && !stop_.requested())
        move_requests();
    barrier_.finished_up_to(in_flight_.empty() ? 0 : in_flight_.front().batch_id);
    return true;
}

// The batches are applied, durably: their events go, by the exact ids, on the session that read them.
void Pump::delete_exact(const std::vector<std::int64_t> &acked) {
    const std::set<std::int64_t> done(acked.begin(), acked.end());
    std::map<int, BatchPart> parts;
    for (const Batch &batch : in_flight_) {
        if (!done.contains(batch.batch_id))
            continue;
        for (const BatchPart &part : batch.parts) {
            BatchPart &all = parts[part.table_id];
            all.ids.merge(part.ids);
            all.removes = all.removes || part.removes;
        }
    }
    const Clock::time_point started = Clock::now();
    // Children that follow a changed key must be in their outbox, committed, before the event that tells of it goes.
    for (const auto &[table_id, part] : parts) {
        LiveTable *table = find(table_id);
        if (table == nullptr || !part.removes || table->unreadable)
            continue;
        for (const core::KeyCascade &cascade : table->config.key_cascades) {
            const LiveTable *child = find(cascade.child_table_id);
            // Without an outbox the child is not captured yet, and its backfill will read it later than this.
            if (child == nullptr || !child->captured || child->unreadable)
                continue;
            if (source_->expand_key_cascade(table->config, cascade, part.ids) > 0)
                barrier_.disturb();
        }
    }
    failpoint("pump:before_delete_exact");
    for (const auto &[table_id, part] : parts) {
        LiveTable *table = find(table_id);
        if (table == nullptr || table->unreadable || part.ids.empty())
            continue;
        try {
            source_->delete_events(table->config, part.ids);
        } catch (const Error &error) {
            if (error.retryable())
                throw;
            suspect(*table, std::string("events cannot be deleted from its outbox: ") + error.what());
        }
    }
    failpoint("pump:after_delete_exact");
    stats_.delete_us += us_since(started);
    stats_.worked = true;

    failpoint("pump:before_finish_batches");
    api_->finish_batches(acked);
    for (Batch &batch : in_flight_) {
        if (!done.contains(batch.batch_id))
            continue;
        if (batch.chunk_table)
            chunk_acknowledged(batch);
        for (BatchPart &part : batch.parts)
            if (!part.keys.empty())
                reconciler_->applied().add(part.table_id, std::move(part.keys));
    }
    std::erase_if(in_flight_, [&](const Batch &batch) { return done.contains(batch.batch_id); });
}

void Pump::drain() {
    stopping_since_ = Clock::now();
    backfill_.reset();
    while (!in_flight_.empty() && Clock::now() - *stopping_since_ < stop_grace && lease_->held())
        if (!await_journal(Millis(200)))
            return;
    report_stats(true);
    log::info("stopped", {{"source", row_.connection.name}, {"batches_left", in_flight_.size()}});
}

void Pump::report_stats(bool now) {
    const Clock::time_point at = Clock::now();
    if (!now && !stats_.due(at))
        return;
    api_->report_stats(row_.connection.source_id, epoch_, stats_.take(all_tables(), at));
    // The old side closes sessions that say nothing for long; with no table to poll this is all we say.
    if (at - pinged_ > Millis(30000)) {
        source_->ping();
        pinged_ = at;
    }
}

} // namespace tandem::sync
