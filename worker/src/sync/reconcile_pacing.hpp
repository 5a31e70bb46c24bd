// How large a chunk of a reconciliation is and how long the pause behind it: pure arithmetic, no I/O.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <optional>

namespace tandem::sync {

// Rows of the next chunk, so that it takes about `target`: no snapshot lives longer. Follows what chunks took, in steps of at most four times.
class CompareSize {
  public:
    using Micros = std::chrono::microseconds;
    std::uint64_t rows() const { return static_cast<std::uint64_t>(rows_); }
    void learn(std::int64_t rows, Micros took) {
        if (rows <= 0)
            return;
        const double seconds = std::max(static_cast<double>(took.count()) / 1e6, 1e-4);
        const double rate = static_cast<double>(rows) / seconds;
        rate_ = rate_ == 0 || rate < rate_ ? rate : rate_ * 0.7 + rate * 0.3; // slower: believed at once
        const double wanted = rate_ * target_s;
        rows_ = std::clamp(std::clamp(wanted, rows_ / 4, rows_ * 4), least, most);
    }
    void shrink() { rows_ = std::max(least, rows_ / 2); }

    static constexpr double target_s = 0.35;
    static constexpr double least = 200, most = 400000;

  private:
    double rows_ = 2000, rate_ = 0;
};

// Bounds of chunks over a key of one integer column, found without asking the old side: an interval of `span` holds at most so many rows.
class IntegerSpan {
  public:
    // How far the next chunk may reach behind `low`; nullopt: not known well enough, or beyond the `largest` key, ask for the bound.
    std::optional<std::int64_t> next_high(std::int64_t low, std::uint64_t rows, std::int64_t largest) const {
        if (density_ < 0.2)
            return std::nullopt;
        const double span = std::min(static_cast<double>(rows) / density_, 4.0 * static_cast<double>(rows));
        // Doubles are coarse near the end of bigint: rather ask once more.
        if (static_cast<double>(low) + span + 1 >= static_cast<double>(largest) * (1 - 1e-15))
            return std::nullopt;
        return low + std::max<std::int64_t>(1, static_cast<std::int64_t>(span));
    }
    void learn(std::int64_t low, std::int64_t high, std::int64_t rows) {
        const double span = static_cast<double>(high) - static_cast<double>(low);
        density_ = span > 0 ? static_cast<double>(rows) / span : 0;
    }
    void forget() { density_ = 0; }

  private:
    double density_ = 0; // rows per number, of the last chunk
};

struct ComparePace {
    double share = 1;           // of the time that may be work
    double rows_per_second = 0; // 0: no limit
};

inline std::chrono::microseconds pause_after_chunk(const ComparePace &pace, std::int64_t rows, std::chrono::microseconds worked) {
    const double share = std::clamp(pace.share, 0.001, 1.0);
    const double took = static_cast<double>(worked.count());
    double pause = took * (1 / share - 1);
    if (pace.rows_per_second > 0)
        pause = std::max(pause, 1e6 * static_cast<double>(rows) / pace.rows_per_second - took);
    return std::chrono::microseconds(static_cast<std::int64_t>(std::clamp(pause, 0.0, 60e6)));
}

} // namespace tandem::sync
