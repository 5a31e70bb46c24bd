#include "sync/supervisor.hpp"

#include "core/backoff.hpp"
#include "core/error.hpp"
#include "log.hpp"
#include "sync/pump.hpp"
#include "sync/questions.hpp"

#include <algorithm>
#include <random>
#include <set>
#include <unistd.h>

namespace tandem::sync {

using core::Error;

namespace {

// Unique over restarts: a process id comes back, so it is not enough.
std::string make_holder() {
    char host[256] = {};
    ::gethostname(host, sizeof host - 1);
    std::random_device random;
    char nonce[20];
    std::snprintf(nonce, sizeof nonce, "%08x%08x", random(), random());
    return std::string(host) + ":" + std::to_string(::getpid()) + ":" + nonce;
}

} // namespace

SourceRunner::SourceRunner(std::string conninfo, postgres::SourceRow source, LeaseKeeper &leases)
    : conninfo_(std::move(conninfo)), source_(std::move(source)), leases_(leases), thread_([this] { run(); }) {}

SourceRunner::~SourceRunner() {
    stop_.request();
    thread_.join();
}

void SourceRunner::run() {
    core::Backoff backoff(Millis(100), Millis(10000));
    std::int64_t reconnects = 0;
    while (!stop_.requested()) {
        const Clock::time_point started = Clock::now();
        Pump pump(conninfo_, source_, leases_, stop_, reconnects);
        try {
            if (pump.run() == Pump::Outcome::stopped)
                return;
            log::warning("no longer leading", {{"source", source_.connection.name}});
        } catch (const Error &error) {
            log::warning(
                "pump ended, starts again",
                {{"source", source_.connection.name}, {"sqlstate", error.sqlstate()}, {"error", error.what()}, {"hint", error.hint()}});
        } catch (const std::exception &error) {
            log::error("pump ended by an unexpected error, starts again", {{"source", source_.connection.name}, {"error", error.what()}});
        }
        reconnects = 1;
        // A pump that ran for a while found a new trouble, not the old one.
        if (pump.led() && Clock::now() - started > Millis(5000))
            backoff.reset();
        stop_.wait_for(backoff.next());
    }
}

Supervisor::Supervisor(std::string conninfo, std::vector<std::string> only)
    : conninfo_(conninfo), only_(std::move(only)), leases_(std::move(conninfo), make_holder()) {}

// Starts what is new, ends what is gone, restarts what is reached in another way now.
void Supervisor::follow(const std::vector<postgres::SourceRow> &sources) {
    std::set<int> present;
    for (const postgres::SourceRow &source : sources) {
        if (!only_.empty() && std::ranges::find(only_, source.connection.name) == only_.end())
            continue;
        const int id = source.connection.source_id;
        present.insert(id);
        std::unique_ptr<SourceRunner> &runner = runners_[id];
        if (runner && runner->hash() == source.hash)
            continue;
        runner.reset(); // ends the old one first
        log::info("source",
                  {{"source", source.connection.name}, {"host", source.connection.host}, {"database", source.connection.database}});
        runner = std::make_unique<SourceRunner>(conninfo_, source, leases_);
    }
    std::erase_if(runners_, [&](const auto &entry) { return !present.contains(entry.first); });
}

void Supervisor::run(const Stop &stop) {
    log::info("tandem-sync starts", {{"version", TANDEM_VERSION}, {"worker", leases_.holder()}});
    {
        QuestionServers questions(conninfo_, leases_.holder(), stop);
        core::Backoff backoff(Millis(200), Millis(10000));
        std::unique_ptr<postgres::WorkerApi> api;
        while (!stop.requested()) {
            try {
                if (!api)
                    api =
                        std::make_unique<postgres::WorkerApi>(conninfo_, "supervisor", leases_.holder(), [&] { return stop.requested(); });
                questions.keep_one_free();
                follow(api->sources());
                backoff.reset();
                stop.wait_for(Millis(500));
            } catch (const Error &error) {
                api.reset();
                if (stop.requested())
                    break;
                log::warning("supervisor session lost", {{"sqlstate", error.sqlstate()}, {"error", error.what()}, {"hint", error.hint()}});
                stop.wait_for(backoff.next());
            }
        }
    }
    for (const auto &[id, runner] : runners_)
        runner->request_stop();
    runners_.clear();
    log::info("tandem-sync ended");
}

} // namespace tandem::sync
