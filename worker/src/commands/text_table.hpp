// A plain table for people, columns as wide as their longest cell.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace tandem::commands {

class TextTable {
  public:
    explicit TextTable(std::vector<std::string> head) : rows_{std::move(head)} {}
    void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
    std::size_t rows() const { return rows_.size() - 1; }
    void print(std::ostream &out) const;

  private:
    std::vector<std::vector<std::string>> rows_;
};

} // namespace tandem::commands
