// Installs, watches and removes capture on the old side, in a thread and on a session of its own: DDL may wait for a lock there, and live
// changes of other tables must not wait with it. The pump says what it wants for each table and takes the news; it alone talks to
// PostgreSQL about it. Works only while the lease is held.
#pragma once

#include "core/backoff.hpp"
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
        installed, // capture is complete; `was_complete` tells whether it had been before
        waiting,   // could not be installed or removed yet, is tried again; `reason`
        removed,
        broken, // a watched table lost events or may have: `reason`
        cost    // microseconds for one event
    };
    int table_id = 0;
    Kind kind = Kind::waiting;
    std::string reason;
    bool was_complete = false;
    double cost_us = 0;
};

class CaptureKeeper {
  public:
    enum class Want { installed, watched, removed };

    CaptureKeeper(core::SourceConnection connection, std::shared_ptr<const Lease> lease, unsigned lock_timeout_ms);
    ~CaptureKeeper();
    CaptureKeeper(const CaptureKeeper &) = delete;
    CaptureKeeper &operator=(const CaptureKeeper &) = delete;

    void want(const core::TableConfig &table, Want want); // the same wish again changes nothing
    void ignore(int table_id);
    std::vector<CaptureNews> take_news();
    bool busy() const; // something is being installed or removed: news may come soon
    void set_lock_timeout(unsigned ms) { lock_timeout_ms_ = ms; }

    // How often a watched table is looked at. Broken capture must be known within five seconds.
    static constexpr Millis watch_every{3000};

  private:
    struct Entry {
        core::TableConfig table;
        Want want = Want::watched;
        bool reached = false; // installed or removed
        bool cost_known = false;
        Clock::time_point due{};
        core::Backoff backoff{Millis(200), Millis(5000)};
        std::uint64_t wish = 0; // so that work for an older wish is not taken for this one
    };
    void run();
    bool work_on(mysql::ControlSession &session, int table_id, Entry entry);
    void tell(std::uint64_t wish, CaptureNews news, bool reached);
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
