/* One line of detail for each failure, filled where it happens and handed up unchanged. */
#ifndef KVOT_ERROR_H
#define KVOT_ERROR_H

#include "kvot.h"

/* Fills `error` if it is not NULL and returns `status`, so that a failing function ends in `return fail(...)`. */
__attribute__((format(printf, 3, 4))) kvot_status fail(kvot_error *error, kvot_status status, const char *format, ...);

kvot_status fail_memory(kvot_error *error);

/* "NAME: cannot VERB: what errno means"; KVOT_E_CANCELLED for ECANCELED. */
kvot_status fail_errno(kvot_error *error, const char *name, const char *verb);

/* The same, with where in the file: "NAME: cannot VERB at byte OFFSET: ...". */
kvot_status fail_errno_at(kvot_error *error, const char *name, const char *verb, uint64_t offset);

#endif
