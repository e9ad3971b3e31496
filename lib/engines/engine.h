/* Engines: who wrote a file, and what is in it. Each is a struct in one table.
 *
 * A plan replays the source: verbatim bytes and planes in the order of the file. So writing a file back needs no code
 * of the engine's own; only writing a part of it does. */
#ifndef KVOT_ENGINE_H
#define KVOT_ENGINE_H

#include "../cache/plan.h"
#include "../file/cut.h"
#include "../io/io.h"

enum { ENGINE_PROBE_BYTES = 8 };

/* The name of what no engine wrote. */
#define ENGINE_ARRAYS "arrays"

typedef struct engine {
    const char *name;
    /* True if a file that starts so is this engine's. `n` bytes, fewer than ENGINE_PROBE_BYTES if the file is shorter.
     * Never guesses. NULL, as is `read`: it has no files. */
    bool (*probe)(const uint8_t *start, size_t n);
    /* Fills `plan`, which is empty. KVOT_E_DAMAGED: the engine's file, but cut or changed. */
    kvot_status (*read)(const input *in, plan *plan, kvot_error *error);
    /* Puts the parts of the file that `cut` asks for. KVOT_E_ARGUMENT: there is no such file, or the engine could not
     * go on from it. */
    kvot_status (*cut)(cut *cut, kvot_error *error);
} engine;

/* Reads the plan of a file that some engine wrote. `plan` is to be given to plan_free, also on failure. */
kvot_status engine_read(const input *in, plan *plan, kvot_error *error);

/* Whether what a cache of this engine restores to can be read: a file of its own. */
bool engine_has_files(const char *name);

/* The same as an engine's `cut`, of whichever wrote the file. */
kvot_status engine_cut(cut *cut, kvot_error *error);

#endif
