// Waiting times between tries: doubling with full jitter, so that many workers do not come back in step.
#pragma once

#include <algorithm>
#include <chrono>
#include <random>

namespace tandem::core {

class Backoff {
  public:
    using Duration = std::chrono::milliseconds;
    Backoff(Duration first, Duration most) : first_(first), most_(most), step_(first), random_(std::random_device{}()) {}

    // Between half a step and a whole step: never zero, so a failing server is not hammered.
    Duration next() {
        std::uniform_int_distribution<Duration::rep> jitter(step_.count() / 2, step_.count());
        const Duration wait(jitter(random_));
        step_ = std::min(most_, step_ * 2);
        return wait;
    }
    void reset() { step_ = first_; }

  private:
    Duration first_, most_, step_;
    std::minstd_rand random_;
};

} // namespace tandem::core
