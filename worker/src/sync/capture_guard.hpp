// Watches the captured tables of a source on the old side, in a thread and on a session of its own, all of them in one look every two
// seconds: whether they are the tables that capture was installed on, with the columns, triggers and outboxes that it needs
// (docs/protocol.md section 17). The pump says what to watch and takes the news. Looks only while the lease is held.
#pragma once

#include "core/capture_rules.hpp"
#include "core/types.hpp"
#include "sync/lease.hpp"
#include "sync/stop.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace tandem::mysql {
class Client;
class ControlSession;
} // namespace tandem::mysql

namespace tandem::sync {

struct GuardNews {
    enum class Kind {
        broken,   // events were lost or may have been: `fault`
        identity, // altered without harm: `text` is what it is known by now
        columns,  // `text`: the columns that are not as they were (JSON)
        fine      // answer to examine(): looked at since, nothing wrong
    };
    int table_id = 0;
    Kind kind = Kind::fine;
    core::CaptureFault fault{};
    std::string text{};
};

struct GuardReport {
    int tables = 0;
    double look_ms = 0;
    bool by_number = false; // InnoDB's numbers of tables can be read
    std::string error;      // why it could not look
};

class CaptureGuard {
  public:
    CaptureGuard(core::SourceConnection connection, std::shared_ptr<const Lease> lease);
    ~CaptureGuard();
    CaptureGuard(const CaptureGuard &) = delete;
    CaptureGuard &operator=(const CaptureGuard &) = delete;

    void watch(const core::TableConfig &table); // anew if its identity or columns are others than before
    void ignore(int table_id);
    bool examine(int table_id); // look at once and say when nothing is wrong; false: it is not watched
    // A look of the caller's own, in its thread and on its sessions, at tables that `holder` has locked: the first thing that is wrong,
    // with the table's name. A table that is not watched is wrong as well.
    std::optional<std::string> fault_under_lock(mysql::ControlSession &session, mysql::Client &holder, const std::vector<int> &table_ids);
    std::vector<GuardNews> take_news();
    std::optional<GuardReport> take_report(); // of the last look, once

    // Broken capture must be known within five seconds.
    static constexpr Millis look_every{2000};

  private:
    struct Entry {
        core::TableConfig table;
        core::LastSight last;
        std::string told_columns = "[]";
        bool told_broken = false;
        bool examined = false;   // examine() was called
        std::uint64_t watch = 0; // so that a look at an older wish is not taken for this one
    };
    void run();
    void look(mysql::ControlSession &session);
    static std::optional<core::CaptureFault> judged(const Entry &entry, const core::SeenSource &source);
    void conclude(const Entry &entry, const core::SeenSource &source, const std::optional<core::CaptureFault> &fault);
    void report(GuardReport report);

    const core::SourceConnection connection_;
    const std::shared_ptr<const Lease> lease_;
    Stop stop_;
    std::mutex mutex_; // protects everything below
    std::map<int, Entry> entries_;
    std::vector<GuardNews> news_;
    std::optional<GuardReport> report_;
    std::uint64_t watches_ = 0;
    bool look_now_ = false;
    std::thread thread_;
};

} // namespace tandem::sync
