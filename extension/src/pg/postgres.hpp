// The server's headers, in the one order that works from C++: standard C++ headers first and outside of extern "C", then postgres.h. A file
// includes this before any other header of the extension that needs the server, and adds the server headers of its own role in an
// extern "C" block of its own.
//
// The extension is "C with namespaces": memory contexts instead of owners, structs with trivial destructors only. An ereport(ERROR) jumps
// over our frames, so nothing in them may need a destructor. Code that wants the standard library goes through pg/fence.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/elog.h"
#include "utils/memutils.h"
}

// Declares a C function for SQL. On servers before 16 every symbol is visible by default; we hide all but these.
#define TANDEM_FUNCTION(name)                                                                                                              \
    extern "C" PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                                                                                   \
    extern "C" {                                                                                                                           \
    PG_FUNCTION_INFO_V1(name);                                                                                                             \
    }                                                                                                                                      \
    static_assert(true, "semicolon")
