// Which images can go into their target by COPY without being looked into, and how (apply_direct.cpp): every target column is one old column,
// and the bytes of its image are what the type of the target receives, or an integer that only has to be made wider.
#pragma once

#include "catalog.hpp"

extern "C" {
#include "lib/stringinfo.h"
}

namespace tandem {

struct DirectField {
    bool taken;     // some target column has it
    int widened_to; // bytes, 0: as it is
};

struct DirectShape {
    List *columns; // names of target columns in the order of the image's fields (String)
    DirectField *fields;
    int field_count;
    int column_count;
};

// False: rows of this table must be merged. Allocates in the current context.
bool direct_shape(const SourceTable *table, DirectShape *shape);

// Appends an image as a row of binary COPY.
void append_copy_row(StringInfo out, const DirectShape *shape, const char *image, int length);

} // namespace tandem
