/* A file that grows at its end, in place: what it holds is never touched. */
#ifndef KVOT_IN_PLACE_H
#define KVOT_IN_PLACE_H

#include "io.h"

typedef struct in_place {
    output out;     /* what is appended, by output_append; closed and committed by the calls below only */
    char *path;     /* to see whether the file still has its name */
    uint64_t bytes; /* what it has now, and again after a failure */
    bool started;
} in_place;

/* Opens an existing file to append to it, and keeps others from doing so too: KVOT_E_IO if another is at it. To be
 * given to in_place_close, also on failure. */
kvot_status in_place_open(in_place *file, const char *path, const kvot_run *run, kvot_error *error);

/* KVOT_E_IO if `in`, which was opened by the same name, is another file by now. */
kvot_status in_place_is(const in_place *file, const input *in, kvot_error *error);

/* Cuts off what lies behind the first `bytes` bytes. What is appended then begins at `offset`, with zeros before it. */
kvot_status in_place_start(in_place *file, uint64_t bytes, uint64_t offset, kvot_error *error);

/* Makes what was appended durable. From then on a failure leaves the file as long as it is. */
kvot_status in_place_commit(in_place *file, kvot_error *error);

/* Unless it was committed, the file becomes as long as it was. */
void in_place_close(in_place *file);

#endif
