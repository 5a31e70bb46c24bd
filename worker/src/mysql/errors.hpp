// The one place where errors of MySQL and MariaDB become core errors: lost session, retryable, or final.
#pragma once

#include "core/error.hpp"

#include <string>

namespace tandem::mysql {

enum class ErrorClass {
    session_lost, // the connection or its server-side session is gone
    retryable,    // the same statement may succeed later
    final
};

ErrorClass classify(unsigned native_code);

// Throws core::SessionLost or core::Error (side old_side). `doing` says what was tried, e.g. "reading events of table \"users\"".
[[noreturn]] void throw_error(unsigned native_code, const std::string &sqlstate, const std::string &message, const std::string &doing);

// Of writing rows. The server refuses the value itself; without strict mode it would change it.
bool is_value_error(int native_code);
bool is_duplicate(int native_code); // another row has the unique value
// An error of one row; the others (no such table, no right …) concern them all.
bool is_row_error(const core::Error &error);

} // namespace tandem::mysql
