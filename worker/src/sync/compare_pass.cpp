#include "sync/compare_pass.hpp"

#include "core/error.hpp"
#include "core/table_config.hpp"

#include <algorithm>
#include <set>

namespace tandem::sync {
namespace {

using nlohmann::json;

constexpr std::size_t most_pending = 200000; // kept here; those beyond are in tandem.reconcile_pending alone
constexpr std::size_t keys_of_recheck = 2000;
constexpr int most_discarded = 30;
constexpr Millis not_now{2000};

mysql::KeyText key_of(const json &object, const char *name) {
    const auto found = object.find(name);
    return found == object.end() || found->is_null() ? mysql::KeyText{} : found->get<mysql::KeyText>();
}

} // namespace

std::vector<core::TableConfig> cascade_ancestors(const core::TableConfig &table, const std::vector<core::TableConfig> &all) {
    std::vector<core::TableConfig> found;
    std::set<std::string> seen;
    std::vector<std::string> todo = table.cascade_parents;
    while (!todo.empty()) {
        const std::string name = todo.back();
        todo.pop_back();
        if (!seen.insert(name).second)
            continue;
        for (const core::TableConfig &one : all)
            if (one.name == name) {
                found.push_back(one);
                todo.insert(todo.end(), one.cascade_parents.begin(), one.cascade_parents.end());
            }
    }
    return found;
}

json chunk_report(const Verdict &verdict) {
    json in_flight = json::array(), equal = json::array();
    for (const auto &[key, reason] : verdict.in_flight)
        in_flight.push_back({{"key", postgres::hex_of(key)}, {"reason", reason}});
    for (const std::string &key : verdict.equal)
        equal.push_back(postgres::hex_of(key));
    return {{"rows", verdict.old_rows},          {"new_rows", verdict.new_rows}, {"verified", verdict.verified},
            {"in_flight", std::move(in_flight)}, {"equal", std::move(equal)},    {"old_ms", verdict.old_us / 1000}};
}

ComparePass::ComparePass(Sides sides, const core::TableConfig &table, std::vector<core::TableConfig> ancestors, const json &options)
    : sides_(std::move(sides)), by_range_(table.digest.range), random_(std::random_device{}()) {
    if (table.digest.mode == core::DigestPlan::Mode::none)
        throw core::Error(core::Side::new_side, "55000", "table \"" + table.name + "\" cannot be compared: " + table.digest.reason, false);
    low_ = key_of(options, "low");
    high_ = key_of(options, "high");
    part_ = !low_.empty() || !high_.empty();
    if (const auto sample = options.find("sample"); sample != options.end() && sample->is_number())
        sample_ = sample->get<double>();
    largest_key_ = by_range_ ? core::largest_integer_key(table) : std::nullopt;
    pass_ = sides_.runs.begin_pass(table.table_id, options);
    try {
        comparer_ = std::make_unique<ChunkComparer>(sides_, table, std::move(ancestors), pass_.secret);
        resume_at(pass_.cursor);
    } catch (const core::Error &error) {
        give_up("failed", error.what());
        throw;
    }
}

void ComparePass::resume_at(const json &cursor) {
    if (!cursor.is_object())
        return;
    const std::string phase = cursor.value("phase", "forward");
    phase_ = phase == "backward" ? Phase::backward : phase == "recheck" ? Phase::recheck : Phase::forward;
    if (cursor.contains("low"))
        low_ = key_of(cursor, "low");
    after_ = key_of(cursor, "after");
    if (phase_ == Phase::recheck)
        enter(Phase::recheck);
}

json ComparePass::cursor() const {
    json cursor = {{"phase", phase_ == Phase::forward ? "forward" : phase_ == Phase::backward ? "backward" : "recheck"}};
    if (phase_ == Phase::forward && !low_.empty())
        cursor["low"] = low_;
    if (phase_ == Phase::backward && !after_.empty())
        cursor["after"] = after_;
    return cursor;
}

void ComparePass::enter(Phase phase) {
    phase_ = phase;
    if (phase == Phase::recheck) {
        recheck_since_ = recheck_due_ = Clock::now();
        recheck_wait_ = Millis(100);
    }
}

void ComparePass::give_up(const std::string &state, const std::string &error) {
    if (phase_ == Phase::ended)
        return;
    phase_ = Phase::ended;
    summary_ = sides_.runs.end_pass(pass_.run_id, state, error);
}

ComparePass::Step ComparePass::finish() {
    phase_ = Phase::ended;
    summary_ = sides_.runs.end_pass(pass_.run_id, "done", "");
    return Step::done;
}

ComparePass::Step ComparePass::step() {
    step_rows_ = 0;
    const Clock::time_point started = Clock::now();
    const Step result = phase_ == Phase::recheck ? recheck() : phase_ == Phase::ended ? Step::done : chunk();
    step_time_ = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - started);
    return result;
}

// The next chunk of the way forward. `last`: it reaches to the end of what is asked for.
mysql::KeyInterval ComparePass::next_interval(bool &last) {
    mysql::KeyInterval interval{low_, {}};
    // Samples are many small chunks.
    const std::uint64_t rows = sample_ ? std::min<std::uint64_t>(size_.rows(), 1000) : size_.rows();
    if (largest_key_ && high_.empty() && low_.size() == 1)
        if (const auto high = span_.next_high(std::stoll(low_[0]), rows, *largest_key_)) {
            interval.high = {std::to_string(*high)};
            last = false;
            return interval;
        }
    if (const auto bound = sides_.old.bound(comparer_->table(), {low_, high_}, rows))
        interval.high = *bound;
    last = interval.high.empty() || interval.high == high_;
    if (last)
        interval.high = high_;
    return interval;
}

bool ComparePass::left_out() { return sample_ && std::uniform_real_distribution<double>(0, 1)(random_) >= *sample_; }

ComparePass::Step ComparePass::chunk() {
    Verdict verdict;
    bool last = false;
    const Clock::time_point started = Clock::now();
    mysql::KeyInterval interval;
    mysql::KeyText after = after_;
    if (phase_ == Phase::backward) {
        verdict = comparer_->backward(after, std::max<std::size_t>(size_.rows(), 1000), last);
    } else {
        interval = next_interval(last);
        if (!left_out())
            verdict = by_range_ ? comparer_->range(interval) : comparer_->forward(interval, size_.rows());
    }
    if (verdict.skipped) {
        pause_ = not_now;
        return Step::waits;
    }
    if (verdict.discarded) {
        size_.shrink();
        if (++discarded_in_a_row_ > most_discarded)
            throw core::Error(core::Side::worker, "55000", "the journal of applied keys is pruned faster than a chunk is compared", true,
                              "It is kept as long as tandem.journal_retention says.");
        return Step::worked;
    }
    discarded_in_a_row_ = 0;
    step_rows_ = verdict.old_rows;
    size_.learn(verdict.old_rows, std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - started));
    if (phase_ == Phase::forward) {
        if (largest_key_ && !interval.high.empty() && interval.low.size() == 1)
            span_.learn(std::stoll(interval.low[0]), std::stoll(interval.high[0]), verdict.old_rows);
        else
            span_.forget();
        low_ = interval.high;
        // The new side's own keys: what the old side does not have. A part of the keys has no place in the new side's order.
        if (last)
            enter(by_range_ || sample_ || part_ ? Phase::recheck : Phase::backward);
    } else {
        after_ = after;
        if (last)
            enter(Phase::recheck);
    }
    return report(verdict, cursor(), 0) ? Step::worked : Step::cancelled;
}

// False: the extension wants the pass to end.
bool ComparePass::report(const Verdict &verdict, const json &cursor, std::size_t rechecks) {
    for (const std::string &key : verdict.equal)
        pending_.erase(key);
    for (const json &one : verdict.confirmed)
        pending_.erase(postgres::bytes_of(one.at("key").get<std::string>()));
    for (const auto &[key, reason] : verdict.in_flight)
        if (pending_.size() < most_pending || pending_.contains(key))
            pending_[key] = reason;
    rows_ += verdict.old_rows;
    confirmed_ += static_cast<std::int64_t>(verdict.confirmed.size());
    json chunk = chunk_report(verdict);
    chunk["cursor"] = cursor;
    chunk["chunks"] = rechecks > 0 ? 0 : 1;
    chunk["rechecks"] = rechecks;
    chunk["ms"] = verdict.old_us / 1000;
    if (stalled_.count() > 0) {
        chunk["stalled_ms"] = stalled_.count();
        chunk["stall_reason"] = stall_reason_;
    }
    stalled_ = {};
    stall_reason_.clear();
    const json reply = sides_.runs.report_chunk(pass_.run_id, chunk, verdict.confirmed);
    if (reply.value("continue", true))
        return true;
    give_up("cancelled", "");
    return false;
}

// Keys in flight are looked at again, in chunks of their own, until they are settled or patience ends.
ComparePass::Step ComparePass::recheck() {
    const Clock::time_point now = Clock::now();
    if (pending_.empty() || now - recheck_since_ > recheck_patience)
        return finish();
    if (now < recheck_due_) {
        pause_ = std::chrono::duration_cast<Millis>(recheck_due_ - now) + Millis(1);
        return Step::waits;
    }
    std::vector<std::string> keys;
    auto at = pending_.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(std::min(rechecked_, pending_.size() - 1)));
    for (; at != pending_.end() && keys.size() < keys_of_recheck; ++at)
        keys.push_back(at->first);
    const std::size_t before = pending_.size();
    const Verdict verdict = comparer_->list(keys);
    if (verdict.skipped || verdict.discarded) {
        recheck_due_ = Clock::now() + recheck_wait_;
        return Step::worked;
    }
    if (!report(verdict, cursor(), keys.size()))
        return Step::cancelled;
    const std::size_t settled = before - std::min(before, pending_.size());
    rechecked_ += keys.size() - std::min(keys.size(), settled);
    if (rechecked_ >= pending_.size()) { // once around: let things move
        rechecked_ = 0;
        recheck_due_ = Clock::now() + recheck_wait_;
        recheck_wait_ = std::min(recheck_wait_ * 2, Millis(1000));
    }
    return Step::worked;
}

} // namespace tandem::sync
