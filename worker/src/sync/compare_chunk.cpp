#include "sync/compare_chunk.hpp"

#include "core/table_config.hpp"
#include "sync/failpoint.hpp"

#include <algorithm>

namespace tandem::sync {
namespace {

using nlohmann::json;

constexpr std::size_t images_at_once = 2000, image_bytes_at_once = 4U << 20; // of rows that PostgreSQL must evaluate
constexpr std::size_t most_described = 10000;                                // divergences of a chunk that are told with their columns
constexpr std::size_t few_rows = 20000;                                      // so many keys can be asked for one by one

constexpr std::size_t deepest_cascade = 15; // MySQL goes no further

// A table that is its own ancestor may be reached over as many steps as MySQL allows.
std::size_t steps_to(const core::TableConfig &table, const std::vector<core::TableConfig> &ancestors) {
    const bool cycle = std::ranges::any_of(ancestors, [&](const core::TableConfig &one) { return one.table_id == table.table_id; });
    return cycle ? deepest_cascade : std::min(deepest_cascade, ancestors.size());
}

std::int64_t us_since(Clock::time_point start) {
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count();
}

std::vector<std::string> keys_of(const std::vector<Suspect> &suspects) {
    std::vector<std::string> keys;
    keys.reserve(suspects.size());
    for (const Suspect &suspect : suspects)
        keys.push_back(suspect.key);
    return keys;
}

KeySet set_of(const std::vector<postgres::KeyHash> &rows) {
    KeySet keys;
    for (const postgres::KeyHash &row : rows)
        keys.insert(row.key);
    return keys;
}

} // namespace

ChunkComparer::ChunkComparer(Sides sides, core::TableConfig table, std::vector<core::TableConfig> ancestors, std::string secret)
    : sides_(std::move(sides)), table_(std::move(table)), ancestors_(std::move(ancestors)),
      moves_(steps_to(table_, ancestors_) + (table_.has_triggers ? 0 : 1)), secret_(std::move(secret)) {
    if (table_.digest.mode == core::DigestPlan::Mode::none)
        throw core::Error(core::Side::new_side, "55000", "table \"" + table_.name + "\" cannot be compared: " + table_.digest.reason,
                          false);
    if (table_.digest.mode == core::DigestPlan::Mode::fast)
        digest_ = std::make_unique<core::RowDigest>(table_.digest, table_.columns, secret_);
    for (const core::Column &column : core::key_columns_of(table_))
        key_types_.push_back(core::parse_image_type(column.image_type));
    integer_key_ = core::largest_integer_key(table_).has_value();
}

bool ChunkComparer::begin(Verdict &verdict) {
    const auto p = sides_.fresh.begin_snapshot(table_.table_id);
    verdict.skipped = !p;
    if (p)
        p_ = *p;
    failpoint("reconcile:after_snapshot_p");
    return p.has_value();
}

void ChunkComparer::end() {
    sides_.old.end_snapshot();
    sides_.fresh.end_snapshot();
}

mysql::RowSink ChunkComparer::collect(OldRows &rows) {
    return [this, &rows](std::string_view key, std::string_view image, const core::Untranslatable *bad) {
        if (bad != nullptr) {
            rows.add_bad(key, *bad);
            return;
        }
        if (digest_) {
            rows.add(key, digest_->of_image(key, image));
            return;
        }
        waiting_keys_.emplace_back(key);
        waiting_images_.emplace_back(std::string(image));
        waiting_bytes_ += image.size();
        if (waiting_keys_.size() >= images_at_once || waiting_bytes_ >= image_bytes_at_once)
            flush(rows);
    };
}

// What apply would write is evaluated in PostgreSQL; it is no matter of P, as expressions read nothing but the image.
void ChunkComparer::flush(OldRows &rows) {
    if (waiting_keys_.empty())
        return;
    std::unordered_map<std::string, postgres::KeyHash> hashes;
    for (postgres::KeyHash &one : sides_.runs.digest_images(table_.table_id, secret_, waiting_keys_, waiting_images_))
        hashes.emplace(one.key, one);
    for (const std::string &key : waiting_keys_) {
        const auto found = hashes.find(key);
        if (found == hashes.end())
            continue; // left out by the filter: not to be on the new side
        if (found->second.comparable)
            rows.add(key, found->second.hash);
        else
            rows.add_bad(key, {"", "22000", "what is to be written cannot be computed"});
    }
    waiting_keys_.clear();
    waiting_images_.clear();
    waiting_bytes_ = 0;
}

Verdict ChunkComparer::range(const mysql::KeyInterval &interval) {
    Verdict verdict;
    if (!begin(verdict))
        return verdict;
    // Differences come in numbers: after one, the next chunk's parts are summed up at once.
    std::optional<EvenParts> parts;
    if (expects_differences_ && table_.digest.parts && integer_key_)
        parts = EvenParts::of(interval, last_rows_);
    if (parts)
        sides_.fresh.send_parts(table_.table_id, secret_, interval.low, interval.high, parts->starts());
    else
        sides_.fresh.send_chunk(table_.table_id, secret_, interval.low, interval.high);
    const Clock::time_point started = Clock::now();
    sides_.old.begin_snapshot();
    failpoint("reconcile:after_snapshot_s");
    OldRows old;
    verdict.old_rows = static_cast<std::int64_t>(sides_.old.read_interval(table_, interval, collect(old)));
    flush(old);
    verdict.old_us = us_since(started);
    std::vector<core::ChunkSum> sums;
    core::ChunkSum fresh;
    if (parts) {
        sums = sides_.fresh.receive_parts(parts->starts().size());
        for (const core::ChunkSum &part : sums)
            fresh += part;
    } else {
        fresh = sides_.fresh.receive_chunk();
    }
    verdict.new_rows = fresh.rows;
    last_rows_ = old.size();

    std::vector<Suspect> suspects;
    if (fresh != old.sum() || !old.bad().empty()) {
        if (parts && old.bad().empty())
            compare_even_parts(*parts, sums, old, suspects);
        else if (table_.digest.parts && old.bad().empty() && old.size() > 2 * rows_of_small_part)
            compare_small_parts(interval, old, suspects);
        else
            compare_interval(interval, old, suspects);
    }
    expects_differences_ = !suspects.empty();
    const std::size_t differing = suspects.size();
    judge(interval, suspects, verdict);
    count_verified(interval, old, differing, verdict);
    if (!verdict.discarded && moves_ == 0)
        confirm(suspects, old, verdict);
    end();
    if (!verdict.discarded && moves_ > 0)
        settle(suspects, verdict);
    return verdict;
}

Verdict ChunkComparer::forward(const mysql::KeyInterval &interval, std::uint64_t most_rows) {
    // The keys first, outside of any snapshot: they only say which rows of the new side P must see.
    std::vector<std::string> keys;
    (void)sides_.old.read_keys(table_, interval, most_rows, [&](std::string_view key, bool bad) {
        if (!bad)
            keys.emplace_back(key);
    });
    Verdict verdict;
    if (!begin(verdict))
        return verdict;
    sides_.fresh.send_keys(table_.table_id, secret_, keys);
    const Clock::time_point started = Clock::now();
    sides_.old.begin_snapshot();
    OldRows old;
    verdict.old_rows = static_cast<std::int64_t>(sides_.old.read_interval(table_, interval, collect(old)));
    flush(old);
    verdict.old_us = us_since(started);
    std::vector<postgres::KeyHash> fresh = sides_.fresh.receive_keys();

    // Rows that came between the two reads, or that were more than asked for.
    {
        KeySet asked(keys.begin(), keys.end());
        std::vector<std::string> others;
        for (std::size_t i = 0; i < old.size(); ++i)
            if (!asked.contains(std::string(old.key(i))))
                others.emplace_back(old.key(i));
        for (const auto &[key, why] : old.bad())
            if (!asked.contains(key))
                others.push_back(key);
        if (!others.empty()) {
            sides_.fresh.send_keys(table_.table_id, secret_, others);
            for (postgres::KeyHash &row : sides_.fresh.receive_keys())
                fresh.push_back(std::move(row));
        }
    }
    verdict.new_rows = static_cast<std::int64_t>(fresh.size());
    std::vector<Suspect> suspects;
    compare_rows(old, 0, old.size(), fresh, suspects);
    if (!old.bad().empty())
        compare_bad_rows(old, set_of(fresh), suspects);
    const std::size_t differing = suspects.size();
    judge(interval, suspects, verdict);
    count_verified(interval, old, differing, verdict);
    if (!verdict.discarded && moves_ == 0)
        confirm(suspects, old, verdict);
    end();
    if (!verdict.discarded && moves_ > 0)
        settle(suspects, verdict);
    return verdict;
}

Verdict ChunkComparer::backward(mysql::KeyText &after, std::size_t limit, bool &at_end) {
    Verdict verdict;
    if (!begin(verdict))
        return verdict;
    const std::vector<postgres::NextKey> next = sides_.fresh.next_keys(table_.table_id, after, limit);
    const Clock::time_point started = Clock::now();
    sides_.old.begin_snapshot();
    std::vector<std::string> keys;
    for (const postgres::NextKey &key : next)
        keys.push_back(key.key);
    KeySet there;
    sides_.old.read_list(table_, keys, false,
                         [&](std::string_view key, std::string_view, const core::Untranslatable *) { there.emplace(key); });
    verdict.old_us = us_since(started);
    verdict.new_rows = 0; // counted on the way forward
    std::vector<Suspect> suspects;
    for (const std::string &key : keys)
        if (!there.contains(key))
            suspects.push_back({key, Kind::extra});
    judge({}, suspects, verdict);
    if (!verdict.discarded && moves_ == 0)
        confirm(suspects, {}, verdict);
    end();
    if (!verdict.discarded && moves_ > 0)
        settle(suspects, verdict);
    if (!verdict.discarded) {
        at_end = next.size() < limit;
        if (!next.empty())
            after = next.back().text;
    }
    return verdict;
}

Verdict ChunkComparer::list(const std::vector<std::string> &keys) {
    Verdict verdict;
    if (keys.empty())
        return verdict;
    if (const auto suspects = look(keys, moves_ == 0, verdict); suspects && !verdict.discarded && moves_ > 0)
        settle(*suspects, verdict);
    return verdict;
}

// A row that was asked for (the child of a cascade, a write without triggers) may be on its way from the request to its outbox between S and T, one
// step of the cascade at a time: whoever is seen nowhere in one look more than there are such moves is on no way (docs/model/c2_looks.pml).
void ChunkComparer::settle(const std::vector<Suspect> &first, Verdict &verdict) {
    std::vector<Suspect> suspects = first;
    for (std::size_t step = 1; step <= moves_ && !suspects.empty(); ++step) {
        const auto left = look(keys_of(suspects), step == moves_, verdict);
        if (!left || verdict.discarded)
            return;
        suspects = *left;
    }
}

// The old side's equality gives neighbours as well ('abc' for 'ABC'), and one row for two keys in two statements.
void ChunkComparer::read_old(const std::vector<std::string> &keys, OldRows &rows) {
    const KeySet asked(keys.begin(), keys.end());
    KeySet seen;
    const mysql::RowSink sink = collect(rows);
    sides_.old.read_list(table_, keys, true, [&](std::string_view key, std::string_view image, const core::Untranslatable *bad) {
        const std::string own(key);
        if (asked.contains(own) && seen.insert(own).second)
            sink(key, image, bad);
    });
    flush(rows);
}

std::vector<Suspect> ChunkComparer::standing(const std::vector<std::string> &keys) {
    sides_.fresh.send_keys(table_.table_id, secret_, keys);
    OldRows old;
    read_old(keys, old);
    const std::vector<postgres::KeyHash> fresh = sides_.fresh.receive_keys();
    std::vector<Suspect> suspects;
    compare_rows(old, 0, old.size(), fresh, suspects);
    compare_bad_rows(old, set_of(fresh), suspects);
    return suspects;
}

// One chunk over a list of keys. Confirms what is left when it is the last look. nullopt: skipped.
std::optional<std::vector<Suspect>> ChunkComparer::look(const std::vector<std::string> &keys, bool last, Verdict &verdict) {
    if (!begin(verdict))
        return std::nullopt;
    sides_.fresh.send_keys(table_.table_id, secret_, keys);
    const Clock::time_point started = Clock::now();
    sides_.old.begin_snapshot();
    OldRows old;
    read_old(keys, old);
    verdict.old_us += us_since(started);
    const std::vector<postgres::KeyHash> fresh = sides_.fresh.receive_keys();
    std::vector<Suspect> suspects;
    compare_rows(old, 0, old.size(), fresh, suspects);
    compare_bad_rows(old, set_of(fresh), suspects);

    // Equal keys count only when they are not in flight either, so all are judged.
    std::vector<Suspect> equal;
    {
        KeySet different;
        for (const Suspect &suspect : suspects)
            different.insert(suspect.key);
        for (const std::string &key : keys)
            if (!different.contains(key))
                equal.push_back({key, Kind::different});
    }
    const std::size_t differing = suspects.size();
    suspects.insert(suspects.end(), equal.begin(), equal.end());
    Verdict judged;
    const KeySet equal_keys = [&] {
        KeySet set;
        for (const Suspect &one : equal)
            set.insert(one.key);
        return set;
    }();
    judge({}, suspects, judged);
    verdict.discarded = verdict.discarded || judged.discarded;
    if (!judged.discarded) {
        for (const auto &[key, reason] : judged.in_flight)
            if (!equal_keys.contains(key) || reason == "retry" || reason == "dead_letter" || reason == "direct_write")
                verdict.in_flight[key] = reason;
        std::vector<Suspect> left;
        for (Suspect &suspect : suspects)
            if (equal_keys.contains(suspect.key))
                verdict.equal.push_back(suspect.key);
            else
                left.push_back(std::move(suspect));
        suspects = std::move(left);
        verdict.verified += static_cast<std::int64_t>(keys.size() - differing);
        if (last)
            confirm(suspects, old, verdict);
    }
    end();
    return suspects;
}

bool ChunkComparer::cascade_under_way() {
    return std::ranges::any_of(ancestors_, [&](const core::TableConfig &ancestor) { return sides_.old.has_removing_events(ancestor); });
}

void ChunkComparer::judge(const mysql::KeyInterval &interval, std::vector<Suspect> &suspects, Verdict &verdict) {
    KeySet events;
    if (!suspects.empty()) {
        KeySet wanted;
        for (const Suspect &suspect : suspects)
            wanted.insert(suspect.key);
        sides_.old.read_events(table_, interval, [&](std::string_view key, bool) {
            if (const auto found = wanted.find(std::string(key)); found != wanted.end())
                events.insert(*found);
        });
    }
    const bool cascade = !suspects.empty() && cascade_under_way();
    failpoint("reconcile:before_snapshot_t");
    const auto later =
        suspects.empty() ? std::map<std::string, std::string>{} : sides_.runs.in_flight(table_.table_id, p_, keys_of(suspects));
    verdict.discarded = !sides_.runs.verdict_stands(table_.table_id, p_);
    std::erase_if(suspects, [&](const Suspect &suspect) {
        if (const auto found = later.find(suspect.key); found != later.end())
            return verdict.in_flight[suspect.key] = found->second, true;
        if (events.contains(suspect.key))
            return verdict.in_flight[suspect.key] = "queue", true;
        if (cascade)
            return verdict.in_flight[suspect.key] = "cascade", true;
        return false;
    });
    if (!suspects.empty() && !verdict.discarded && sides_.shape_now(table_.table_id) != table_.shape)
        throw core::Error(core::Side::new_side, "55000", "table \"" + table_.name + "\" or its target has changed while it was compared",
                          true, "Compare it again.");
}

// Equal rows that wait somewhere may be other rows in a moment: they do not count.
void ChunkComparer::count_verified(const mysql::KeyInterval &interval, const OldRows &old, std::size_t suspects, Verdict &verdict) {
    if (verdict.discarded)
        return;
    std::int64_t not_counted = static_cast<std::int64_t>(suspects + sides_.old.count_events(table_, interval));
    const std::int64_t journalled = sides_.runs.journalled_after(table_.table_id, p_);
    if (journalled > 0 && old.size() <= few_rows) {
        std::vector<std::string> keys;
        for (std::size_t i = 0; i < old.size(); ++i)
            keys.emplace_back(old.key(i));
        not_counted += static_cast<std::int64_t>(sides_.runs.in_flight(table_.table_id, p_, keys).size());
    } else {
        not_counted += journalled; // of the whole table: rather too few than too many
        if (const auto waiting = sides_.runs.waiting(table_.table_id, p_); !waiting.empty())
            for (std::size_t i = 0; i < old.size(); ++i)
                not_counted += waiting.contains(std::string(old.key(i))) ? 1 : 0;
    }
    verdict.verified = std::max<std::int64_t>(0, verdict.old_rows - not_counted);
}

// Confirmed: what differs is described from the images in S and the rows in P.
void ChunkComparer::confirm(const std::vector<Suspect> &suspects, const OldRows &old, Verdict &verdict) {
    if (suspects.empty())
        return;
    std::vector<std::string> keys, wanted;
    for (const Suspect &suspect : suspects)
        if (keys.size() < most_described && !old.bad().contains(suspect.key))
            keys.push_back(suspect.key);
    std::unordered_map<std::string, std::string> images;
    sides_.old.read_list(table_, keys, true, [&](std::string_view key, std::string_view image, const core::Untranslatable *bad) {
        if (bad == nullptr)
            images.emplace(key, image);
    });
    std::vector<std::optional<std::string>> ordered;
    for (const std::string &key : keys) {
        const auto found = images.find(key);
        ordered.push_back(found == images.end() ? std::optional<std::string>() : found->second);
    }
    std::unordered_map<std::string, json> described;
    for (json &one : sides_.fresh.differences(table_.table_id, keys, ordered)) {
        const std::string key = one.at("key").get<std::string>();
        described.emplace(key, std::move(one));
    }
    for (const Suspect &suspect : suspects) {
        const std::string hex = postgres::hex_of(suspect.key);
        const auto found = described.find(hex);
        json one = found != described.end() ? found->second : json{{"key", hex}, {"kind", name_of(suspect.kind)}};
        if (const auto bad = old.bad().find(suspect.key); bad != old.bad().end() && !bad->second.column.empty())
            one["columns"] = json::array({bad->second.column});
        one["p"] = p_;
        verdict.confirmed.push_back(std::move(one));
    }
}

} // namespace tandem::sync
