// Plans of routed views (docs/phases.md, "Routed views"): what a view asks while it is planned, and its branches that are not read.
#pragma once

#include "pg/postgres.hpp"

namespace tandem {

void install_planner_hook(); // from _PG_init

} // namespace tandem
