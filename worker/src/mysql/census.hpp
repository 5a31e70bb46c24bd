// Question "census" (docs/protocol.md section 12): looks at every value of an old table in slices by ranges of its key, so that it holds
// no snapshot, can be cancelled between slices, and leaves the old side room to breathe.
#pragma once

#include "core/types.hpp"

#include <functional>
#include <nlohmann/json.hpp>

namespace tandem::mysql {

// Takes one row of the answer; false when nobody waits for it any more, which ends the census.
using CensusSink = std::function<bool(const nlohmann::json &row)>;

// In a session of its own. `question`: {"table": "t", "key": ["id"], "sample": 3, "limits": …}; without a key the table is read in one
// statement and there are no samples.
void take_census(const core::SourceConnection &connection, const nlohmann::json &question, const CensusSink &sink);

} // namespace tandem::mysql
