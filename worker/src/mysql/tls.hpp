// What the `tls` option of a source means for one connection. There is no "preferred": TLS is verified and enforced, or not used.
#pragma once

#include "core/types.hpp"

namespace tandem::mysql {

// auto: verified TLS, unless the host is this machine (socket path, localhost, 127.*, ::1) and no ssl_ca is given.
// verify: always verified. disable: clear text, by explicit choice. Throws core::Error for any other word.
bool wants_tls(const core::SourceConnection &connection);

// The host names a Unix socket (an absolute path).
bool is_socket(const core::SourceConnection &connection);

} // namespace tandem::mysql
