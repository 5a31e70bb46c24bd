// `tandem-sync run`: signals and the supervisor.
#include "commands/commands.hpp"

#include "sync/failpoint.hpp"
#include "sync/stop.hpp"
#include "sync/supervisor.hpp"

#include <csignal>
#include <cstdlib>
#include <thread>
#include <unistd.h>

namespace tandem::commands {

int run(const Options &options) {
    if (const char *points = std::getenv("TANDEM_FAILPOINT"); points != nullptr && *points != '\0')
        sync::set_failpoints(sync::parse_failpoints(points));

    // Signals are taken by one thread, blocked in all others, which inherit the mask.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN); // a lost connection is an error code, not a death

    sync::Stop stop;
    std::thread([signals, &stop] {
        for (bool first = true;; first = false) {
            int caught = 0;
            if (sigwait(&signals, &caught) != 0)
                continue;
            if (!first)
                _exit(128 + caught); // asked twice: at once. What was in hand is fetched again by whoever comes next
            log::info("stopping: finishing what is in hand", {{"signal", caught}});
            stop.request();
        }
    }).detach();

    sync::Supervisor supervisor(options.postgres, options.sources);
    supervisor.run(stop);
    // Not exit(): the signal thread still refers to `stop`.
    _exit(0);
}

} // namespace tandem::commands
