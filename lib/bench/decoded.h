/* A .kvot file in memory, and memory that all its planes can be loaded to: what decoding alone is measured with. */
#ifndef KVOT_DECODED_H
#define KVOT_DECODED_H

#include "../calls/inspect.h"

typedef struct decoded {
    kvot_file *file; /* a copy of it in memory */
    uint8_t *stored;
    size_t stored_bytes;
    uint8_t *planes;
    size_t planes_bytes;
    kvot_part *parts; /* every plane, whole, one behind the other in `planes` */
} decoded;

/* Reads the .kvot file `stored`. The pages of all memory are there. To be given to decoded_close, also on failure. */
kvot_status decoded_open(decoded *decoded, const input *stored, kvot_error *error);
void decoded_close(decoded *decoded);

#endif
