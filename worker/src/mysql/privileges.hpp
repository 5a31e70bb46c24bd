// Which privileges the connected user has, found by trying: each probe names an object that does not exist, so it fails either for
// want of the privilege or for want of the object, and changes nothing.
#pragma once

#include "core/types.hpp"
#include "mysql/control_client.hpp"

#include <string>
#include <vector>

namespace tandem::mysql {

struct PrivilegeCheck {
    std::string privilege; // "TRIGGER"; empty for a setting
    // The GRANT (or SET GLOBAL) that gives it, together with all others that are needed on the same database: where the name has a wildcard,
    // a GRANT of one privilege under the escaped name would hide those granted under the plain one.
    std::string statement;
    std::string purpose;
    bool required = true;
    bool for_cutover = false; // not needed before, and to write back
    bool ok = false;
    std::string error;
};

std::vector<PrivilegeCheck> check_privileges(ControlClient &client, const core::SourceConnection &connection);

} // namespace tandem::mysql
