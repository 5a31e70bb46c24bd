// How threads are told to end. `request` once: finish what is in hand; twice: at once. Any thread may ask or wait.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace tandem::sync {

using Clock = std::chrono::steady_clock;
using Millis = std::chrono::milliseconds;

class Stop {
  public:
    void request() {
        {
            const std::lock_guard lock(mutex_); // so that no waiter sleeps past it
            requested_ = true;
        }
        changed_.notify_all();
    }
    bool requested() const { return requested_; }
    // Sleeps; true when stop was requested before or meanwhile.
    bool wait_for(Millis time) const {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, time, [this] { return requested_.load(); });
    }

  private:
    std::atomic<bool> requested_{false};
    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
};

} // namespace tandem::sync
