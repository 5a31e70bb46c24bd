// The way back of one source: changes of tables whose source of truth is the new side go to the old side (docs/protocol.md section 15;
// docs/model/d_cutover.pml, process Reverse). A thread with a session on each side, beside the pump that holds the lease.
//
// Keys and rows are read in one snapshot, which also sees that the lease is still ours; they are written in one transaction that locks and
// checks the epoch this session took on the old side before it read anything. So a former leader never writes an older row over a newer
// one. Exactly the events read are deleted, after the commit; writing them twice changes nothing.
#pragma once

#include "core/types.hpp"
#include "mysql/row_writer.hpp"
#include "postgres/worker_api.hpp"
#include "sync/lease.hpp"
#include "sync/stop.hpp"

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace tandem::sync {

class ReversePump {
  public:
    ReversePump(std::string conninfo, std::string holder, core::SourceConnection connection, std::shared_ptr<const Lease> lease);
    ~ReversePump();
    ReversePump(const ReversePump &) = delete;
    ReversePump &operator=(const ReversePump &) = delete;

    void look() { look_ = true; } // any thread: the new side has become the source of truth of more tables

  private:
    struct Table {
        core::TableConfig config;
        std::vector<bool> known;
        std::uint64_t epoch = 0; // taken by this session
    };
    void run();
    void serve(); // one pair of sessions
    void follow();
    bool write_batch(); // false: nothing waits

    const std::string conninfo_;
    const std::string holder_;
    const core::SourceConnection connection_;
    const std::shared_ptr<const Lease> lease_;
    Stop stop_;
    std::atomic<bool> look_{false};
    std::unique_ptr<postgres::WorkerApi> api_;
    std::unique_ptr<mysql::RowWriter> writer_;
    std::map<int, Table> tables_;
    std::thread thread_; // last
};

} // namespace tandem::sync
