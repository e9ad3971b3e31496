/* Fuzzes what reads an engine's file: its plan, the rows made of it, and the promise that both together give every byte
 * of the file back. */
#include "../../lib/engines/engine.h"
#include "../../lib/cache/rows.h"
#include "../../lib/codecs/codec.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool kept) {
    if (!kept)
        abort();
}

/* Reads a chunk of a plane (or a verbatim block), sends it through the lossless codec and puts it where it belongs. */
static void move(const cache *cache, cache_job job, uint32_t plane, const input *in, output *out) {
    const format_plane *about = job.verbatim ? &codec_verbatim : &cache->tables.planes[plane];
    uint32_t n = job.verbatim ? cache_verbatim_bytes(cache, job.block) : job.chunk->rows;
    size_t bytes = (size_t)n * about->row_bytes, stored = 0;
    const codec *codec = codec_of(FORMAT_LOSSLESS);
    static codec_context context; /* making one takes longer than all else */
    uint8_t *rows = malloc(bytes), *stream = malloc(codec->bound(about, n, NULL));
    demand(rows && stream);
    demand((job.verbatim ? cache_gather_verbatim(cache, job.block, in, rows, NULL)
                         : cache_gather(cache, plane, job.chunk, in, rows, NULL)) == KVOT_OK);
    demand(codec->encode(&context, about, rows, n, NULL, stream, &stored, NULL) == KVOT_OK);
    demand(stored <= codec->bound(about, n, NULL));
    memset(rows, 0, bytes);
    demand(codec->decode(&context, about, stream, stored, n, rows, NULL) == KVOT_OK);
    demand((job.verbatim ? cache_scatter_verbatim(cache, job.block, out, rows, NULL)
                         : cache_scatter(cache, plane, job.chunk, out, rows, NULL)) == KVOT_OK);
    free(rows);
    free(stream);
}

static void check_round_trip(const cache *cache, const input *in) {
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("restored", MFD_CLOEXEC);
    demand(fd >= 0 && ftruncate(fd, 0) == 0);
    output out = {.fd = fd, .name = in->name, .stream = -1};
    for (uint64_t j = 0; j < cache->n_jobs; j++) {
        cache_job job = cache_locate(cache, j);
        for (uint32_t i = 0; i < (job.verbatim ? 1 : job.unit->n_planes); i++)
            move(cache, job, job.verbatim ? 0 : job.unit->first_plane + i, in, &out);
    }
    uint8_t *restored = malloc(in->bytes + 1);
    demand(restored && pread(fd, restored, in->bytes + 1, 0) == (ssize_t)in->bytes);
    demand(memcmp(restored, in->memory, in->bytes) == 0);
    free(restored);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {.fd = -1, .memory = data, .bytes = size, .name = "fuzz"};
    plan plan;
    cache cache = {0};
    if (engine_read(&in, &plan, NULL) == KVOT_OK) {
        demand(plan.bytes == size);
        demand(rows_to_cache(&plan, &in, &cache, NULL) == KVOT_OK);
        check_round_trip(&cache, &in);
    }
    cache_free(&cache);
    plan_free(&plan);
    return 0;
}
