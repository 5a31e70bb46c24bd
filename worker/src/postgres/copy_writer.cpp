#include "postgres/copy_writer.hpp"

#include "log.hpp"

#include <algorithm>
#include <limits>

namespace tandem::postgres {
namespace {

constexpr std::size_t flush_at = 256 * 1024;

template <typename Integer> void append(std::string &out, Integer value) {
    for (int shift = static_cast<int>(sizeof(Integer)) * 8 - 8; shift >= 0; shift -= 8)
        out += static_cast<char>(static_cast<std::uint64_t>(value) >> shift & 0xff);
}

template <typename Integer> void append_field(std::string &out, Integer value) {
    append(out, static_cast<std::int32_t>(sizeof(Integer)));
    append(out, value);
}

void append_bytes(std::string &out, std::string_view bytes) {
    append(out, static_cast<std::int32_t>(bytes.size()));
    out.append(bytes);
}

} // namespace

CopyWriter::~CopyWriter() {
    if (!started_)
        return;
    try {
        if (!ended_)
            session_.copy_abort("batch given up by tandem-sync");
        session_.run("ROLLBACK");
    } catch (const core::Error &error) {
        // A lost session rolls back by itself; its owner meets the loss at the next call.
        log::debug("batch could not be rolled back", {{"error", error.what()}});
    }
}

void CopyWriter::start() {
    session_.copy_begin("BEGIN; COPY tandem.queue (batch_id, table_id, op, flags, age_us, key, image) FROM STDIN (FORMAT binary)");
    started_ = true;
    buffer_.assign("PGCOPY\n\377\r\n\0", 11);
    append(buffer_, std::int32_t{0}); // flags
    append(buffer_, std::int32_t{0}); // length of header extension
}

void CopyWriter::row(int table_id, char op, int flags, std::optional<std::int64_t> age_us, std::string_view key,
                     std::optional<std::string_view> image) {
    if (!started_)
        start();
    append(buffer_, std::int16_t{7});
    append_field(buffer_, batch_id_);
    append_field(buffer_, static_cast<std::int32_t>(table_id));
    append_bytes(buffer_, std::string_view(&op, 1));
    append_field(buffer_, static_cast<std::int16_t>(flags));
    if (age_us)
        append_field(buffer_, static_cast<std::int32_t>(std::clamp<std::int64_t>(*age_us, 0, std::numeric_limits<std::int32_t>::max())));
    else
        append(buffer_, std::int32_t{-1});
    append_bytes(buffer_, key);
    if (image)
        append_bytes(buffer_, *image);
    else
        append(buffer_, std::int32_t{-1});
    ++rows_;
    bytes_ += static_cast<std::int64_t>(key.size() + (image ? image->size() : 0));
    if (buffer_.size() >= flush_at) {
        session_.copy_data(buffer_);
        buffer_.clear();
        if (buffer_.capacity() > 8 * flush_at)
            buffer_.shrink_to_fit(); // one huge row must not keep its memory
    }
}

void CopyWriter::finish() {
    if (!started_)
        start();
    append(buffer_, std::int16_t{-1});
    session_.copy_data(buffer_);
    ended_ = true; // whether it worked or not, the COPY is over
    session_.copy_end();
    started_ = false; // from here the owner commits
}

} // namespace tandem::postgres
