// Text of what cut-over keeps on the old side (docs/old-side.md): one row per table with phase and epoch in the metadata database, and the
// fence, triggers that refuse writes. Pure text.
#pragma once

#include "core/types.hpp"
#include "mysql/capture_ddl.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace tandem::mysql {

std::string phase_table(const core::SourceConnection &connection); // quoted name
std::string create_phase_table(const core::SourceConnection &connection);
// One more; the row is made if it is missing.
std::string bump_phase_epoch(const core::SourceConnection &connection, const core::TableConfig &table);
std::string forget_phase(const core::SourceConnection &connection, const core::TableConfig &table);

// User variable by which a session of tandem-sync tells capture and fence of a table that it writes back what the new side has. Its name
// holds the table's suffix, which is random for every new database, so no application sets it by accident.
std::string unseen_variable(const core::TableConfig &table);

// The fence: BEFORE triggers that refuse every write but those of tandem-sync. Their names carry the epoch of the attempt that made them.
// Where the server allows one trigger for a timing and event and the application has it, an AFTER trigger takes the place of our capture.
struct Fence {
    std::string name;
    std::string suffix; // trigger_suffix of the table
    std::string table;
    std::string event;
    std::uint64_t epoch = 0;
    bool after = false;
};

inline constexpr std::array<const char *, 3> fence_events{"INSERT", "UPDATE", "DELETE"};

std::string fence_name(const core::TableConfig &table, const std::string &event, std::uint64_t epoch);
// nullopt: not the name of a fence.
std::optional<Fence> parse_fence_name(const std::string &name);
std::string create_fence(const core::SourceConnection &connection, const core::TableConfig &table, const std::string &event,
                         std::uint64_t epoch, bool after, const std::string &moved_to);

} // namespace tandem::mysql
