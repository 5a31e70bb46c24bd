// Differences between server versions, and nothing else.
#pragma once

#include "pg/postgres.hpp"

extern "C" {
#include "catalog/pg_database.h"
#include "utils/acl.h"
}

namespace tandem {

inline bool owns_database(Oid database, Oid role) {
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(DatabaseRelationId, database, role);
#else
    return pg_database_ownercheck(database, role);
#endif
}

inline bool attribute_is_dropped_or_generated(const FormData_pg_attribute *attribute) {
    return attribute->attisdropped || attribute->attgenerated != '\0';
}

} // namespace tandem
