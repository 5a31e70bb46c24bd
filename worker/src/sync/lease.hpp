// Who leads a source. One keeper thread with a PostgreSQL session of its own renews every lease this process holds, so that a pump busy with
// a long batch does not lose it. A lease is over, for its pump, as soon as a renewal is refused or its time has passed on this
// machine's monotonic clock, whatever PostgreSQL thinks: the epoch check inside apply is the safety, this only saves useless work.
#pragma once

#include "sync/stop.hpp"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tandem::sync {

class Lease {
  public:
    Lease(int source_id, std::int64_t epoch, Clock::time_point asked_at, Millis ttl)
        : source_id_(source_id), epoch_(epoch), ends_((asked_at + ttl).time_since_epoch().count()) {}
    int source_id() const { return source_id_; }
    std::int64_t epoch() const { return epoch_; }
    bool held(Clock::time_point now = Clock::now()) const { return !lost_ && now.time_since_epoch().count() < ends_; }
    void renewed(Clock::time_point asked_at, Millis ttl) { ends_ = (asked_at + ttl).time_since_epoch().count(); }
    void lose() { lost_ = true; }

  private:
    int source_id_;
    std::int64_t epoch_;
    std::atomic<Clock::rep> ends_;
    std::atomic<bool> lost_{false};
};

class LeaseKeeper {
  public:
    LeaseKeeper(std::string conninfo, std::string holder);
    ~LeaseKeeper(); // ends the thread; leases are left to run out unless their pumps released them
    LeaseKeeper(const LeaseKeeper &) = delete;
    LeaseKeeper &operator=(const LeaseKeeper &) = delete;

    const std::string &holder() const { return holder_; }
    // Called by the pump that acquired the lease; `asked_at` is the moment before it asked.
    std::shared_ptr<Lease> keep(int source_id, std::int64_t epoch, Clock::time_point asked_at, Millis ttl);
    void let_go(const std::shared_ptr<Lease> &lease);

  private:
    void run();
    std::vector<std::shared_ptr<Lease>> held();

    const std::string conninfo_;
    const std::string holder_;
    Stop stop_;
    std::mutex mutex_; // protects leases_ and ttl_
    std::vector<std::shared_ptr<Lease>> leases_;
    Millis ttl_{10000};
    std::thread thread_; // last: starts when everything above is ready
};

} // namespace tandem::sync
