/* Which files of a tree belong to which of N runs. */
#ifndef KVOT_BATCH_SHARD_H
#define KVOT_BATCH_SHARD_H

#include "batch.h"

/* Sets `shard` of all files: so that each shard has as much work, as the first shard to start saw it. That one writes
 * it to DIRECTORY/OPERATION-of-N.plan, the others read it. A file that is not in it goes by a hash of its key. Without
 * a directory nothing is written, and all shards must see the same files. False after a message. */
bool shard_assign(const batch_job *job, batch_file *files, size_t n);

#endif
