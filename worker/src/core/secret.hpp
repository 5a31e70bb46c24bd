// Passwords by reference: file:/path or env:NAME on the worker's host, so that no catalog holds them.
#pragma once

#include <string>

namespace tandem::core {

// Throws core::Error. A file must be a regular file that only its owner (root or this process's user) can read; one trailing newline
// is not part of the password. No message contains any part of the content.
std::string resolve_password(const std::string &reference);

} // namespace tandem::core
