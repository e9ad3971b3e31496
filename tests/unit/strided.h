/* Arrays in the orders of dimensions that engines have, and some that none has. */
#ifndef KVOT_UNIT_STRIDED_H
#define KVOT_UNIT_STRIDED_H

#include "../../lib/kvot.h"

enum { STRIDED_LAYOUTS = 8, STRIDED_MOST = 4 }; /* times as many elements as it has: memory that any layout fits in */

kvot_array strided_array(int layout, void *memory, kvot_type type, uint32_t tokens, uint32_t heads, uint32_t head_dim);

size_t strided_element_bytes(kvot_type type);

void *strided_element(const kvot_array *array, uint64_t token, uint64_t head, uint64_t channel);

#endif
