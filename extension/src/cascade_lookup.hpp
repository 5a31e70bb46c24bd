// Looking up children of cascading foreign keys on the new side: in the child's target, and among its images that wait in tandem.retry or
// tandem.dead_letter. Old values ("refs") come in and keys ("found", text arrays for tandem.request) go out as tuplestores.
//
// Every function needs an open SPI connection and takes the rights of the owner of the target it reads.
#pragma once

#include "apply.hpp"

extern "C" {
#include "utils/tuplestore.h"
}

namespace tandem {

struct CascadeLink {
    SourceTable *parent;
    const Cascade *cascade;
    SourceTable *child;
};

TupleDesc refs_descriptor(const CascadeLink &link);
TupleDesc found_descriptor();

// Values that parents among the rows had before this transaction: in their keys, in their rows here, in images they supersede. With
// `careful`, rows whose bytes cannot be decoded are left out (they become dead letters); else they raise.
void refs_of_rows(const CascadeLink &link, const TableRows *set, bool careful, TupleDesc desc, Tuplestorestate *refs);

// Values that children refer to and no parent's row here has.
void refs_of_orphans(const CascadeLink &link, TupleDesc desc, Tuplestorestate *refs);

// `opaque_too`: kept images whose foreign key cannot be read count as children.
void find_children(const CascadeLink &link, TupleDesc desc, Tuplestorestate *refs, bool opaque_too, Tuplestorestate *found);

bool expands(const Row *row); // its children are looked up whatever it holds

} // namespace tandem
