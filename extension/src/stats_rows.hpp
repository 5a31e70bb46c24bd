// The counters of stats.hpp as rows, for the views pg_stat_tandem_* (ddl/60_stats.sql). Only shared memory is read.
#pragma once

#include "pg/postgres.hpp"

namespace tandem {

void stats_table_rows(FunctionCallInfo fcinfo);
void stats_source_rows(FunctionCallInfo fcinfo);
void stats_session_rows(FunctionCallInfo fcinfo);
void stats_apply_row(FunctionCallInfo fcinfo);

} // namespace tandem
