// Conditions over keys in the order of the old side's own index: intervals (low, high] and lists. Text in the form of key_text.hpp goes in,
// SQL comes out. Pure text, tested without a server.
#pragma once

#include "core/types.hpp"

#include <string>
#include <vector>

namespace tandem::mysql {

using KeyText = std::vector<std::string>; // empty: no bound

struct KeyInterval {
    KeyText low;  // exclusive
    KeyText high; // inclusive
};

// "prefix.`id`" for a table, "k1" for its outbox: names of the key columns, one for each column of `key`.
std::vector<std::string> key_names_of(const std::vector<core::Column> &key, const std::string &prefix);
std::vector<std::string> outbox_key_names(std::size_t count);

// What a query for keys reads: the columns of the key; with labels among them (ENUM, SET) one of the row as well, so that the index alone does not
// serve it. MySQL 5.6 would rather read such an index from its beginning than search the values on one side of a bound.
std::vector<core::Column> columns_for_keys(const core::TableConfig &table);

// " WHERE …" or empty. Throws core::Error (22023) for text that is no value of its column.
std::string interval_condition(const std::vector<core::Column> &key, const std::vector<std::string> &names, const KeyInterval &interval);

// Condition for these keys, not empty: an IN list or an OR of ANDs, which MySQL 5.6 serves from an index (it does not for a row
// constructor). Keys with text that is no value of its column are left out; empty when none is left.
std::string list_condition(const std::vector<core::Column> &key, const std::vector<std::string> &names, const std::vector<KeyText> &keys);

} // namespace tandem::mysql
