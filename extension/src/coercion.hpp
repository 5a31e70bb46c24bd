// Conversion of single values as an assignment to a column does it: cast, length, domain. Needed where apply's INSERT is foretold without
// an INSERT. Runs whatever the cast functions and domains hold, so with the rights of the target's owner.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "nodes/execnodes.h"
#include "nodes/primnodes.h"
}

namespace tandem {

struct Coercion {
    ExprState *state; // nullptr: the value is taken as it is
    ExprContext *context;
};

// In the current memory context. False: there is no such assignment.
bool prepare_coercion(Coercion *coercion, Oid from, std::int32_t from_typmod, Oid to, std::int32_t to_typmod, CoercionContext how);
// The result may live in the coercion's memory; reset_coercion frees it.
Datum coerce(Coercion *coercion, Datum value, bool *is_null);
void reset_coercion(Coercion *coercion);

} // namespace tandem
