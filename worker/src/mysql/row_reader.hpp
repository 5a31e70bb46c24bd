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
    // `columns` describe the select list, which select_list wrote, in order: data_type decides how a value is fetched, image_type how it
    // is encoded.
    RowReader(Client &client, const std::string &sql, const std::vector<core::Column> &columns, std::string doing);

    bool next(); // false: no more rows

    // Appends fields first … first + count - 1 as a tuple. On failure `out` is as it was before. For keys: every value exact, or none.
    std::optional<core::Untranslatable> encode(std::string &out, std::size_t first, std::size_t count) const;

    // Appends the first `count` fields as the image of a row: a value that PostgreSQL cannot hold is replaced as the policy of its column
    // says, and noted in one more field (docs/protocol.md section 11).
    std::optional<core::Untranslatable> encode_image(std::string &out, std::size_t count) const;

    std::int64_t integer(std::size_t field) const { return slots_[field].integer; }
    bool is_null(std::size_t field) const { return slots_[field].null != 0; }
    // The value as text, close to its image type's output but also for values that have no image: for cursors and messages.
    std::string text(std::size_t field) const;

  private:
    enum class Fetch { integer, real, double_precision, temporal, bytes };
    struct Slot {
        std::string column;
        core::ImageType type;
        std::string charset;
        bool spatial = false;
        bool ascii = false;
        bool mapped = true;
        core::Policy policy = core::Policy::dead_letter;
        std::string policy_image;
        std::size_t stored = 0; // slot of the bytes as stored, 0: this one
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
    void add_stored_bytes(std::size_t of, const core::Column &column);
    core::encode::Result encode_field(std::string &out, const Slot &slot) const;
    core::encode::Result encode_text(std::string &out, const Slot &slot) const;
    core::encode::Result encode_geometry(std::string &out, std::string_view stored) const;
    std::string_view bytes_of(const Slot &slot) const { return {slot.bytes.data(), slot.length}; }
    std::string original_bytes(std::size_t field) const;
    core::Untranslatable refusal(std::size_t field, const core::ValueError &error) const;
    [[noreturn]] void fail() const;

    std::unique_ptr<MYSQL_STMT, Close> statement_;
    std::vector<Slot> slots_;
    std::vector<MYSQL_BIND> binds_;
    bool rebind_ = false; // binds_ has changed since the statement was told
    std::string doing_;
};

// Select list for a RowReader over `columns`, whose SQL names or expressions are `sources`.
std::string select_list(const std::vector<core::Column> &columns, const std::vector<std::string> &sources);

// Stands for a key that has no image: something to show and to match an event with its row. No two keys have the same, and no tuple does,
// whose first byte is the high one of its number of fields.
std::string readable_key(const RowReader &reader, std::size_t first, std::size_t count);

// A helper column of ours in a select list, e.g. tandem_id.
core::Column plain_integer(const std::string &name);

} // namespace tandem::mysql
