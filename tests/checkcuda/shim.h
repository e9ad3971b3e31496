/* A driver whose calls can be made to fail, in place of the library's: for tests that have their process to themselves.
 */
#ifndef KVOT_CHECK_CUDA_SHIM_H
#define KVOT_CHECK_CUDA_SHIM_H

#include "check.h"

enum { CU_LAUNCH_FAILED = 719, CU_UNKNOWN = 999 };

/* Which call fails. */
typedef struct fault {
    uint64_t number;  /* counted from 1; 0: none */
    const char *name; /* counts calls of this name only; NULL: all */
    bool later_too;   /* so do all after it */
    cu_result with;
} fault;

/* When: a public call works on threads of its own, and opens and closes on the thread that made it. */
typedef enum shim_phase { SHIM_OPENING, SHIM_WORKING, SHIM_CLOSING } shim_phase;

/* The first call that failed. */
typedef struct shim_failed {
    const char *name; /* NULL: none */
    shim_phase phase;
} shim_failed;

/* Puts the shim in place. Loading a module takes long, so whoever loads one gets that of `device`, which is open. */
void shim_install(const device *device);
void shim_remove(void);

/* The driver's own calls. */
const driver *shim_real(void);

/* From here on, calls are counted, and `fault` fails. */
void shim_start(fault fault);
/* Bytes that were copied to the host since then. */
uint64_t shim_downloaded(void);
/* For a test that makes its calls on one thread: it closes now. */
void shim_closing(void);
shim_failed shim_end(void);

/* Whether the library takes no notice: what is thrown away is not worth a failure. */
bool shim_ignored(shim_failed failed);

/* That all that was taken since shim_start has been given back. `what` says what was done. */
void shim_check_held(const char *what);

#endif
