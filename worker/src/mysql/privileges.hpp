// Which privileges the connected user has, found by trying: each probe names an object that does not exist, so it fails either for
// want of the privilege or for want of the object, and changes nothing.
#pragma once

#include "core/types.hpp"
#include "mysql/control_client.hpp"

#include <string>
#include <vector>

namespace tandem::mysql {

struct PrivilegeCheck {
    std::string statement; // the GRANT (or SET GLOBAL) that would give it
    std::string purpose;
    bool required = true;
    bool ok = false;
    std::string error;
};

std::vector<PrivilegeCheck> check_privileges(ControlClient &client, const core::SourceConnection &connection);

} // namespace tandem::mysql
