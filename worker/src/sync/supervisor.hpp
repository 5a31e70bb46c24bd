// `tandem-sync run`: one thread for each source runs one pump after another; a question server and a lease keeper serve all of them.
// No error ends the process: what fails is tried again with backoff and jitter.
#pragma once

#include "postgres/worker_api.hpp"
#include "sync/lease.hpp"
#include "sync/stop.hpp"

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace tandem::sync {

// The thread of one source. Its own Stop, so that one source can be ended or restarted alone.
class SourceRunner {
  public:
    SourceRunner(std::string conninfo, postgres::SourceRow source, LeaseKeeper &leases);
    ~SourceRunner(); // finishes the batch in hand
    SourceRunner(const SourceRunner &) = delete;
    SourceRunner &operator=(const SourceRunner &) = delete;

    const std::string &hash() const { return source_.hash; }
    void request_stop() { stop_.request(); }

  private:
    void run();

    const std::string conninfo_;
    const postgres::SourceRow source_;
    LeaseKeeper &leases_;
    Stop stop_;
    std::thread thread_;
};

class Supervisor {
  public:
    // `only`: names of the sources to lead; empty: all.
    Supervisor(std::string conninfo, std::vector<std::string> only);
    void run(const Stop &stop); // until told to stop; then every pump has ended

  private:
    void follow(const std::vector<postgres::SourceRow> &sources);

    const std::string conninfo_;
    const std::vector<std::string> only_;
    LeaseKeeper leases_;
    std::map<int, std::unique_ptr<SourceRunner>> runners_;
};

} // namespace tandem::sync
