// The values of an image as MySQL takes them: the way back of the encoding, column by column.
#pragma once

#include "core/decode.hpp"
#include "core/types.hpp"
#include "core/typemap.hpp"

#include <string>
#include <vector>

namespace tandem::mysql {

struct RowValues {
    std::vector<core::OldValue> of; // one for each column; those that are not wanted are empty
    std::string error;              // not empty: MySQL has no such value
    std::string sqlstate;
};

// `types` are those of the table's columns, `wanted` says which of them are decoded.
RowValues decode_image(const core::TableConfig &table, const std::vector<core::ImageType> &types, const std::string &image,
                       const std::vector<bool> &wanted);

} // namespace tandem::mysql
