/* Files as the library sees them: inputs that are read at any offset, outputs that appear when they are complete. */
#ifndef KVOT_IO_H
#define KVOT_IO_H

#include "../error.h"

/* Bytes that are there from the start and never move: a file, or memory. */
typedef struct input {
    int fd;                /* -1 if there is only memory */
    const uint8_t *memory; /* all bytes; NULL: they are read from the file */
    kvot_pool *pool;       /* whose memory it is (threads_small), for `held` bytes; NULL: the caller's */
    uint64_t held;
    uint64_t bytes;
    unsigned mode; /* permissions of the file, 0 if it has none of its own */
    char *name;    /* for messages */
} input;

/* "-" and whatever else cannot seek is first copied to an unnamed temporary file. With a pool, a small file is read
 * whole: what it is made of is often so small that asking the system for each would take longer than all else. */
kvot_status input_open(input *in, const char *path, const kvot_run *run, kvot_error *error);
void input_close(input *in);

/* Reads exactly `n` bytes; KVOT_E_DAMAGED if the file ends before. Any thread. */
kvot_status input_read(const input *in, uint64_t offset, void *to, size_t n, kvot_error *error);

/* True if the file became shorter than it was; `in` then knows. */
bool input_shrank(input *in);

/* An output goes to a temporary file beside `path` (temporary.h), which takes the name in output_commit. "-" and what
 * is no regular file (a device, a pipe) is written to directly, or, when `seekable` is asked for, at output_commit. A
 * file that is replaced keeps its permissions; a new one gets `mode` (those of the input: a private cache stays
 * private), or what umask leaves where that is 0. */
typedef struct output {
    int fd;
    int directory;   /* of `path`; -1 if it has none, or must not be listed */
    uint8_t *memory; /* where output_put puts bytes, instead of a file */
    uint64_t held;   /* bytes of it that go to the file at once, in output_commit; 0: it is the caller's, `fd` is -1 */
    char *name, *path, *temporary;
    const kvot_run *run;
    uint64_t appended; /* bytes */
    bool spooled;
    unsigned mode; /* that it gets in output_commit, 0 if it has it already */
    int stream;    /* where a spooled output goes, else -1 */
} output;

#define OUTPUT_NONE .fd = -1, .directory = -1, .stream = -1

kvot_status output_open(output *out, const char *path, unsigned mode, const kvot_run *run, bool seekable,
                        kvot_error *error);

/* An output in `directory` (NULL: see unnamed_file) that never gets a name, for output_to_input. `name` is for
 * messages.
 */
kvot_status output_open_unnamed(output *out, const char *directory, const char *name, const kvot_run *run,
                                kvot_error *error);

/* An output to the caller's memory, for output_put. Nothing is to be committed or closed. */
output output_to_memory(void *memory);

/* For a seekable output that will have `bytes` bytes: if that is little and there is a pool, puts it together in
 * memory. */
void output_hold(output *out, uint64_t bytes);

/* Reads what was written: `bytes` bytes of an unnamed output, whose file `in` takes over. */
kvot_status output_to_input(output *out, input *in, uint64_t bytes, kvot_error *error);

/* Writes at the end of what was appended before. Not for seekable outputs. */
kvot_status output_append(output *out, const void *from, size_t n, kvot_error *error);

/* Writes at `offset`. Seekable outputs only. Any thread. */
kvot_status output_put(output *out, uint64_t offset, const void *from, size_t n, kvot_error *error);

/* True if bytes can be written anywhere in it: it is no pipe or device. */
bool output_is_file(const output *out);

/* Makes what was written durable. */
kvot_status output_sync(output *out, kvot_error *error);

/* Makes the output durable and gives it its name. When that fails, what had the name before still has it, but for one
 * case, which the error names: the new output is complete, but its name may not outlast a crash. */
kvot_status output_commit(output *out, kvot_error *error);

/* Frees `out`; what was not committed is gone. */
void output_close(output *out);

/* A file without a name in `directory`; NULL: in $TMPDIR or /tmp. Returns its descriptor, -1 on failure. */
int unnamed_file(const char *directory);

/* Seconds since some moment that does not change. */
double clock_now(void);

/* Opens what is there. Returns its descriptor; -1 on failure, errno set: ECANCELED as below. */
int open_file(const char *path, int flags, const kvot_run *run);

/* Makes a file `bytes` bytes long. False on failure, errno set. */
bool end_file(int fd, uint64_t bytes);

/* Waits until a descriptor that does not wait itself may be read or written (POLLIN, POLLOUT), or a second is over. */
void wait_for(int fd, short events);

/* Writes all of `n` bytes, requeueing short writes; waits where a pipe does not wait itself. Returns how many were
 * written: fewer on failure, errno set: ECANCELED if a signal came and run->progress then asked to stop. */
size_t write_all(int fd, const void *from, size_t n, const kvot_run *run);

/* Asks run->progress, if there is one, whether to stop. */
bool asked_to_stop(const kvot_run *run, uint64_t bytes);

#endif
