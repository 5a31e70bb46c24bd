#include "mysql/tls.hpp"

#include "core/error.hpp"

namespace tandem::mysql {

bool is_socket(const core::SourceConnection &connection) { return !connection.host.empty() && connection.host[0] == '/'; }

bool wants_tls(const core::SourceConnection &connection) {
    if (connection.tls == "verify")
        return true;
    if (connection.tls == "disable")
        return false;
    if (connection.tls != "auto")
        throw core::Error(core::Side::worker, "22023", "tls must be auto, verify or disable, not \"" + connection.tls + "\"", false);
    const std::string &host = connection.host;
    const bool local = host.empty() || is_socket(connection) || host == "localhost" || host.rfind("127.", 0) == 0 || host == "::1";
    return !local || !connection.ssl_ca.empty() || !connection.ssl_capath.empty();
}

} // namespace tandem::mysql
