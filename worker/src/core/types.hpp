// What the worker knows of sources, tables and columns. Pure data: filled from tandem.worker_tables (docs/protocol.md 5.1).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tandem::core {

// What to do with a value that PostgreSQL cannot hold (docs/protocol.md section 11).
enum class Policy { dead_letter, null, value, sidecar };

struct Column {
    std::string name;
    std::string mysql_type; // as in information_schema.COLUMN_TYPE
    std::string data_type;  // as in information_schema.DATA_TYPE, lower case
    bool is_unsigned = false;
    bool nullable = true;
    bool generated = false; // the server computes it
    std::string charset;    // empty for non-text
    std::string collation;  // empty for non-text
    std::string image_type; // PostgreSQL type that carries the value, e.g. "numeric(10,2)"
    Policy policy = Policy::dead_letter;
    std::string policy_image; // Policy::value: the declared value in the image type's binary format
    bool mapped = true;       // the target, or the filter, has something of it
    bool gone = false;        // not read any more (dropped or altered on the old side, and not mapped): NULL in images
};

// A foreign key with ON UPDATE CASCADE whose columns overlap the child's key (docs/protocol.md section 7).
struct KeyCascade {
    int child_table_id = 0;
    std::string child;
    std::string child_outbox;
    std::vector<std::string> child_key_columns;
    std::vector<std::string> columns;     // of the child
    std::vector<std::string> ref_columns; // of the parent
};

// A table that is copied anew because capture was lost, or was asked to be (docs/protocol.md section 17).
struct Resync {
    std::int64_t loss = 0; // counts the losses of the table; 0: there was none
    std::string phase;     // due, copying, sweeping; empty or done: none under way
    std::string reason;
    bool under_way() const { return !phase.empty() && phase != "done"; }
};

// How rows of a table are compared (docs/protocol.md section 14). Mode none: they cannot be, `reason` says why.
struct DigestPlan {
    enum class Mode { none, fast, evaluated };
    struct Item {
        int ordinal = 0;         // of the image's field, from 1
        std::string value_class; // int, numeric, text …
    };
    Mode mode = Mode::none;
    bool range = false; // the key sorts alike on both sides
    bool parts = false; // PostgreSQL can sum up parts of a range
    std::string reason;
    std::vector<Item> columns; // in order of hashing
};

struct TableConfig {
    int table_id = 0;
    std::string name;
    std::string outbox;
    std::string trigger_suffix;
    bool has_triggers = true;  // else all writers come through PostgreSQL, which asks for the rows
    std::string desired_state; // registered, running, paused, dropped
    std::string state;         // table_state.state
    std::string phase;         // docs/phases.md
    bool backfill_done = false;
    std::string backfill_mode;                // direct, ordered, or empty: not begun
    std::vector<std::string> backfill_cursor; // last applied key in text form; empty = from the start
    std::vector<std::string> key_columns;
    std::vector<Column> columns;
    std::vector<std::string> referenced_columns; // of this table, by cascading foreign keys
    std::vector<std::string> cascade_parents;    // tables whose cascades change this one
    std::vector<KeyCascade> key_cascades;
    std::string identity; // JSON: what capture was known by when it was last complete; empty: not noted
    Resync resync;
    DigestPlan digest;
    std::string shape; // changes when what is compared, and how, changes
};

// Whether the rows of the old side are the right ones. Else the table is not captured, and the way is back.
inline bool old_is_truth(const TableConfig &table) {
    return table.phase != "new_primary" && table.phase != "closing" && table.phase != "contracted";
}

struct SourceConnection {
    int source_id = 0;
    std::string name;
    std::string database;
    std::string metadata_database = "tandem";
    std::string host;
    unsigned port = 3306;
    std::string username;
    std::string password;     // already resolved from password_ref
    std::string tls = "auto"; // auto, verify, disable
    std::string ssl_ca, ssl_capath, ssl_cert, ssl_key, ssl_cipher;
};

// Exact set of outbox ids, kept as maximal runs of consecutive ids *every one of which was read*.
// Used for exact deletion (model A: delete_exact) and to leave out ids in flight. Never holds an id that was not added.
class IdSet {
  public:
    struct Run {
        std::uint64_t first;
        std::uint64_t last;
    };
    void add(std::uint64_t id); // any order, duplicates allowed
    void merge(const IdSet &other);
    bool contains(std::uint64_t id) const;
    bool empty() const { return runs_.empty(); }
    std::uint64_t count() const;
    std::vector<Run> runs() const; // ascending
    void clear() { runs_.clear(); }

  private:
    std::map<std::uint64_t, std::uint64_t> runs_; // first → last
};

// One changed key of a snapshot: all its events in that snapshot taken together.
struct KeyEvent {
    std::string key;         // key bytes, docs/protocol.md section 2
    bool key_error = false;  // a key value that has no image (key then holds the text); becomes op X
    int flags = 0;           // 1 and 2: see queue.flags
    std::int64_t age_us = 0; // oldest event, by the old side's clock
};

struct EventSet {
    IdSet ids;
    std::vector<KeyEvent> keys;       // distinct by key bytes, order of first event
    std::map<int, IdSet> not_started; // events of chunks that were not started when their states were read, by chunk: no keys
    bool limited = false;             // the limit was reached: there may be more events in the snapshot
};

// A value that PostgreSQL cannot hold as its image type; the row travels as op X.
struct Untranslatable {
    std::string column;
    std::string sqlstate; // of the error PostgreSQL would raise: 22008, 22021, 22003 …
    std::string message;  // without the value itself if it may be long or secret
};

// Bit of queue.flags: the image has one field more, the losses (docs/protocol.md section 11).
constexpr int flag_losses = 8;

} // namespace tandem::core
