// Streams the rows of one statement over the binary protocol, unbuffered, and encodes them into images. Buffers are made once per
// statement and grow only for values larger than any before. The Client must outlive the reader and run nothing else meanwhile.
#pragma once

#include "core/encode.hpp"
#include "core/typemap.hpp"
#include "core/types.hpp"
#include "mysql/client.hpp"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::mysql {

class RowReader {
  public:
    // `columns` describe the select list in order: data_type decides how a value is fetched, image_type how it is encoded.
    RowReader(Client &client, const std::string &sql, const std::vector<core::Column> &columns, std::string doing);

    bool next(); // false: no more rows

    // Appends fields first … first + count - 1 as a tuple. On failure `out` is as it was before.
    std::optional<core::Untranslatable> encode(std::string &out, std::size_t first, std::size_t count) const;

    std::int64_t integer(std::size_t field) const { return slots_[field].integer; }
    bool is_null(std::size_t field) const { return slots_[field].null != 0; }
    // The value as text, close to its image type's output but also for values that have no image: for cursors and messages.
    std::string text(std::size_t field) const;

  private:
    enum class Fetch { integer, real, double_precision, temporal, bytes };
    struct Slot {
        std::string column;
        core::ImageType type;
        Fetch fetch = Fetch::bytes;
        bool is_unsigned = false;
        std::int64_t integer = 0;
        float real = 0;
        double number = 0;
        MYSQL_TIME time{};
        std::string bytes; // capacity as size(); the value's length is in `length`
        unsigned long length = 0;
        my_bool null = 0;
        my_bool truncated = 0;
    };
    struct Close {
        void operator()(MYSQL_STMT *statement) const { mysql_stmt_close(statement); }
    };

    void bind(std::size_t field);
    void fetch_long_values();
    core::encode::Result encode_field(std::string &out, const Slot &slot) const;
    [[noreturn]] void fail() const;

    std::unique_ptr<MYSQL_STMT, Close> statement_;
    std::vector<Slot> slots_;
    std::vector<MYSQL_BIND> binds_;
    std::string doing_;
};

// A helper column of ours in a select list, e.g. tandem_id.
core::Column plain_integer(const std::string &name);

} // namespace tandem::mysql
