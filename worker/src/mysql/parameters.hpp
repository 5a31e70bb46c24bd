// Parameters of a prepared statement, and the statement. Values are copied into buffers of the parameters' own.
#pragma once

#include "core/decode.hpp"
#include "mysql/client.hpp"

#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace tandem::mysql {

class Parameters {
  public:
    void add(const core::OldValue &value);

  private:
    friend class Statement;
    struct Slot {
        core::OldValue value;
        MYSQL_TIME time{};
        unsigned long length = 0;
    };
    std::deque<Slot> slots_; // addresses stay good
    std::vector<MYSQL_BIND> binds_;
};

class Statement {
  public:
    Statement(Client &client, const std::string &sql, std::string doing);
    std::uint64_t execute(Parameters &parameters); // affected rows

  private:
    struct Close {
        void operator()(MYSQL_STMT *statement) const { mysql_stmt_close(statement); }
    };
    [[noreturn]] void fail() const;
    std::unique_ptr<MYSQL_STMT, Close> statement_;
    std::string doing_;
};

} // namespace tandem::mysql
