/* What a restore is measured against: reading a file as it is, or as zstd made it. */
#ifndef KVOT_RAW_H
#define KVOT_RAW_H

#include "../io/io.h"
#include "../run/kept.h"

/* Each reads all of a file and says in `*seconds` how long that took. What was read is not kept. */

/* With read, a mebibyte at a time. */
kvot_status raw_buffered(const input *in, double *seconds, kvot_error *error);

/* With O_DIRECT and io_uring, 16 reads of a mebibyte at a time: as fast as this disk goes, and what fio does with
 * ioengine=io_uring, bs=1M, iodepth=16. KVOT_E_UNSUPPORTED where the kernel refuses either. `kept` (may be NULL) keeps
 * its buffers for the next time: while the system takes pages back, it is slow at other things. */
kvot_status raw_direct(const input *in, kept *kept, double *seconds, kvot_error *error);

/* With read, and decompressed: `in` is what raw_compress made. */
kvot_status raw_decompress(const input *in, double *seconds, kvot_error *error);

/* Compresses a file as `zstd -3` does, to a file without a name in `directory`. Asks run->progress whether to stop. */
kvot_status raw_compress(const input *in, const char *directory, const kvot_run *run, input *compressed,
                         kvot_error *error);

/* Makes sure that a file is not, or is, in the page cache. */
void raw_drop(const input *in);
kvot_status raw_warm(const input *in, kvot_error *error);

#endif
