/* What an output is until it is complete: a file ".NAME.kvot-XXXXXX" beside its target. */
#ifndef KVOT_TEMPORARY_H
#define KVOT_TEMPORARY_H

/* Makes a temporary file for `path`, with permissions `mode` and that of its owner to write, or what umask leaves if
 * `mode` is 0. First removes those that processes which were killed left behind for the same path. `directory` is open
 * on the directory of `path`, or -1: then nothing is removed. Returns its descriptor, and its path in `*name`, to be
 * freed; -1 on failure, errno set.
 */
int temporary_open(int directory, const char *path, unsigned mode, char **name);

#endif
