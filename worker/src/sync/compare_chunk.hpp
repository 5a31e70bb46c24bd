// One chunk of a reconciliation, one verdict: the steps of docs/protocol.md section 14 and docs/model/c_reconcile.pml, by their names.
//
//   snapshot_p (PostgreSQL, digest begins) → snapshot_s (old side, rows and Q) → compare → snapshot_t (J and W) → verdict
//
// P strictly before S. A key that differs is a confirmed divergence unless it is in Q, J or W, or may be the child of a cascade on its way;
// then it is in flight. When anything throws, both sessions are in an unknown state: their owner must throw them away.
#pragma once

#include "core/row_digest.hpp"
#include "core/typemap.hpp"
#include "core/types.hpp"
#include "mysql/compare_session.hpp"
#include "postgres/compare_api.hpp"
#include "sync/chunk_rows.hpp"
#include "sync/compare_parts.hpp"
#include "sync/stop.hpp"

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace tandem::sync {

struct Verdict {
    bool skipped = false;   // the table cannot be compared now
    bool discarded = false; // the journal was pruned meanwhile, or the table changed: look again
    std::int64_t old_rows = 0, new_rows = 0, verified = 0;
    std::map<std::string, std::string> in_flight; // key → reason: differs, and is on its way
    std::vector<nlohmann::json> confirmed;        // as tandem.report_chunk takes them
    std::vector<std::string> equal;               // of keys looked at one by one: equal and not in flight
    std::int64_t old_us = 0;                      // time in which the old side had work
};

// What both snapshots of a chunk are read through. The sessions must outlive it.
struct Sides {
    postgres::NewSide &fresh;
    postgres::RunApi &runs;
    mysql::CompareSession &old;
    std::function<std::string(int table_id)> shape_now; // core::TableConfig::shape, as it is now
};

class ChunkComparer {
  public:
    // `ancestors`: tables whose cascades reach this one over any number of steps.
    ChunkComparer(Sides sides, core::TableConfig table, std::vector<core::TableConfig> ancestors, std::string secret);

    // Everything that both sides have in the interval. For keys that sort alike on both sides.
    Verdict range(const mysql::KeyInterval &interval);

    // Rows of the old side in the interval, and the new side's rows of the same keys. `interval.high` empty: to the end.
    Verdict forward(const mysql::KeyInterval &interval, std::uint64_t most_rows);

    // Are the new side's next keys on the old side? Sets `after` to the last one, and `end` when there are no more.
    Verdict backward(mysql::KeyText &after, std::size_t limit, bool &end);

    // These keys, whatever their place.
    Verdict list(const std::vector<std::string> &keys);

    // Which of these keys differ while neither side moves: the old tables are locked, everything is applied. Without snapshots.
    std::vector<Suspect> standing(const std::vector<std::string> &keys);

    const core::TableConfig &table() const { return table_; }

  private:
    bool begin(Verdict &verdict);
    void end();
    mysql::RowSink collect(OldRows &rows);
    void read_old(const std::vector<std::string> &keys, OldRows &rows);
    void flush(OldRows &rows);
    void compare_even_parts(const EvenParts &parts, const std::vector<core::ChunkSum> &sums, const OldRows &old,
                            std::vector<Suspect> &suspects);
    void compare_small_parts(const mysql::KeyInterval &interval, const OldRows &old, std::vector<Suspect> &suspects);
    void compare_parts(const DifferingRows &rows, const OldRows &old, std::vector<Suspect> &suspects);
    void compare_interval(const mysql::KeyInterval &interval, const OldRows &old, std::vector<Suspect> &suspects);
    // Q, T: what is left when everything in flight is taken out of `suspects`.
    void judge(const mysql::KeyInterval &interval, std::vector<Suspect> &suspects, Verdict &verdict);
    void confirm(const std::vector<Suspect> &suspects, const OldRows &old, Verdict &verdict);
    void settle(const std::vector<Suspect> &suspects, Verdict &verdict);
    std::optional<std::vector<Suspect>> look(const std::vector<std::string> &keys, bool last, Verdict &verdict);
    void count_verified(const mysql::KeyInterval &interval, const OldRows &old, std::size_t suspects, Verdict &verdict);
    bool cascade_under_way();

    Sides sides_;
    const core::TableConfig table_;
    const std::vector<core::TableConfig> ancestors_;
    const std::size_t moves_; // from requests to outboxes, on the longest way a change may take to this table
    const std::string secret_;
    std::unique_ptr<core::RowDigest> digest_; // mode fast
    std::vector<core::ImageType> key_types_;
    bool integer_key_ = false;         // of one column
    bool expects_differences_ = false; // the chunk before had some
    std::size_t last_rows_ = 0;        // of the chunk before
    std::string p_;                    // text of the snapshot in hand
    // Mode evaluated: rows whose hash must be asked for.
    std::vector<std::string> waiting_keys_;
    std::vector<std::optional<std::string>> waiting_images_;
    std::size_t waiting_bytes_ = 0;
};

} // namespace tandem::sync
