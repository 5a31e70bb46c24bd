#include "log.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace tandem::log {
namespace {

std::atomic<Level> least_level{Level::info};
std::atomic<Format> chosen_format{Format::logfmt};

const char *name_of(Level level) {
    switch (level) {
    case Level::debug:
        return "debug";
    case Level::info:
        return "info";
    case Level::warning:
        return "warning";
    case Level::error:
        break;
    }
    return "error";
}

std::string now_utc() {
    const auto now = std::chrono::system_clock::now();
    const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
    const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char text[48];
    const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    std::snprintf(text + length, sizeof text - length, ".%03dZ", static_cast<int>(millis));
    return text;
}

void append_logfmt(std::string &line, std::string_view name, std::string_view value) {
    if (!line.empty())
        line += ' ';
    line.append(name).append("=");
    const bool plain = !value.empty() && value.find_first_of(" =\"\\\n\r\t") == std::string_view::npos;
    if (plain) {
        line.append(value);
        return;
    }
    line += '"';
    for (const char c : value) {
        if (c == '"' || c == '\\')
            line += '\\';
        if (c == '\n')
            line += "\\n";
        else if (static_cast<unsigned char>(c) < 0x20)
            line += ' ';
        else
            line += c;
    }
    line += '"';
}

} // namespace

void configure(Level least, Format format) {
    least_level = least;
    chosen_format = format;
}

bool enabled(Level level) { return level >= least_level; }

std::string format_line(Format format, std::string_view time, Level level, std::string_view message, Fields fields) {
    std::string line;
    if (format == Format::json) {
        nlohmann::ordered_json object;
        object["time"] = time;
        object["level"] = name_of(level);
        object["msg"] = message;
        for (const Field &field : fields)
            object[std::string(field.name)] = field.value;
        // A server's message may hold bytes that are not UTF-8; a log line must not fail for it.
        line = object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    } else {
        append_logfmt(line, "time", time);
        append_logfmt(line, "level", name_of(level));
        append_logfmt(line, "msg", message);
        for (const Field &field : fields)
            append_logfmt(line, field.name, field.value);
    }
    line += '\n';
    return line;
}

void write(Level level, std::string_view message, Fields fields) {
    if (!enabled(level))
        return;
    const std::string line = format_line(chosen_format, now_utc(), level, message, fields);
    // One write call: lines of different threads do not mix. Nothing useful can be done if stderr is gone.
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

} // namespace tandem::log
