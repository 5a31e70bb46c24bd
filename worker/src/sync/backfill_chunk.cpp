// One chunk: from the mark, which is committed, to its rows and "done" in one transaction. See backfill.hpp.
#include "sync/backfill.hpp"

#include "core/encode.hpp"
#include "core/error.hpp"
#include "log.hpp"
#include "sync/backfill_sessions.hpp"
#include "sync/batch.hpp"
#include "sync/failpoint.hpp"

namespace tandem::sync {
namespace {

constexpr std::size_t block_bytes = 1 << 20; // of rows in one call; two blocks per copier are under way

template <typename Integer> void append(std::string &out, Integer value) {
    for (int shift = static_cast<int>(sizeof(Integer)) * 8 - 8; shift >= 0; shift -= 8)
        out += static_cast<char>(static_cast<std::uint64_t>(value) >> shift & 0xff);
}

void append_row(std::string &block, char op, int flags, std::string_view key, std::string_view image) {
    block += op;
    append(block, static_cast<std::int16_t>(flags));
    append(block, static_cast<std::int32_t>(key.size()));
    block += key;
    append(block, static_cast<std::int32_t>(image.size()));
    block += image;
}

std::chrono::microseconds since(Clock::time_point start) {
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
}

} // namespace

// After a piece of work: what the pace and the budget of rows leave to others. False: the table is not to be copied any more.
bool Backfill::make_way(Table &table, std::int64_t rows, std::chrono::microseconds worked) {
    Clock::time_point until;
    int budget = 0;
    {
        const std::lock_guard lock(mutex_);
        until = next_work(rows, worked, Clock::now());
        budget = budget_;
    }
    for (;;) {
        if (stop_.requested() || !table.wanted || !lease_->held())
            return false;
        {
            const std::lock_guard lock(mutex_);
            if (budget != budget_)
                return true;
        }
        const auto left = std::chrono::duration_cast<Millis>(until - Clock::now());
        if (left.count() <= 0)
            return true;
        stop_.wait_for(std::min(left, Millis(100)));
    }
}

// Returns what the pace does not know of yet, which the caller waits for with nothing in hand: only between the blocks of a large chunk has it to
// wait with the rows and the snapshot held.
Backfill::Copied Backfill::copy_chunk(Sessions &sessions, Table &table, const postgres::MarkedChunk &marked) {
    const int table_id = table.config.table_id;
    const int chunk = *marked.chunk;
    const std::int64_t epoch = lease_->epoch();
    failpoint("backfill:after_mark_chunk");
    Clock::time_point started = Clock::now();
    std::chrono::microseconds worked{0};
    std::int64_t rows = 0, bytes = 0, rows_in_block = 0, plain = 0;
    bool sent = false;
    std::string block;
    block.reserve(block_bytes + block_bytes / 4);

    const auto take_written = [&] {
        if (std::exchange(sent, false))
            plain += sessions.api.take_written();
    };
    // PostgreSQL works on a block while the next one is read.
    const auto send = [&] {
        take_written();
        failpoint("backfill:in_read_chunk");
        sessions.api.write_chunk(table_id, chunk, marked.attempt, epoch, block);
        sent = true;
        block.clear();
        if (block.capacity() > 4 * block_bytes)
            block.shrink_to_fit();
    };
    const auto pause = [&] {
        worked += since(started);
        if (!make_way(table, std::exchange(rows_in_block, 0), since(started)))
            throw Abandoned{};
        started = Clock::now();
    };

    sessions.source.begin_snapshot(); // read_chunk
    failpoint("backfill:after_snapshot");
    sessions.api.session().run("BEGIN");
    sessions.source.read_range(
        table.config, marked.low, marked.high, [&](std::string_view key, std::string_view image, const core::Untranslatable *bad) {
            if (bad != nullptr)
                append_row(block, 'X', flag_backfill, key, untranslatable_json(*bad));
            else
                append_row(block, 'U', flag_backfill | (core::has_losses(image) ? core::flag_losses : 0), key, image);
            ++rows;
            ++rows_in_block;
            bytes += static_cast<std::int64_t>(image.size());
            if (block.size() >= block_bytes) {
                send();
                pause();
            }
        });
    sessions.source.end_snapshot();
    if (!block.empty())
        send();
    take_written();
    sessions.source.make_durable();
    failpoint("backfill:before_end_chunk");
    sessions.api.end_chunk(table_id, chunk, marked.attempt, epoch, rows, bytes);
    failpoint("backfill:before_commit");
    sessions.api.session().run("COMMIT");
    failpoint("backfill:after_commit");

    const std::chrono::microseconds last = since(started);
    worked += last;
    const std::lock_guard lock(mutex_);
    table.rows += rows;
    table.bytes += bytes;
    table.merged += rows - plain;
    if (marked.high)
        table.size.learn(rows, worked, settings_.backfill_chunk);
    return {rows_in_block, last};
}

} // namespace tandem::sync
