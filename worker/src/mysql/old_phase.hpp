// Text of what cut-over keeps on the old side (docs/old-side.md): one row per table with phase and epoch in the metadata database, and the
// fence, triggers that refuse writes. Pure text.
#pragma once

#include "core/types.hpp"
#include "mysql/capture_ddl.hpp"

#include <array>
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

} // namespace tandem::mysql
