/* What the parts of the shim share. */
#ifndef KVOT_SHIM_H
#define KVOT_SHIM_H

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>

/* In this order: those from KILL_HALF on die behind the call. */
enum fault { NONE, FAIL, SHORT, KILL_BEFORE, KILL_HALF, KILL_AFTER };

/* The function that a wrapper stands in front of. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

extern int fault_errno; /* what FAIL means */

/* Counts a call on `path` (not if it is NULL), and says what is to happen to it. */
enum fault arrive(const char *call, const char *path);

/* Whether calls on this file count. */
bool counts(const char *path);

/* The file of a descriptor; NULL if calls on it do not count. */
const char *path_of(int fd, char path[PATH_MAX]);

_Noreturn void die(void);

#endif
