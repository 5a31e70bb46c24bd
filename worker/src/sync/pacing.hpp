// How much and how often: sizes of batches and chunks, and the poll schedule. Pure arithmetic, no I/O.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace tandem::sync {

// Learns the mean size of a table's images, so that a limit in bytes becomes a limit in rows before anything is read. Rises at once
// (large rows must not fill memory twice), falls slowly.
class RowSize {
  public:
    void learn(std::int64_t rows, std::int64_t bytes) {
        if (rows <= 0)
            return;
        const double seen = static_cast<double>(bytes) / static_cast<double>(rows);
        mean_ = mean_ == 0 || seen > mean_ ? seen : mean_ * 0.8 + seen * 0.2;
    }
    bool known() const { return mean_ > 0; }
    // Rows that fit into `bytes`; at least one. While nothing is known the answer is small.
    std::int64_t rows_for(std::int64_t bytes) const {
        if (!known())
            return first_rows;
        return std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(bytes) / std::max(mean_, 1.0)));
    }
    static constexpr std::int64_t first_rows = 1000;

  private:
    double mean_ = 0;
};

// What is left of one batch for the tables that still wait for their turn in it. What a table does not use, later ones may.
class BatchBudget {
  public:
    BatchBudget(std::int64_t rows, std::int64_t bytes, std::size_t tables) : rows_(rows), bytes_(bytes), tables_(tables) {}
    // Events that the next table may read; 0: the batch is full.
    std::int64_t next_limit(const RowSize &size) {
        const std::int64_t share = static_cast<std::int64_t>(std::max<std::size_t>(tables_, 1));
        if (tables_ > 0)
            --tables_;
        if (rows_ <= 0 || bytes_ <= 0)
            return 0;
        return std::max<std::int64_t>(1, std::min(rows_ / share, size.rows_for(bytes_ / share)));
    }
    void spend(std::int64_t rows, std::int64_t bytes) {
        rows_ -= rows;
        bytes_ -= bytes;
    }

  private:
    std::int64_t rows_, bytes_;
    std::size_t tables_;
};

// Rows of the next backfill chunk: doubles or shrinks towards a time for fetching it, so that live changes never wait long behind one.
class ChunkSize {
  public:
    std::int64_t rows() const { return rows_; }
    void learn(std::int64_t rows, std::chrono::microseconds took) {
        if (rows < rows_ / 2)
            return; // the end of the table says nothing about speed
        const double factor = static_cast<double>(target.count()) / static_cast<double>(std::max<std::int64_t>(took.count(), 1));
        rows_ = static_cast<std::int64_t>(static_cast<double>(rows_) * std::clamp(factor, 0.25, 2.0));
        rows_ = std::clamp(rows_, least, most);
    }
    // Fetching is the cheaper half of a chunk: about 0.25 s with its apply.
    static constexpr std::chrono::microseconds target{80000};
    static constexpr std::int64_t least = 1, most = 200000;

  private:
    std::int64_t rows_ = 1000;
};

// Rows of the chunks that copiers plan ahead: grows or shrinks towards a time for copying one.
class AdaptiveRows {
  public:
    std::int64_t rows() const { return rows_; }
    void learn(std::int64_t rows, std::chrono::microseconds took, std::chrono::microseconds target) {
        if (rows < 1)
            return;
        const double per_row = static_cast<double>(std::max<std::int64_t>(took.count(), 1)) / static_cast<double>(rows);
        const double wanted = static_cast<double>(target.count()) / per_row;
        const double now = static_cast<double>(rows_);
        rows_ = std::clamp(static_cast<std::int64_t>(std::clamp(wanted, now / 4, now * 4)), least, most);
    }
    static constexpr std::int64_t least = 10, most = 5000000;

  private:
    std::int64_t rows_ = 500;
};

// Pause before the next look at the outboxes: none after work, then doubling.
class PollSchedule {
  public:
    using Millis = std::chrono::milliseconds;
    PollSchedule(Millis least, Millis most) : least_(least), most_(most), step_(least) {}
    void set(Millis least, Millis most) {
        least_ = least;
        most_ = std::max(least, most);
        step_ = std::clamp(step_, least_, most_);
    }
    void worked() { step_ = least_; }
    Millis next_pause() {
        const Millis pause = step_;
        step_ = std::min(most_, step_ * 2);
        return pause;
    }

  private:
    Millis least_, most_, step_;
};

} // namespace tandem::sync
