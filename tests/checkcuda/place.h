/* Arrays of a test in device memory, between guard bytes. Copies are queued on the test's stream and, where they come
 * from pinned memory, still under way when a call returns. */
#ifndef KVOT_CHECK_CUDA_PLACE_H
#define KVOT_CHECK_CUDA_PLACE_H

#include "check.h"

typedef struct place {
    device *device;
    cu_stream stream;
    kvot_array array; /* on the device */
    cu_pointer memory;
    size_t bytes, element_bytes;
    uint8_t *pinned, *expected;
    cuda_plane strides;
    size_t base;
} place;

/* Memory for `tokens` tokens of the plane in that layout. */
place place_make(device *device, cu_stream stream, const kernel_chunk *chunk, uint32_t tokens, layout layout);
void place_free(place *place);

/* Queues the rows, [tokens][heads][head_dim]; with NULL, nothing but FILL. */
void place_fill(place *place, const void *rows);
/* That the array holds these rows, and everything beside it still is FILL. */
bool place_holds(place *place, const void *rows);

#endif
