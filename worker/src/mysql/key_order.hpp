// SQL conditions over a key in the order of the old side's own index. Order and equality are the old side's: its collations, its numbers of
// ENUM and SET. Pure text, tested without a server.
#pragma once

#include "core/chunks.hpp"
#include "core/types.hpp"

#include <string>
#include <vector>

namespace tandem::mysql {

// `names` are the SQL of the key columns, such as t.`id` or k1; `bound` is a key in text form. Throws core::Error if it is no key.
std::string after_key(const std::vector<core::Column> &key, const std::vector<std::string> &names, const std::vector<std::string> &bound);
std::string up_to_key(const std::vector<core::Column> &key, const std::vector<std::string> &names, const std::vector<std::string> &bound);

// Integer expression: what the interval of a key says.
std::string interval_of_key(const std::vector<core::Column> &key, const std::vector<std::string> &names,
                            const std::vector<core::ChunkInterval> &intervals);

} // namespace tandem::mysql
