// Fence: no C++ exception may reach the server. Used by entry points whose body uses the standard library.
//
// The exception's text is copied into plain memory, the catch block is left (so that the exception object is destroyed), and only then the
// PostgreSQL error is raised.
#pragma once

#include <exception>
#include <new>

#include "pg/postgres.hpp"

namespace tandem {

template <typename Body> Datum fenced(Body body) {
    char message[512];
    bool out_of_memory = false;
    try {
        return body();
    } catch (const std::bad_alloc &) {
        out_of_memory = true;
        message[0] = '\0';
    } catch (const std::exception &error) {
        strlcpy(message, error.what(), sizeof message);
    } catch (...) {
        strlcpy(message, "unknown C++ exception", sizeof message);
    }
    if (out_of_memory)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("pg_tandem: %s", message)));
    return (Datum)0;
}

} // namespace tandem
