#include "sync/failpoint.hpp"

#include "core/error.hpp"
#include "log.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <mutex>
#include <thread>
#include <unistd.h>

namespace tandem::sync {
namespace {

struct Armed {
    Failpoint point;
    unsigned reached = 0;
};

std::vector<Armed> armed; // filled before threads start; counters under `counting`
std::mutex counting;

[[noreturn]] void refuse(std::string_view text) {
    throw core::Error(core::Side::worker, "22023", "TANDEM_FAILPOINT cannot be read: " + std::string(text), false,
                      "Its form is name[:n]=kill|stop|sleep(ms)|error.");
}

unsigned number_of(std::string_view digits, std::string_view whole) {
    unsigned number = 0;
    const auto [end, problem] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (problem != std::errc() || end != digits.data() + digits.size())
        refuse(whole);
    return number;
}

Failpoint parse_one(std::string_view text) {
    const std::size_t equals = text.rfind('=');
    if (equals == std::string_view::npos || equals == 0)
        refuse(text);
    Failpoint point;
    std::string_view name = text.substr(0, equals);
    const std::string_view action = text.substr(equals + 1);
    // A name holds a colon itself (pump:after_copy_batch): only a number after the last one is a count.
    if (const std::size_t colon = name.rfind(':'); colon != std::string_view::npos && colon + 1 < name.size() &&
                                                   name.find_first_not_of("0123456789", colon + 1) == std::string_view::npos) {
        point.at = std::max(1U, number_of(name.substr(colon + 1), text));
        name = name.substr(0, colon);
    }
    point.name = name;
    if (action == "kill")
        point.action = Failpoint::Action::kill;
    else if (action == "stop")
        point.action = Failpoint::Action::stop;
    else if (action == "error")
        point.action = Failpoint::Action::error;
    else if (action.starts_with("sleep(") && action.ends_with(")")) {
        point.action = Failpoint::Action::sleep;
        point.sleep_ms = number_of(action.substr(6, action.size() - 7), text);
    } else
        refuse(text);
    return point;
}

} // namespace

std::vector<Failpoint> parse_failpoints(std::string_view text) {
    std::vector<Failpoint> points;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(';'), text.size());
        if (end > 0)
            points.push_back(parse_one(text.substr(0, end)));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return points;
}

void set_failpoints(std::vector<Failpoint> points) {
    armed.clear();
    for (Failpoint &point : points)
        armed.push_back({std::move(point), 0});
}

void failpoint(std::string_view name) {
    if (armed.empty())
        return;
    for (Armed &entry : armed) {
        if (entry.point.name != name)
            continue;
        {
            const std::lock_guard lock(counting);
            ++entry.reached;
            const bool due =
                entry.point.action == Failpoint::Action::sleep ? entry.reached >= entry.point.at : entry.reached == entry.point.at;
            if (!due)
                continue;
        }
        log::warning("failpoint", {{"name", std::string(name)}});
        switch (entry.point.action) {
        case Failpoint::Action::kill:
            ::kill(::getpid(), SIGKILL);
            break;
        case Failpoint::Action::stop:
            ::raise(SIGSTOP); // on this thread: not one step further
            break;
        case Failpoint::Action::sleep:
            std::this_thread::sleep_for(std::chrono::milliseconds(entry.point.sleep_ms));
            break;
        case Failpoint::Action::error:
            throw core::Error(core::Side::worker, "XX000", "failpoint " + std::string(name), true);
        }
    }
}

} // namespace tandem::sync
