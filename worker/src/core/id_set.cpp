// IdSet: exact sets of outbox ids as maximal runs. The rule of model A's delete_exact lives here: a run grows only by ids that were
// added, so deleting a run as a range never touches an id that was not read.
#include "core/types.hpp"

#include <iterator>

namespace tandem::core {

void IdSet::add(std::uint64_t id) {
    auto after = runs_.upper_bound(id);
    if (after != runs_.begin()) {
        auto before = std::prev(after);
        if (id <= before->second)
            return;
        if (before->second + 1 == id) {
            before->second = id;
            if (after != runs_.end() && after->first == id + 1) { // no overflow: a larger id exists
                before->second = after->second;
                runs_.erase(after);
            }
            return;
        }
    }
    if (after != runs_.end() && after->first == id + 1) {
        const std::uint64_t last = after->second;
        const auto hint = runs_.erase(after);
        runs_.emplace_hint(hint, id, last);
        return;
    }
    runs_.emplace_hint(after, id, id);
}

void IdSet::merge(const IdSet &other) {
    if (&other == this)
        return;
    for (const auto &[first, last] : other.runs_) {
        std::uint64_t low = first;
        std::uint64_t high = last;
        auto next = runs_.upper_bound(low);
        if (next != runs_.begin()) {
            auto before = std::prev(next);
            // The run before touches or overlaps the new one: swallow it.
            if (before->second >= low || before->second + 1 == low) {
                low = before->first;
                high = high > before->second ? high : before->second;
                next = runs_.erase(before);
            }
        }
        while (next != runs_.end() && (next->first <= high || next->first == high + 1)) {
            high = high > next->second ? high : next->second;
            next = runs_.erase(next);
        }
        runs_.emplace_hint(next, low, high);
    }
}

bool IdSet::contains(std::uint64_t id) const {
    auto after = runs_.upper_bound(id);
    return after != runs_.begin() && id <= std::prev(after)->second;
}

std::uint64_t IdSet::count() const {
    std::uint64_t total = 0;
    for (const auto &[first, last] : runs_)
        total += last - first + 1;
    return total;
}

std::vector<IdSet::Run> IdSet::runs() const {
    std::vector<Run> result;
    result.reserve(runs_.size());
    for (const auto &[first, last] : runs_)
        result.push_back({first, last});
    return result;
}

} // namespace tandem::core
