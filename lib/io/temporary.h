/* What an output is until it is complete: a file ".NAME.kvot-XXXXXX" beside its target. */
#ifndef KVOT_TEMPORARY_H
#define KVOT_TEMPORARY_H

#include "../run/swept.h"

/* Makes a temporary file for `path`, with permissions `mode` and that of its owner to write, or what umask leaves if
 * `mode` is 0. First removes what processes that were killed left behind: for the same path, or, with `swept`, for any
 * path in the directory, unless that was swept before (to read a directory for each of its files would take long if
 * they are many). `directory` is open on the directory of `path`, or -1: then nothing is removed. Returns its
 * descriptor, and its path in `*name`, to be freed; -1 on failure, errno set. */
int temporary_open(int directory, const char *path, unsigned mode, swept *swept, char **name);

#endif
