#include "sync/serve_loop.hpp"

#include "core/backoff.hpp"
#include "core/error.hpp"
#include "log.hpp"

namespace tandem::sync {

void serve_while_leading(const std::string &what, const std::string &source, const Stop &stop, const Lease &lease,
                         const std::function<void()> &serve, const std::function<void()> &reset) {
    constexpr Millis long_enough{5000}; // what went well for so long does not count as one failure after the other
    core::Backoff backoff(Millis(100), Millis(5000));
    while (!stop.requested() && lease.held()) {
        const Clock::time_point started = Clock::now();
        try {
            serve();
        } catch (const core::Error &error) {
            if (stop.requested())
                return;
            log::warning(what + " starts again", {{"source", source}, {"sqlstate", error.sqlstate()}, {"error", error.what()}});
        } catch (const std::exception &error) {
            log::error(what + " ended by an unexpected error, starts again", {{"source", source}, {"error", error.what()}});
        }
        reset();
        if (Clock::now() - started > long_enough)
            backoff.reset();
        stop.wait_for(backoff.next());
    }
}

} // namespace tandem::sync
