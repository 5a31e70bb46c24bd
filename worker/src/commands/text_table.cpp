#include "commands/text_table.hpp"

#include <algorithm>

namespace tandem::commands {
namespace {

// Characters, not bytes; wide characters are not told apart.
std::size_t width_of(const std::string &text) {
    return static_cast<std::size_t>(std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

} // namespace

void TextTable::print(std::ostream &out) const {
    std::vector<std::size_t> widths(rows_.front().size(), 0);
    for (const std::vector<std::string> &row : rows_)
        for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i)
            widths[i] = std::max(widths[i], width_of(row[i]));
    for (const std::vector<std::string> &row : rows_) {
        std::string line;
        for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
            line += row[i];
            if (i + 1 < row.size())
                line.append(widths[i] - width_of(row[i]) + 2, ' ');
        }
        line.erase(line.find_last_not_of(' ') + 1);
        out << line << "\n";
    }
}

} // namespace tandem::commands
