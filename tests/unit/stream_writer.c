#include "unit.h"

#include "../../lib/file/reader.h"
#include "../../lib/run/run.h"

#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { LAYERS = 3, TOKENS = 1100, HEADS = 2, HEAD_DIM = 32, ROW = HEADS * HEAD_DIM, N = TOKENS * ROW, THREADS = 4 };

static uint16_t keys[LAYERS][N];
static float values[LAYERS][N]; /* other elements, and channel-major */
static int32_t ids[TOKENS + 1];

/* Tokens `first` to `first + n - 1` of a layer's K or V. */
static kvot_array part_of(size_t array, uint32_t first, uint32_t n) {
    if (array % 2 == 0)
        return (kvot_array){&keys[array / 2][first * ROW], KVOT_F16, n, HEADS, HEAD_DIM, ROW, HEAD_DIM, 1};
    return (kvot_array){&values[array / 2][first], KVOT_F32, n, HEADS, HEAD_DIM, 1, HEAD_DIM * TOKENS, TOKENS};
}

static kvot_array arrays[2 * LAYERS];

static void fill(void) {
    for (size_t a = 0; a < 2 * LAYERS; a++)
        arrays[a] = part_of(a, 0, TOKENS);
    for (int l = 0; l < LAYERS; l++) {
        for (int i = 0; i < N; i++) {
            keys[l][i] = (uint16_t)(0x3000 + unit_random() % 0xc00);
            values[l][i] = (float)(unit_random() % 1000) / 100;
        }
    }
    for (int i = 0; i <= TOKENS; i++)
        ids[i] = i * i;
}

static kvot_about about_at(uint32_t position) {
    return (kvot_about){.position = position, .architecture = "llama", .model_digest = {7}, .rope_base = 1e6f};
}

static kvot_writer *open_writer(const kvot_compress_options *options, uint32_t position) {
    kvot_about about = about_at(position);
    kvot_run run = {.overwrite = true};
    kvot_array shapes[2 * LAYERS];
    kvot_writer *writer;
    for (size_t a = 0; a < 2 * LAYERS; a++)
        shapes[a] = (kvot_array){.type = arrays[a].type, .heads = HEADS, .head_dim = HEAD_DIM};
    CU_ASSERT_EQUAL_FATAL(
        kvot_writer_open(unit_path("stream.kvot"), shapes, LAYERS, &about, options, &run, &writer, NULL), KVOT_OK);
    return writer;
}

static kvot_status put(kvot_writer *writer, size_t layer, uint32_t first, uint32_t n) {
    size_t there = layer % LAYERS; /* tests name layers that are not */
    kvot_array k = part_of(2 * there, first, n), v = part_of(2 * there + 1, first, n);
    return kvot_writer_put(writer, layer, first, &k, &v, NULL, NULL);
}

/* No file, and no temporary one. */
static bool nothing_is_left(void) {
    char pattern[128];
    glob_t found;
    snprintf(pattern, sizeof pattern, "/tmp/.kvot-unit-%d-stream.kvot*", (int)getpid());
    int result = glob(pattern, 0, NULL, &found);
    if (result == 0)
        globfree(&found);
    return result == GLOB_NOMATCH && access(unit_path("stream.kvot"), F_OK) != 0;
}

/* One chunk, or the last two together, of a layer. */
typedef struct piece {
    size_t layer;
    uint32_t first, n;
} piece;

static struct {
    kvot_writer *writer;
    piece pieces[64];
    unsigned n_pieces, next;
    pthread_mutex_t lock;
} work = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *put_pieces(void *failures) {
    for (;;) {
        pthread_mutex_lock(&work.lock);
        unsigned i = work.next++;
        pthread_mutex_unlock(&work.lock);
        if (i >= work.n_pieces)
            return NULL;
        *(int *)failures += put(work.writer, work.pieces[i].layer, work.pieces[i].first, work.pieces[i].n) != KVOT_OK;
    }
}

/* Cuts all tokens at chunks, in an order that nobody would expect, and has threads hand them over. */
static void write_scattered(const kvot_compress_options *options, uint32_t position) {
    uint32_t lead = 256 - position % 256;
    work.writer = open_writer(options, position);
    work.n_pieces = work.next = 0;
    for (size_t l = 0; l < LAYERS; l++)
        for (uint32_t first = 0, n; first < TOKENS; first += n) {
            n = first == 0 ? lead : 256;
            if (first + n + 256 >= TOKENS)
                n = TOKENS - first;
            work.pieces[work.n_pieces++] = (piece){l, first, n};
        }
    for (unsigned i = work.n_pieces - 1; i > 0; i--) {
        unsigned other = unit_random() % (i + 1);
        piece swapped = work.pieces[i];
        work.pieces[i] = work.pieces[other];
        work.pieces[other] = swapped;
    }
    pthread_t threads[THREADS];
    int failures[THREADS] = {0};
    for (int t = 0; t < THREADS; t++)
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[t], NULL, put_pieces, &failures[t]), 0);
    for (int t = 0; t < THREADS; t++) {
        pthread_join(threads[t], NULL);
        CU_ASSERT_EQUAL(failures[t], 0);
    }
}

/* Two files hold the same, but for where their streams lie. */
static void check_same(const char *first, const char *second) {
    reader a, b;
    CU_ASSERT_EQUAL_FATAL(reader_open_path(&a, unit_path(first), &run_plain, NULL), KVOT_OK);
    CU_ASSERT_EQUAL_FATAL(reader_open_path(&b, unit_path(second), &run_plain, NULL), KVOT_OK);
    uint64_t bytes = format_index_bytes(a.cache.tables.index, UINT64_MAX);
    format_stream *streams[] = {(format_stream *)a.cache.tables.streams, (format_stream *)b.cache.tables.streams};
    for (uint32_t i = 0; i < a.cache.tables.index->n_streams; i++)
        streams[0][i].offset = streams[1][i].offset = 0;
    CU_ASSERT_EQUAL_FATAL(format_index_bytes(b.cache.tables.index, UINT64_MAX), bytes);
    CU_ASSERT_EQUAL(memcmp(a.cache.tables.index, b.cache.tables.index, bytes), 0);
    reader_close(&a);
    reader_close(&b);
}

static void scattered_chunks_make_the_same(kvot_compress_options options, uint32_t position) {
    kvot_about about = about_at(position);
    kvot_run run = {.overwrite = true};
    kvot_sizes sizes, expected;
    about.tokens = ids;
    about.n_tokens = TOKENS + 1;
    CU_ASSERT_EQUAL_FATAL(
        kvot_compress_arrays(arrays, LAYERS, NULL, &about, unit_path("arrays.kvot"), &options, &run, &expected, NULL),
        KVOT_OK);
    write_scattered(&options, position);
    CU_ASSERT_EQUAL(kvot_writer_finish(work.writer, TOKENS, ids, TOKENS + 1, &sizes, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(sizes.original_bytes, expected.original_bytes);
    CU_ASSERT_EQUAL(sizes.quantized_bytes, expected.quantized_bytes);
    check_same("arrays.kvot", "stream.kvot");
    CU_ASSERT_EQUAL(kvot_verify(unit_path("stream.kvot"), NULL, NULL, NULL, NULL), KVOT_OK);
    unlink(unit_path("arrays.kvot"));
    unlink(unit_path("stream.kvot"));
}

static void scattered_chunks_make_the_same_file(void) {
    static const uint32_t positions[] = {0, 100, 256 * 3};
    fill();
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        kvot_compress_options options = kvot_compress_defaults();
        scattered_chunks_make_the_same(options, positions[i]);
        options.bits = 3;
        options.group = 128;
        scattered_chunks_make_the_same(options, positions[i]);
        options.codec = KVOT_LOSSLESS;
        scattered_chunks_make_the_same(options, positions[i]);
    }
}

static kvot_status finish_with(kvot_writer *writer, uint32_t tokens) {
    kvot_status status = kvot_writer_finish(writer, tokens, NULL, 0, NULL, NULL);
    CU_ASSERT_TRUE(status == KVOT_OK || nothing_is_left());
    return status;
}

static kvot_writer *write_all_but(size_t layer, uint32_t first) {
    kvot_writer *writer = open_writer(NULL, 0);
    for (size_t l = 0; l < LAYERS; l++)
        for (uint32_t t = 0; t < TOKENS; t += 256)
            if (l != layer || t != first)
                CU_ASSERT_EQUAL(put(writer, l, t, TOKENS - t < 256 ? TOKENS - t : 256), KVOT_OK);
    return writer;
}

static void missing_chunks_make_no_file(void) {
    const kvot_status wrong = KVOT_E_ARGUMENT;
    fill();
    CU_ASSERT_EQUAL(finish_with(write_all_but(1, 512), TOKENS), wrong);
    CU_ASSERT_EQUAL(finish_with(write_all_but(LAYERS - 1, 1024), TOKENS), wrong);
    CU_ASSERT_EQUAL(finish_with(write_all_but(LAYERS, 0), TOKENS + 1), wrong);
    CU_ASSERT_EQUAL(finish_with(write_all_but(LAYERS, 0), TOKENS - 1), wrong);
    CU_ASSERT_EQUAL(finish_with(write_all_but(LAYERS, 0), 1024), wrong);
    CU_ASSERT_EQUAL(finish_with(write_all_but(LAYERS, 0), 0), wrong);
    CU_ASSERT_EQUAL(finish_with(open_writer(NULL, 0), TOKENS), wrong);
    kvot_writer *writer = write_all_but(0, 256);
    CU_ASSERT_EQUAL(put(writer, 0, 256, 255), KVOT_OK); /* too short, as it turns out */
    CU_ASSERT_EQUAL(finish_with(writer, TOKENS), wrong);
    CU_ASSERT_EQUAL(finish_with(write_all_but(LAYERS, 0), TOKENS), KVOT_OK);
    unlink(unit_path("stream.kvot"));
    kvot_writer_abort(write_all_but(LAYERS, 0));
    CU_ASSERT_TRUE(nothing_is_left());
}

static void wrong_chunks_are_refused(void) {
    const kvot_status wrong = KVOT_E_ARGUMENT;
    fill();
    kvot_writer *writer = write_all_but(2, 0);
    CU_ASSERT_EQUAL(put(writer, LAYERS, 0, 256), wrong);
    CU_ASSERT_EQUAL(put(writer, 1, 256, 256), wrong); /* a second time */
    CU_ASSERT_EQUAL(put(writer, 2, 128, 256), wrong); /* not where a chunk begins */
    kvot_array k = part_of(4, 0, 256), v = part_of(5, 0, 256);
    CU_ASSERT_EQUAL(kvot_writer_put(writer, 2, UINT32_MAX - 255, &k, &v, NULL, NULL), wrong);
    CU_ASSERT_EQUAL(kvot_writer_put(writer, 2, 0, &v, &k, NULL, NULL), wrong);
    v.tokens--;
    CU_ASSERT_EQUAL(kvot_writer_put(writer, 2, 0, &k, &v, NULL, NULL), wrong);
    CU_ASSERT_EQUAL(put(writer, 2, 0, 256), KVOT_OK); /* the writer is as good as before */
    CU_ASSERT_EQUAL(finish_with(writer, TOKENS), KVOT_OK);
    kvot_compress_options options = kvot_compress_defaults();
    options.outliers = 3;
    kvot_run run = {0};
    const char *path = unit_path("stream.kvot");
    CU_ASSERT_EQUAL(kvot_writer_open(path, arrays, LAYERS, NULL, NULL, &run, &writer, NULL), KVOT_E_EXISTS);
    unlink(path);
    CU_ASSERT_EQUAL(kvot_writer_open(path, arrays, LAYERS, NULL, &options, &run, &writer, NULL), wrong);
    CU_ASSERT_EQUAL(kvot_writer_open(path, arrays, 0, NULL, NULL, &run, &writer, NULL), wrong);
    CU_ASSERT_TRUE(nothing_is_left());
}

static long most_resident(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss; /* KiB */
}

/* Tokens far behind all others may be right, if those come: memory is taken for what has come. */
static void far_chunks_take_no_memory(void) {
    enum { FAR = INT32_MAX / 256 * 256 - 256 };
    const kvot_status wrong = KVOT_E_ARGUMENT;
    kvot_error error;
    fill();
    kvot_array k = part_of(4, 0, 256), v = part_of(5, 0, 256);
    kvot_writer *writer = write_all_but(LAYERS, 0);
    long before = most_resident();
    CU_ASSERT_EQUAL(kvot_writer_put(writer, 2, FAR, &k, &v, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(kvot_writer_put(writer, 2, FAR, &k, &v, NULL, NULL), wrong);
    CU_ASSERT_EQUAL(kvot_writer_finish(writer, FAR + 256, NULL, 0, NULL, &error), wrong);
    CU_ASSERT_STRING_EQUAL(error.text, "layer 0: of the 256 tokens from 1024 on, 76 were handed over");
    CU_ASSERT_TRUE(nothing_is_left());
    writer = write_all_but(LAYERS, 0);
    CU_ASSERT_EQUAL(kvot_writer_put(writer, 2, FAR, &k, &v, NULL, NULL), KVOT_OK);
    CU_ASSERT_EQUAL(finish_with(writer, TOKENS), wrong);
    CU_ASSERT_EQUAL(finish_with(write_all_but(LAYERS, 0), UINT32_MAX), wrong);
    CU_ASSERT_TRUE(most_resident() - before < 64 << 10);
}

/* A disk that is full stays full: every later call says so too. */
static void failures_stay(void) {
    enum { MANY = 40 }; /* layers, enough for a write */
    kvot_array shapes[2 * MANY];
    kvot_writer *writer;
    kvot_status first = KVOT_OK;
    kvot_error error;
    fill();
    for (size_t a = 0; a < 2 * MANY; a++)
        shapes[a] = arrays[a % 2];
    CU_ASSERT_EQUAL_FATAL(kvot_writer_open("/dev/full", shapes, MANY, NULL, NULL, NULL, &writer, NULL), KVOT_OK);
    for (size_t l = 0; l < MANY - 1; l++)
        first = first == KVOT_OK ? put(writer, l, 0, TOKENS) : first;
    CU_ASSERT_EQUAL(first, KVOT_E_IO);
    CU_ASSERT_EQUAL(put(writer, MANY - 1, 0, TOKENS), KVOT_E_IO);
    CU_ASSERT_EQUAL(kvot_writer_finish(writer, TOKENS, NULL, 0, NULL, &error), KVOT_E_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.text, "/dev/full"));
}

const unit_test stream_writer_tests[] = {{"scattered chunks make the same file", scattered_chunks_make_the_same_file},
                                         {"missing chunks make no file", missing_chunks_make_no_file},
                                         {"wrong chunks are refused", wrong_chunks_are_refused},
                                         {"far chunks take no memory", far_chunks_take_no_memory},
                                         {"failures stay", failures_stay},
                                         {NULL, NULL}};
