/* Verifying, for calls that do not let a file have its name before. */
#ifndef KVOT_VERIFY_H
#define KVOT_VERIFY_H

#include "../io/io.h"

/* Does what kvot_verify does with a .kvot file of `bytes` bytes that was written to `out` and has no name yet. */
kvot_status verify_output(const output *out, uint64_t bytes, const input *original, const kvot_run *run,
                          kvot_error *error);

#endif
