// docs/protocol.md section 8: when may the pump say that everything committed before a barrier was raised is applied? Pure state machine;
// the pump tells what it sees, in the order in which it sees it.
//
//   seen(number, no requests) → before_snapshot → after_snapshot(complete) → every batch up to it acknowledged → seen(no requests): reached
//
// Anything that may have put events into an outbox after the snapshot for reasons that lie before the barrier (requests moved, key
// cascades expanded) starts it again.
#pragma once

#include <cstdint>
#include <optional>

namespace tandem::sync {

class Barrier {
  public:
    // Every result of wait_events. Returns the number that is reached now, once.
    std::optional<std::int64_t> seen(std::int64_t raised, bool requests) {
        raised_ = raised;
        requests_ = requests;
        if (requests)
            disturb();
        if (!settled_ || requests)
            return std::nullopt;
        settled_ = false;
        reached_ = candidate_;
        candidate_ = 0;
        return reached_;
    }
    bool wanted() const { return raised_ > reached_; }

    // Noted before the snapshot: what is raised later may follow writes that this snapshot does not see.
    void before_snapshot() { noted_ = wanted() && !requests_ && candidate_ == 0 ? raised_ : 0; }
    // `complete`: all events of all running tables were read or are in flight, and no backfill is open. `last_batch`: highest batch that
    // was submitted up to this snapshot.
    void after_snapshot(bool complete, std::int64_t last_batch) {
        if (noted_ != 0 && complete) {
            candidate_ = noted_;
            last_batch_ = last_batch;
            settled_ = false;
        }
        noted_ = 0;
    }
    // After acknowledgements were worked off. `oldest_in_flight`: 0 when nothing is.
    void finished_up_to(std::int64_t oldest_in_flight) {
        if (candidate_ != 0 && (oldest_in_flight == 0 || oldest_in_flight > last_batch_))
            settled_ = true; // the next look at requests decides
    }
    bool settling() const { return settled_; }
    void disturb() {
        candidate_ = 0;
        noted_ = 0;
        settled_ = false;
    }

  private:
    std::int64_t raised_ = 0, reached_ = 0, noted_ = 0, candidate_ = 0, last_batch_ = 0;
    bool requests_ = false, settled_ = false;
};

} // namespace tandem::sync
