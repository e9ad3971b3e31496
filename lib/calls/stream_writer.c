/* Compressing chunks of arrays as an engine makes them. */
#include "../cache/rows.h"
#include "compress.h"

#include <fenv.h>
#include <pthread.h>
#include <stdlib.h>

/* An encoder that no thread uses, and whose lane it may have. */
typedef struct idle {
    unit_encoder encoder;
    const device *device;
    void *stream; /* the caller's */
    bool on_device;
    struct idle *next;
} idle;

/* A layer's chunk that has come. */
typedef struct chunk_entry {
    uint64_t number; /* chunk * layers + layer + 1; 0: there is none here */
    format_stream streams[2];
} chunk_entry;

/* Chunks may come in any order, the last ones first; so they are hashed. At least half of the room is free. */
typedef struct chunk_table {
    chunk_entry *chunks;
    uint64_t room, count;
} chunk_table;

struct kvot_writer {
    kvot_run run;
    run_place place; /* of arrays of the host */
    plan plan;       /* without tokens, until the end */
    uint32_t position, chunk_rows;
    output out;
    pthread_mutex_t lock; /* of what follows */
    writer file;
    chunk_table put;
    idle *idle;
    kvot_status status; /* a failure that left the file behind unfinished */
    kvot_error failure;
};

/* Where a chunk is or would be; NULL where there is no room at all. */
static chunk_entry *find_chunk(const chunk_table *table, uint64_t number) {
    if (table->room == 0)
        return NULL;
    uint64_t at = (number * 0x9e3779b97f4a7c15u >> 32) % table->room;
    while (table->chunks[at].number != 0 && table->chunks[at].number != number)
        at = (at + 1) % table->room;
    return &table->chunks[at];
}

/* Makes room for one more chunk. */
static kvot_status grow_table(chunk_table *table, kvot_error *error) {
    enum { FIRST_ROOM = 64 };
    if (table->count < table->room / 2)
        return KVOT_OK;
    chunk_table larger = {.room = table->room > 0 ? 2 * table->room : FIRST_ROOM, .count = table->count};
    larger.chunks = calloc(larger.room, sizeof *larger.chunks);
    if (!larger.chunks)
        return fail_memory(error);
    for (uint64_t i = 0; i < table->room; i++)
        if (table->chunks[i].number != 0)
            *find_chunk(&larger, table->chunks[i].number) = table->chunks[i];
    free(table->chunks);
    *table = larger;
    return KVOT_OK;
}

static uint64_t number_of(const kvot_writer *to, uint32_t chunk, uint32_t layer) {
    return (uint64_t)chunk * (to->plan.n_planes / 2) + layer + 1;
}

/* Of `left` tokens from this position on, how many belong to its chunk. */
static uint32_t rows_at(const kvot_writer *to, uint32_t position, uint32_t left) {
    uint32_t rows = to->chunk_rows - position % to->chunk_rows;
    return rows < left ? rows : left;
}

static void free_encoder(idle *encoder) {
    unit_encoder_free(&encoder->encoder);
    free(encoder);
}

void kvot_writer_abort(kvot_writer *to) {
    if (!to)
        return;
    while (to->idle) {
        idle *first = to->idle;
        to->idle = first->next;
        free_encoder(first);
    }
    writer_close(&to->file);
    output_close(&to->out);
    plan_free(&to->plan);
    run_place_close(&to->place);
    pthread_mutex_destroy(&to->lock);
    free(to->put.chunks);
    free(to);
}

kvot_status kvot_writer_open(const char *output, const kvot_array *shapes, size_t n_layers, const kvot_about *about,
                             const kvot_compress_options *options, const kvot_run *run, kvot_writer **result,
                             kvot_error *error) {
    static const kvot_about nothing;
    options = options ? options : &compress_defaults;
    about = about ? about : &nothing;
    kvot_writer *to = calloc(1, sizeof *to);
    if (!to)
        return fail_memory(error);
    to->run = run ? *run : run_plain;
    to->run.progress = NULL;
    to->position = about->position;
    to->out = (struct output){OUTPUT_NONE};
    pthread_mutex_init(&to->lock, NULL);
    kvot_status status = compress_check_options(options, error);
    if (status == KVOT_OK && codec_fixes_outliers(options))
        status =
            fail(error, KVOT_E_ARGUMENT, "a fixed number of outliers is chosen over all tokens, which are not there");
    if (status == KVOT_OK)
        status = compress_plan_arrays(&to->plan, shapes, n_layers, about, error);
    if (status == KVOT_OK)
        status = run_place_open(NULL, &to->run, &to->place, error);
    if (status == KVOT_OK)
        status = output_open(&to->out, output, 0, &to->run, false, error);
    if (status == KVOT_OK)
        status = writer_open(&to->file, &to->out, UINT64_MAX, true, error);
    if (status != KVOT_OK) {
        kvot_writer_abort(to);
        return status;
    }
    compress_set_codecs(&to->plan, options);
    to->chunk_rows = rows_of_chunk(to->plan.planes, to->plan.n_planes);
    *result = to;
    return KVOT_OK;
}

/* An encoder for work at `place`: one that has worked there before, or a new one. */
static idle *take_encoder(kvot_writer *to, const run_place *place) {
    void *stream = place->stream ? *place->stream : NULL;
    pthread_mutex_lock(&to->lock);
    idle **at = &to->idle, *found;
    while (*at && ((*at)->device != place->device || (*at)->stream != stream || (*at)->on_device != place->on_device))
        at = &(*at)->next;
    if ((found = *at))
        *at = found->next;
    pthread_mutex_unlock(&to->lock);
    if (!found && (found = calloc(1, sizeof *found)))
        *found = (idle){.device = place->device, .stream = stream, .on_device = place->on_device};
    return found;
}

static void give_encoder_back(kvot_writer *to, idle *encoder) {
    pthread_mutex_lock(&to->lock);
    encoder->next = to->idle;
    to->idle = encoder;
    pthread_mutex_unlock(&to->lock);
}

/* Appends the streams of a chunk. The lock is held. */
static kvot_status append(kvot_writer *to, const unit_encoder *encoder, uint32_t layer, uint32_t chunk,
                          kvot_error *error) {
    if (to->status != KVOT_OK)
        return fail(error, to->status, "%s", to->failure.text);
    kvot_status status = grow_table(&to->put, error);
    if (status != KVOT_OK)
        return status;
    chunk_entry *at = find_chunk(&to->put, number_of(to, chunk, layer));
    if (at->number != 0)
        return fail(error, KVOT_E_ARGUMENT, "layer %u: its chunk %u was handed over before", layer, chunk);
    at->number = number_of(to, chunk, layer);
    to->put.count++;
    for (uint32_t i = 0; i < 2 && to->status == KVOT_OK; i++) {
        const unit_stream *from = &encoder->streams[i];
        at->streams[i] = from->about;
        to->status =
            writer_stream(&to->file, from->bytes, from->about.stored_bytes, &at->streams[i].offset, &to->failure);
    }
    return to->status == KVOT_OK ? KVOT_OK : fail(error, to->status, "%s", to->failure.text);
}

/* Encodes rows `row` to `row + n - 1` of K and V, whole chunk `chunk` of a layer. */
static kvot_status put_chunk(kvot_writer *to, unit_encoder *encoder, const run_place *place, uint32_t layer,
                             const kvot_array *const *arrays, uint32_t row, uint32_t n, uint32_t position,
                             kvot_error *error) {
    kvot_status status = codec_open_lane(&encoder->codec, place->device, place->stream, error);
    if (status == KVOT_OK)
        status = unit_streams(encoder, 2, error);
    for (uint32_t i = 0; i < 2 && status == KVOT_OK; i++)
        status = compress_take_array(place, encoder, i, arrays[i], row, n, error);
    if (status == KVOT_OK)
        status = unit_encode(encoder, to->plan.planes + 2 * layer, 2, n, position == 0, false, error);
    if (status != KVOT_OK)
        return status;
    pthread_mutex_lock(&to->lock);
    status = append(to, encoder, layer, position / to->chunk_rows - to->position / to->chunk_rows, error);
    pthread_mutex_unlock(&to->lock);
    return status;
}

static kvot_status put_rows(kvot_writer *to, const run_place *place, uint32_t layer, const kvot_array *const *arrays,
                            uint32_t first, kvot_error *error) {
    uint32_t tokens = arrays[0]->tokens;
    idle *encoder = take_encoder(to, place);
    if (!encoder)
        return fail_memory(error);
    fenv_t before; /* as in pool_run */
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    kvot_status status = KVOT_OK;
    for (uint32_t row = 0, n; row < tokens && status == KVOT_OK; row += n) {
        uint32_t position = to->position + first + row;
        n = rows_at(to, position, tokens - row);
        status = put_chunk(to, &encoder->encoder, place, layer, arrays, row, n, position, error);
    }
    fesetenv(&before);
    give_encoder_back(to, encoder);
    return status;
}

static kvot_status check(const kvot_writer *to, size_t layer, uint32_t first, const kvot_array *const *arrays,
                         kvot_error *error) {
    if (layer >= to->plan.n_planes / 2)
        return fail(error, KVOT_E_ARGUMENT, "there is no layer %zu", layer);
    for (int i = 0; i < 2; i++) {
        const format_plane *plane = &to->plan.planes[2 * layer + i];
        kvot_status status = array_check(arrays[i], i == 0 ? "K" : "V", error);
        if (status != KVOT_OK)
            return status;
        if (array_type(arrays[i]) != plane->type || array_row_bytes(arrays[i]) != plane->row_bytes ||
            arrays[i]->heads != plane->heads || arrays[i]->tokens != arrays[0]->tokens)
            return fail(error, KVOT_E_ARGUMENT, "layer %zu, %c: has another type or shape", layer, "KV"[i]);
    }
    if (to->position > INT32_MAX || first > INT32_MAX - to->position ||
        arrays[0]->tokens > INT32_MAX - to->position - first)
        return fail(error, KVOT_E_ARGUMENT, "there are too many tokens");
    if (first > 0 && (to->position + first) % FORMAT_CHUNK_ROWS != 0)
        return fail(error, KVOT_E_ARGUMENT, "token %u is at position %u, no multiple of %u", first,
                    to->position + first, FORMAT_CHUNK_ROWS);
    return KVOT_OK;
}

kvot_status kvot_writer_put(kvot_writer *to, size_t layer, uint32_t first, const kvot_array *keys,
                            const kvot_array *values, const kvot_memory *memory, kvot_error *error) {
    const kvot_array *const arrays[] = {keys, values};
    run_place place = to->place;
    kvot_status status = check(to, layer, first, arrays, error);
    if (status == KVOT_OK && memory && memory->device)
        status = run_place_open(memory, &to->run, &place, error); /* the caller's device, which stays open */
    return status == KVOT_OK ? put_rows(to, &place, (uint32_t)layer, arrays, first, error) : status;
}

/* Before memory is taken for `tokens` tokens, which may be any number. */
static kvot_status check_complete(const kvot_writer *to, uint32_t tokens, kvot_error *error) {
    uint32_t n_layers = to->plan.n_planes / 2, chunk = 0;
    for (uint32_t first = 0, rows; first < tokens; first += rows, chunk++) {
        rows = rows_at(to, to->position + first, tokens - first);
        for (uint32_t layer = 0; layer < n_layers; layer++) {
            const chunk_entry *put = find_chunk(&to->put, number_of(to, chunk, layer));
            uint32_t come = put ? put->streams[0].decoded_bytes / to->plan.planes[2 * layer].row_bytes : 0;
            if (come != rows)
                return fail(error, KVOT_E_ARGUMENT, "layer %u: of the %u tokens from %u on, %u were handed over", layer,
                            rows, first, come);
        }
    }
    if (to->put.count > (uint64_t)chunk * n_layers)
        return fail(error, KVOT_E_ARGUMENT, "more tokens were handed over than there are");
    return KVOT_OK;
}

/* Enters the streams that have come into the index. */
static void collect(const kvot_writer *to, const cache *cache) {
    format_stream *streams = (format_stream *)cache->tables.streams;
    for (uint32_t c = 0; c < cache->tables.index->n_chunks; c++)
        for (uint32_t p = 0; p < to->plan.n_planes; p++)
            streams[cache_stream(cache, p, &cache->chunks[c])] =
                find_chunk(&to->put, number_of(to, c, p / 2))->streams[p % 2];
}

kvot_status kvot_writer_finish(kvot_writer *to, uint32_t tokens, const int32_t *ids, size_t n_ids, kvot_sizes *sizes,
                               kvot_error *error) {
    input in = compress_ids(ids, n_ids);
    source source = {.in = &in};
    cache cache = {0};
    kvot_status status = to->status == KVOT_OK ? KVOT_OK : fail(error, to->status, "%s", to->failure.text);
    if (status == KVOT_OK && (tokens == 0 || (n_ids > 0 && !ids)))
        status = fail(error, KVOT_E_ARGUMENT, "there are no tokens, or no token ids where they are counted");
    if (status == KVOT_OK)
        status = check_complete(to, tokens, error);
    if (status == KVOT_OK)
        status = compress_plan_tokens(&to->plan, to->position, tokens, n_ids, error);
    if (status == KVOT_OK)
        status = rows_to_cache(&to->plan, &in, &cache, error);
    if (status == KVOT_OK) {
        collect(to, &cache);
        run_progress progress = {.run = &to->run};
        compress_context compress = {.cache = &cache, .source = &source, .writer = &to->file, .progress = &progress};
        status = compress_write(&compress, cache.tables.index->n_verbatim, error);
    }
    if (status == KVOT_OK)
        status = output_commit(&to->out, error);
    if (status == KVOT_OK && sizes)
        *sizes = cache_sizes(&cache, to->file.offset);
    cache_free(&cache);
    kvot_writer_abort(to);
    return status;
}
