/* Restoring, for calls that want an engine's file whatever they are given. */
#ifndef KVOT_RESTORE_H
#define KVOT_RESTORE_H

#include "run.h"

/* Opens an engine's file; a .kvot file is first restored to a file without a name, in `directory` (NULL: as
 * unnamed_file). */
kvot_status restore_open(input *in, const char *path, const char *directory, const kvot_run *run, kvot_error *error);

#endif
