#include "mysql/row_values.hpp"

#include "core/geometry.hpp"

namespace tandem::mysql {

RowValues decode_image(const core::TableConfig &table, const std::vector<core::ImageType> &types, const std::string &image,
                       const std::vector<bool> &wanted) {
    RowValues values;
    const auto fields = core::decode::tuple(image);
    if (!fields || fields->size() != table.columns.size()) {
        values.error = "image does not have the columns of the table";
        values.sqlstate = "22P03";
        return values;
    }
    values.of.resize(types.size());
    for (std::size_t i = 0; i < types.size(); ++i) {
        if (!wanted[i])
            continue;
        if (const auto error = core::decode::value(values.of[i], types[i], (*fields)[i])) {
            values.error = "column \"" + table.columns[i].name + "\": " + error->message;
            values.sqlstate = error->sqlstate;
            return values;
        }
        if (values.of[i].kind != core::OldValue::Kind::bytes || !core::is_spatial(table.columns[i].data_type))
            continue;
        auto stored = core::stored_of_ewkb(values.of[i].bytes);
        if (!stored) {
            values.error = "column \"" + table.columns[i].name + "\": bytes that are no geometry of two dimensions";
            values.sqlstate = "22P03";
            return values;
        }
        values.of[i].bytes = std::move(*stored);
    }
    return values;
}

} // namespace tandem::mysql
