// See histogram.hpp.
#include "histogram.hpp"

namespace tandem {

namespace {

// Values 0 to 7 have a bucket each; above, a bucket is an eighth of a power of two.
int bucket_of(std::int64_t us) {
    if (us < 0)
        us = 0;
    const std::uint64_t value = static_cast<std::uint64_t>(us);
    if (value < 8)
        return static_cast<int>(value);
    const int octave = 63 - __builtin_clzll(value) - 3; // 0 for 8 to 15
    const int bucket = 8 + octave * 8 + static_cast<int>((value >> octave) & 7);
    return Min(bucket, histogram_buckets - 1);
}

double middle_of(int bucket) {
    if (bucket < 8)
        return bucket;
    const int octave = (bucket - 8) / 8;
    const std::uint64_t lowest = static_cast<std::uint64_t>(8 + (bucket - 8) % 8) << octave;
    return static_cast<double>(lowest) + static_cast<double>((static_cast<std::uint64_t>(1) << octave) - 1) / 2;
}

} // namespace

void histogram_add(Histogram *histogram, std::int64_t us) { pg_atomic_fetch_add_u64(&histogram->count[bucket_of(us)], 1); }

bool histogram_percentiles(Histogram *histogram, const double *shares, int n, double *us) {
    std::uint64_t counts[histogram_buckets];
    std::uint64_t total = 0;
    for (int i = 0; i < histogram_buckets; i++) {
        counts[i] = pg_atomic_read_u64(&histogram->count[i]);
        total += counts[i];
    }
    if (total == 0)
        return false;
    int bucket = 0;
    std::uint64_t below = counts[0];
    for (int i = 0; i < n; i++) {
        const double wanted = shares[i] * static_cast<double>(total);
        while (static_cast<double>(below) < wanted && bucket < histogram_buckets - 1)
            below += counts[++bucket];
        us[i] = middle_of(bucket);
    }
    return true;
}

} // namespace tandem
