#include "sync/lease.hpp"

#include "core/backoff.hpp"
#include "core/error.hpp"
#include "log.hpp"
#include "postgres/worker_api.hpp"

#include <algorithm>

namespace tandem::sync {

LeaseKeeper::LeaseKeeper(std::string conninfo, std::string holder)
    : conninfo_(std::move(conninfo)), holder_(std::move(holder)), thread_([this] { run(); }) {}

LeaseKeeper::~LeaseKeeper() {
    stop_.request();
    thread_.join();
}

std::shared_ptr<Lease> LeaseKeeper::keep(int source_id, std::int64_t epoch, Clock::time_point asked_at, Millis ttl) {
    auto lease = std::make_shared<Lease>(source_id, epoch, asked_at, ttl);
    const std::lock_guard lock(mutex_);
    leases_.push_back(lease);
    ttl_ = ttl;
    return lease;
}

void LeaseKeeper::let_go(const std::shared_ptr<Lease> &lease) {
    const std::lock_guard lock(mutex_);
    std::erase(leases_, lease);
}

std::vector<std::shared_ptr<Lease>> LeaseKeeper::held() {
    const std::lock_guard lock(mutex_);
    return leases_;
}

void LeaseKeeper::run() {
    core::Backoff backoff(Millis(100), Millis(2000));
    std::unique_ptr<postgres::WorkerApi> api;
    while (!stop_.requested()) {
        try {
            if (!api)
                // A silent server must not hold the keeper for longer than a lease lives.
                api = std::make_unique<postgres::WorkerApi>(conninfo_, "lease", holder_, [this] {
                    const std::vector<std::shared_ptr<Lease>> leases = held();
                    return stop_.requested() ||
                           (!leases.empty() && std::ranges::none_of(leases, [](const auto &lease) { return lease->held(); }));
                });
            Millis ttl;
            {
                const std::lock_guard lock(mutex_);
                ttl = ttl_;
            }
            for (const std::shared_ptr<Lease> &lease : held()) {
                const Clock::time_point asked_at = Clock::now();
                if (api->renew_lease(lease->source_id(), holder_, lease->epoch())) {
                    lease->renewed(asked_at, ttl);
                } else {
                    lease->lose();
                    let_go(lease);
                    log::warning("lease lost", {{"source_id", lease->source_id()}, {"epoch", lease->epoch()}});
                }
            }
            backoff.reset();
            // A lease taken meanwhile waits for at most this long, so it must be well below the shortest time to live.
            stop_.wait_for(std::min(ttl / 3, Millis(300)));
        } catch (const core::Error &error) {
            api.reset();
            if (!stop_.requested())
                log::warning("leases could not be renewed", {{"error", error.what()}});
            stop_.wait_for(backoff.next());
        }
    }
}

} // namespace tandem::sync
