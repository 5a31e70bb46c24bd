// Command line, environment and configuration file of tandem-sync, in this order of precedence (docs/tandem-sync.md).
#pragma once

#include "log.hpp"

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace tandem {

enum class Command { help, run, check, status, version, cutover, rehearse, rollback };

struct Options {
    Command command = Command::help;
    std::string help; // text for Command::help
    std::string postgres;
    std::vector<std::string> sources;
    log::Level log_level = log::Level::info;
    log::Format log_format = log::Format::logfmt;
    // cutover, rehearse, rollback
    std::vector<std::string> tables;
    std::vector<std::string> waive; // GATE=REASON
    std::vector<std::string> kill;  // users of the old side
    int max_pause_ms = 1000;
    int lock_wait_ms = 30000;
    // check, before the source is added
    std::string server, database, mapping_role, metadata_database, tls;
};

// What the user wrote cannot be used. Exit code 2.
class UsageError : public std::runtime_error {
  public:
    explicit UsageError(const std::string &message, std::string hint = {}) : std::runtime_error(message), hint_(std::move(hint)) {}
    const std::string &hint() const { return hint_; }

  private:
    std::string hint_;
};

using Environment = std::map<std::string, std::string>;

Environment tandem_environment(char **environ_block); // the variables whose names begin with TANDEM_

// `arguments` without the program's name. Reads the configuration file if one is named. Throws UsageError.
Options parse_options(const std::vector<std::string> &arguments, const Environment &environment);

} // namespace tandem
