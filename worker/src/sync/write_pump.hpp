// Writes that were made through routed views while the old side is the source of truth (tandem.write_queue; docs/protocol.md section 19;
// docs/model/g_writes.pml). A thread with a session on each side, beside the pump that holds the lease.
//
// Transactions of PostgreSQL go to the old side one by one, in the order of their commits, each as one transaction there which also leaves a mark.
// A row is written only if the old side holds what its writer had seen. Only what is acknowledged here leaves the queue; a transaction whose
// mark is there is not written again. The epoch this session took on the old side before it read anything keeps a former leader from writing.
#pragma once

#include "core/types.hpp"
#include "mysql/row_writer.hpp"
#include "postgres/worker_api.hpp"
#include "sync/lease.hpp"
#include "sync/stop.hpp"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace tandem::sync {

class WritePump {
  public:
    WritePump(std::string conninfo, std::string holder, core::SourceConnection connection, std::shared_ptr<const Lease> lease);
    ~WritePump();
    WritePump(const WritePump &) = delete;
    WritePump &operator=(const WritePump &) = delete;

  private:
    struct Table {
        core::TableConfig config;
        std::vector<bool> known;
        std::uint64_t epoch = 0; // taken by this session
    };
    struct Group;
    void run();
    void serve(); // one pair of sessions
    std::vector<Group> read_groups();
    std::vector<bool> known_columns(int table_id);
    void take_tables(const std::set<int> &table_ids);
    bool write_groups(); // false: nothing waits
    mysql::MarkedWrites writes_of(const Group &group);
    bool write_together(const Group *first, const Group *end); // false: none of them was written
    bool write(const Group &group);                            // false: it is to be tried again, and whatever comes behind it waits
    void acknowledge(const std::vector<std::string> &transactions, const std::vector<std::string> &tokens);

    const std::string conninfo_;
    const std::string holder_;
    const core::SourceConnection connection_;
    const std::shared_ptr<const Lease> lease_;
    Stop stop_;
    std::unique_ptr<postgres::WorkerApi> api_;
    std::unique_ptr<mysql::RowWriter> writer_; // made when the first write waits
    std::map<int, Table> tables_;
    std::thread thread_; // last
};

} // namespace tandem::sync
