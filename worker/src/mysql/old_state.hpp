// What a cut-over wants to know of the old side beforehand, and the doctor afterwards: answers the question "old_state".
#pragma once

#include "core/types.hpp"

#include <nlohmann/json_fwd.hpp>

namespace tandem::mysql {

// `question.tables`: [{"name": …, "suffix": …}].
nlohmann::json old_state(const core::SourceConnection &connection, const nlohmann::json &question);

} // namespace tandem::mysql
