// Named steps at which a fault test can end, hold or delay this process (docs/tandem-sync.md lists the names).
// TANDEM_FAILPOINT="name[:n]=kill|stop|sleep(ms)|error": acts at the n-th time (default: the first) the step is reached, once;
// sleep acts at every time from the n-th on. Several are separated by ';'.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tandem::sync {

struct Failpoint {
    enum class Action { kill, stop, sleep, error };
    std::string name;
    unsigned at = 1;
    Action action = Action::kill;
    unsigned sleep_ms = 0;
};

// Throws core::Error (22023) for text that is not of the form above.
std::vector<Failpoint> parse_failpoints(std::string_view text);

void set_failpoints(std::vector<Failpoint> points); // before threads start
void failpoint(std::string_view name);              // throws core::Error (retryable) for `error`

} // namespace tandem::sync
