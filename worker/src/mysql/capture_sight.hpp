// One look at everything that capture of a source rests on: a handful of queries for all its tables together, however many they are.
// Reads only what information_schema shows; what it means is said by core/capture_rules.
#pragma once

#include "core/capture_rules.hpp"
#include "mysql/control_client.hpp"

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace tandem::mysql {

class CaptureSight {
  public:
    // Answers queries of information_schema about the tables and their outboxes. Empty fields may come as NULL.
    using Ask = std::function<std::vector<ControlRow>(const std::string &sql)>;

    CaptureSight(ControlClient &client, const core::SourceConnection &connection) : client_(client), connection_(connection) {}

    // `everywhere`: look for our triggers on all tables of the database, as they are after a table was renamed. Costs more.
    // `holder`: the session that has the tables locked, if one has. MySQL 5.6 shows nothing of a locked table to others, and lets
    // the holder read no other table.
    core::SeenSource look(const std::vector<const core::TableConfig *> &tables, bool everywhere, const Ask &holder = {});

  private:
    void see_server(core::SeenSource &seen);
    void see_tables(core::SeenSource &seen, const std::string &names);
    void see_columns(core::SeenSource &seen, const std::string &names);
    void see_indexes(core::SeenSource &seen, const std::string &names);
    void see_triggers(core::SeenSource &seen, const std::string &names, const std::vector<const core::TableConfig *> &tables,
                      bool everywhere);
    void see_outboxes(core::SeenSource &seen, const std::vector<const core::TableConfig *> &tables);
    void see_numbers(core::SeenSource &seen, const std::vector<const core::TableConfig *> &tables);
    void see_gaps(core::SeenSource &seen);
    void learn_file_names(const std::vector<const core::TableConfig *> &tables);
    std::string folded(std::string name) const; // as tables are told apart on this server
    core::SeenTable *table_of(core::SeenSource &seen, const std::string &name);

    ControlClient &client_;
    const core::SourceConnection &connection_;
    Ask ask_; // during a look
    bool folds_ = false;
    std::optional<bool> shows_generation_;                             // as the server says at the first look
    std::set<std::pair<const core::SeenTable *, std::string>> period_; // columns of the look at hand
    std::map<std::string, int> by_name_, by_outbox_;
    std::map<std::string, std::string> file_names_; // name → as InnoDB writes it
};

} // namespace tandem::mysql
