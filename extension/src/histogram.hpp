// A histogram in shared memory for times in microseconds: eight buckets for every power of two, so a percentile is at most 6.3 % off.
// Counting needs no lock.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "port/atomics.h"
}

namespace tandem {

constexpr int histogram_octaves = 34; // up to 2^36 us, 19 hours
constexpr int histogram_buckets = (histogram_octaves + 1) * 8;

struct Histogram {
    pg_atomic_uint64 count[histogram_buckets];
};

void histogram_add(Histogram *histogram, std::int64_t us);

// The values below which the given shares (ascending) of all counted values lie, in microseconds; false when nothing was counted.
bool histogram_percentiles(Histogram *histogram, const double *shares, int n, double *us);

} // namespace tandem
