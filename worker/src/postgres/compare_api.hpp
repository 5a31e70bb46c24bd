// Typed calls of what the extension offers for reconciliation (docs/protocol.md sections 13 and 14). Two sessions are at work for a chunk:
// NewSide holds P, in which the target is read; RunApi sees later states (T) and keeps the run. Neither is thread-safe.
#pragma once

#include "core/row_digest.hpp"
#include "postgres/session.hpp"

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace tandem::postgres {

using KeyText = std::vector<std::string>; // empty: no bound

struct KeyHash {
    std::string key; // key bytes
    core::Hash128 hash;
    bool comparable = true; // false: what apply would write cannot be computed
};

struct NextKey {
    std::string key;
    KeyText text;
};

std::string hex_of(std::string_view bytes); // lower case, no prefix
std::string bytes_of(std::string_view hex);

// The session that holds P.
class NewSide {
  public:
    NewSide(const std::string &conninfo, const std::string &application_name, Abandon abandon);

    // snapshot_p. The text of P, or nullopt (and no transaction) when the table cannot be compared now.
    std::optional<std::string> begin_snapshot(int table_id);
    void end_snapshot();

    // Digest of (low, high], in the background: send, then receive once.
    void send_chunk(int table_id, const std::string &secret, const KeyText &low, const KeyText &high);
    core::ChunkSum receive_chunk();
    // The same by parts, which begin at `starts` (keys of one column): one sum more than there are starts.
    void send_parts(int table_id, const std::string &secret, const KeyText &low, const KeyText &high,
                    const std::vector<std::string> &starts);
    std::vector<core::ChunkSum> receive_parts(std::size_t starts);
    void send_keys(int table_id, const std::string &secret, const std::vector<std::string> &keys);
    std::vector<KeyHash> receive_keys();

    std::vector<KeyHash> rows(int table_id, const std::string &secret, const KeyText &low, const KeyText &high);
    // The same for several intervals (low, high] of a key of one column: the rows of each.
    std::vector<std::vector<KeyHash>> rows_of(int table_id, const std::string &secret, const std::vector<KeyText> &lows,
                                              const std::vector<KeyText> &highs);
    std::vector<NextKey> next_keys(int table_id, const KeyText &after, std::size_t limit);
    // One object for each key that differs, as report_chunk takes it. No image: the old side has no such row.
    std::vector<nlohmann::json> differences(int table_id, const std::vector<std::string> &keys,
                                            const std::vector<std::optional<std::string>> &images);

  private:
    Session session_;
};

struct Pass {
    std::int64_t run_id = 0;
    std::string secret; // bytes
    nlohmann::json cursor;
};

// Runs and later states, on a session that has said hello.
class RunApi {
  public:
    explicit RunApi(Session &session) : session_(session) {}

    Pass begin_pass(int table_id, const nlohmann::json &options);
    nlohmann::json report_chunk(std::int64_t run_id, const nlohmann::json &chunk, const nlohmann::json &discrepancies);
    nlohmann::json end_pass(std::int64_t run_id, const std::string &state, const std::string &error);
    nlohmann::json work(int source_id);

    // T: reason by key, for those of `keys` that are journalled after P or wait somewhere.
    std::map<std::string, std::string> in_flight(int table_id, const std::string &p, const std::vector<std::string> &keys);
    std::map<std::string, std::string> waiting(int table_id, const std::string &p); // those that wait, of the whole table
    std::int64_t journalled_after(int table_id, const std::string &p);
    bool verdict_stands(int table_id, const std::string &p);
    // Of what apply would write; rows that the table's filter leaves out are not among the answers.
    std::vector<KeyHash> digest_images(int table_id, const std::string &secret, const std::vector<std::string> &keys,
                                       const std::vector<std::optional<std::string>> &images);

  private:
    Session &session_;
};

} // namespace tandem::postgres
