// Small pieces of SQL that several files need: quoted names, lists, conditions over ids and keys. Pure text, tested without a server.
#pragma once

#include "core/types.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace tandem::mysql {

std::string quote_name(std::string_view name);                            // `name`
std::string quote_name(std::string_view database, std::string_view name); // `database`.`name`
std::string quote_text(std::string_view text);                            // '…' for any sql_mode and character set: hexadecimal
std::string key_column(std::size_t position);                             // k1, k2 …: names of key columns in an outbox
std::string child_alias(int table_id);                                    // of the child of a cascade, unique over all tables
std::string join(const std::vector<std::string> &parts, std::string_view separator);

// "tandem_id BETWEEN 1 AND 5 OR tandem_id IN (7, 9)" over `runs`, which must not be empty.
std::string ids_condition(const std::vector<core::IdSet::Run> &runs, std::string_view column);

// The complement, as ranges that an index can serve: "tandem_id < 1 OR (tandem_id > 5 AND tandem_id < 7) OR …".
std::string other_ids_condition(const std::vector<core::IdSet::Run> &runs, std::string_view column);

// Deletes of events. Neither may look at a row that is not ours: it may be an event that the application has not committed yet, and we
// would wait for its lock. A range reads one record beyond its end, so LIMIT ends it; and an IN list is turned into a scan of the whole
// outbox when that looks cheaper, even with FORCE INDEX, so single ids are looked up one by one from a list.
std::string delete_run(const std::string &outbox, const core::IdSet::Run &run);
std::string delete_each(const std::string &outbox, const std::vector<std::uint64_t> &ids); // not empty

// Cuts runs so that each slice holds at most `max_ids` ids in at most `max_runs` runs. Only cuts: no id is added or lost.
std::vector<std::vector<core::IdSet::Run>> slices(const core::IdSet &ids, std::uint64_t max_ids, std::size_t max_runs);

// (columns) > (values) in index order, OR-expanded: MySQL 5.6 does not use an index for a row comparison. The redundant first
// condition gives the optimizer one plain range on the leading column.
std::string after_condition(const std::vector<std::string> &columns, const std::vector<std::string> &values);

} // namespace tandem::mysql
