/* Restoring, for calls that want an engine's file whatever they are given. */
#ifndef KVOT_RESTORE_H
#define KVOT_RESTORE_H

#include "../file/reader.h"
#include "../run/run.h"

/* Restores all of a .kvot file to a file without a name, in `directory` (NULL: as unnamed_file), to be read from
 * `in`. */
kvot_status restore_unnamed(const reader *reader, input *in, const char *directory, const kvot_run *run,
                            kvot_error *error);

/* Opens an engine's file; a .kvot file is first restored, as restore_unnamed does. */
kvot_status restore_open(input *in, const char *path, const char *directory, const kvot_run *run, kvot_error *error);

#endif
