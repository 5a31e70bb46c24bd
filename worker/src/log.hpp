// The worker's one logger: lines to stderr, in logfmt or JSON. Thread-safe; one write per line.
// Never given row values, keys or secrets: fields are names, counts and server messages only.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

namespace tandem::log {

enum class Level { debug, info, warning, error };
enum class Format { logfmt, json };

struct Field {
    std::string_view name;
    std::string value;
    Field(std::string_view field, std::string text) : name(field), value(std::move(text)) {}
    Field(std::string_view field, const char *text) : name(field), value(text) {}
    template <typename Number>
    requires std::is_arithmetic_v<Number> Field(std::string_view field, Number number) : name(field), value(std::to_string(number)) {}
};
using Fields = std::initializer_list<Field>;

void configure(Level least, Format format); // once, before threads start
bool enabled(Level level);
void write(Level level, std::string_view message, Fields fields = {});
std::string format_line(Format format, std::string_view time, Level level, std::string_view message, Fields fields);

inline void debug(std::string_view message, Fields fields = {}) { write(Level::debug, message, fields); }
inline void info(std::string_view message, Fields fields = {}) { write(Level::info, message, fields); }
inline void warning(std::string_view message, Fields fields = {}) { write(Level::warning, message, fields); }
inline void error(std::string_view message, Fields fields = {}) { write(Level::error, message, fields); }

} // namespace tandem::log
