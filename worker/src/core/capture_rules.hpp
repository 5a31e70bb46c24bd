// What the capture guard saw of an old table, and what it means: pure rules, no I/O (docs/protocol.md section 17). The identity of a table
// is what it is known by when capture is complete; it is kept in PostgreSQL and compared with every later sight.
#pragma once

#include "core/types.hpp"

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace tandem::core {

struct SeenColumn {
    std::string name, mysql_type, charset, collation;
    bool nullable = true;
    std::string rest; // default, extra, comment: only to tell whether anything was altered
};

struct SeenTrigger {
    std::string name, table, event, timing;
    std::string text; // hash of body, sql_mode, definer and time of creation
};

struct SeenTable {
    bool exists = false;
    std::string engine, created, rest;
    std::uint64_t auto_increment = 0; // 0: none
    std::uint64_t bytes = 0;
    std::vector<SeenColumn> columns;
    std::map<std::string, std::vector<std::string>> unique_keys; // of whole NOT NULL columns
    std::string indexes;                                         // all of them, only to tell whether anything was altered
    std::vector<SeenTrigger> triggers;                           // ours, wherever they are
    std::map<std::string, std::string> numbers;                  // InnoDB's: "" or the partition → number
    std::vector<std::string> outbox_columns;                     // name, type and collation; empty: there is no outbox
    std::string outbox_number;
    std::uint64_t gaps = 0;
};

struct SeenSource {
    std::string server;            // what tells this server from another
    bool numbers_readable = false; // PROCESS is granted
    bool gap_table = false;
    std::uint64_t uptime = 0;        // seconds
    std::map<int, SeenTable> tables; // by table_id
};

struct CaptureFault {
    std::string
        cause; // for the catalog: truncated, rebuilt, partitions, trigger, outbox, gap, swapped, dropped, engine, column, key, server …
    std::string reason;     // for people, with the way out
    bool automatic = false; // copying anew makes everything well; else somebody must look first
};

// What is known from the look before, for servers that do not show InnoDB's numbers.
struct LastSight {
    std::uint64_t auto_increment = 0;
    std::uint64_t bytes = 0;
    bool known = false;
    std::uint64_t uptime = 0;
};

// The first thing that is wrong, the gravest first. `identity` is JSON, empty while capture was never complete.
std::optional<CaptureFault> judge(const TableConfig &table, const SeenSource &source, const SeenTable &seen, const std::string &identity,
                                  const LastSight &last);

// Of a table whose source of truth is the new side, so that nobody looks at its capture: whether it may have other rows now than were written
// there. `identity` is that of the time when the old side was the source of truth.
std::optional<CaptureFault> judge_contents(const TableConfig &table, const SeenSource &source, const SeenTable &seen,
                                           const std::string &identity);

nlohmann::json identity_of(const SeenSource &source, const SeenTable &seen);

// Columns that are not as they were when the table was added: [{"column","change","old_type","new_type","mapped"}], change added, dropped,
// altered or nullability.
nlohmann::json column_changes(const TableConfig &table, const SeenTable &seen);

// The same type for all that is stored: display widths of integers and the two names of utf8 aside.
bool same_type(const Column &column, const SeenColumn &seen);

} // namespace tandem::core
