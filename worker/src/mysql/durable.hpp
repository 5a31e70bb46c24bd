// make_durable (docs/model/a_pump.pml, -DV_SOFT): InnoDB shows a commit to other sessions before its log is on disk, and a server that dies in
// between has never had it. So what a snapshot showed is on disk before the new side relies on it: a small commit of ours after the snapshot
// waits for the log up to itself, which is behind everything that the snapshot saw.
#pragma once

#include "core/types.hpp"

#include <cstdint>
#include <string>

namespace tandem::mysql {

class Client;

// The rows that these commits write: one per session, in the metadata database.
class DurableMark {
  public:
    // Commits through `client`, outside of a transaction. With innodb_flush_log_at_trx_commit = 1 everything that was visible before the call
    // survives the death of the server and of its host; with 2 only of the server; with 0 neither.
    void make_durable(Client &client, const core::SourceConnection &connection);

  private:
    std::uint64_t count_ = 0; // a row that stays the same would not be written
};

std::string create_durable_mark(const core::SourceConnection &connection);

} // namespace tandem::mysql
