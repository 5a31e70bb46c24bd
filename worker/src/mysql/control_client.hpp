// RAII around one connection of mysql-connector-c++, with the same TLS rules and pinned settings as the hot path (client.hpp). Results
// are small and read whole.
#pragma once

#include "core/types.hpp"

#include <cppconn/connection.h>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tandem::mysql {

using ControlRow = std::vector<std::optional<std::string>>;

class ControlClient {
  public:
    explicit ControlClient(const core::SourceConnection &connection);

    void execute(const std::string &sql, const std::string &doing);
    std::vector<ControlRow> query(const std::string &sql, const std::string &doing);
    std::string variable(const std::string &name); // session variable, empty if the server has none of that name
    std::string status(const std::string &name);

    // Runs a statement that cannot succeed in full and tells the server's error number; 0 if it did succeed.
    unsigned probe(const std::string &sql, std::string &message);

  private:
    std::unique_ptr<sql::Connection> connection_;
};

} // namespace tandem::mysql
