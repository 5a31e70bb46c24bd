// Installs and removes capture on the old side, and measures what it costs, in a thread and on a session of its own: DDL may wait for a lock there, and live
// changes of other tables must not wait with it. The pump says what it wants for each table and takes the news; it alone talks to
// PostgreSQL about it. Works only while the lease is held. What is installed is watched by CaptureGuard.
//
// Where rows were copied before, capture that is not whole is made so only after the loss is written down in PostgreSQL (model F: LOSSLATE):
// then nothing that ends in between can make the table go on as if nothing had happened.
#pragma once

#include "core/backoff.hpp"
#include "core/capture_rules.hpp"
#include "core/types.hpp"
#include "sync/lease.hpp"
#include "sync/stop.hpp"

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tandem::mysql {
class ControlSession;
}

namespace tandem::sync {

struct CaptureNews {
    enum class Kind {
        installed, // capture is complete, and `identity` is what it is known by; `was_complete` tells whether it had been before
        waiting,   // could not be installed or removed yet, is tried again; `reason`
        removed,
        broken, // events were lost or may have been: `fault`; or capture cannot be installed on the table as it is
        cost    // microseconds for one event
    };
    int table_id = 0;
    Kind kind = Kind::waiting;
    std::string reason;
    bool was_complete = false;
    double cost_us = 0;
    std::string identity{};
    core::CaptureFault fault{};
};

class CaptureKeeper {
  public:
    enum class Want { installed, measured, removed };

    CaptureKeeper(core::SourceConnection connection, std::shared_ptr<const Lease> lease, unsigned lock_timeout_ms);
    ~CaptureKeeper();
    CaptureKeeper(const CaptureKeeper &) = delete;
    CaptureKeeper &operator=(const CaptureKeeper &) = delete;

    // The same wish again changes nothing. `may_install`: nothing was copied yet, or the loss is written down.
    void want(const core::TableConfig &table, Want want, bool may_install = false);
    void ignore(int table_id);
    std::vector<CaptureNews> take_news();
    bool busy() const; // something is being installed or removed: news may come soon
    void set_lock_timeout(unsigned ms) { lock_timeout_ms_ = ms; }

  private:
    struct Entry {
        core::TableConfig table;
        Want want = Want::measured;
        bool may_install = false;
        bool reached = false; // installed, measured or removed
        Clock::time_point due{};
        core::Backoff backoff{Millis(200), Millis(5000)};
        std::uint64_t wish = 0; // so that work for an older wish is not taken for this one
    };
    void run();
    void work_on(mysql::ControlSession &session, int table_id, Entry entry);
    CaptureNews install(mysql::ControlSession &session, const Entry &entry);
    void tell(std::uint64_t wish, CaptureNews news);
    void postpone(int table_id, std::uint64_t wish, const std::string &reason);

    const core::SourceConnection connection_;
    const std::shared_ptr<const Lease> lease_;
    std::atomic<unsigned> lock_timeout_ms_;
    Stop stop_;
    mutable std::mutex mutex_; // protects everything below
    std::map<int, Entry> entries_;
    std::vector<CaptureNews> news_;
    std::uint64_t wishes_ = 0;
    std::thread thread_;
};

} // namespace tandem::sync
