// The commands of tandem-sync. Each returns the exit code of the process.
#pragma once

#include "options.hpp"

namespace tandem::commands {

int run(const Options &options);
int check(const Options &options);
int status(const Options &options);
int cutover(const Options &options); // also rehearse and rollback

} // namespace tandem::commands
