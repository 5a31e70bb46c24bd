// Fixed SQL statements of the extension, prepared once per process.
//
// A Statement is a static object. Every function here needs an open SPI connection (SPI_connect); what SPI returns lives until
// SPI_finish. All texts are fully qualified, operators included where they run under a caller's search_path.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "executor/spi.h"
#include "utils/builtins.h"
}

namespace tandem {

constexpr int max_parameters = 12;

struct Statement {
    const char *text;
    int parameter_count;
    Oid parameter_types[max_parameters];
    SPIPlanPtr plan; // kept for the life of the process; the plan cache follows changes of the schema
};

void connect_spi();
void finish_spi();

// Runs the statement; returns the number of rows. `nulls` as in SPI ('n' = null) or nullptr. With `dest`, rows go there instead of SPI_tuptable.
std::uint64_t execute(Statement *statement, Datum *values = nullptr, const char *nulls = nullptr, DestReceiver *dest = nullptr);

// The same under the caller's snapshot, whatever was committed since.
std::uint64_t execute_read_only(Statement *statement, Datum *values = nullptr);

// The same for a plan that the caller owns.
std::uint64_t execute_plan(SPIPlanPtr plan, const char *what, Datum *values = nullptr, const char *nulls = nullptr,
                           DestReceiver *dest = nullptr);

// Column (from 1) of a row of SPI_tuptable.
Datum result_value(std::uint64_t row, int column, bool *is_null);
bool result_is_null(std::uint64_t row, int column);
std::int32_t result_int32(std::uint64_t row, int column);
std::int64_t result_int64(std::uint64_t row, int column);
bool result_bool(std::uint64_t row, int column); // null is false
// Copied into `context`; nullptr when null.
char *result_text(std::uint64_t row, int column, MemoryContext context);

inline Datum text_datum(const char *text) { return PointerGetDatum(cstring_to_text(text)); }
} // namespace tandem
