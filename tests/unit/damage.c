/* damage FILE...: cuts and flips inside one process, so that a build with sanitizers can do them all.
 *
 * Each FILE is a small file of an engine. It is cut at every byte; then it is compressed, and the .kvot file is cut at
 * every byte and has every byte changed in two ways, and again after FILE with one row changed was appended to it. What
 * is damaged must be refused, and nothing may be read or written where it should not (the sanitizers see to that). */
#include "../../lib/cache/rows.h"
#include "../../lib/engines/engine.h"
#include "../../lib/file/reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct bytes {
    uint8_t *data;
    size_t n;
} bytes;

static unsigned passed, failed;

static void check(bool good, const char *file, const char *what, size_t at) {
    if (!good)
        printf("%s: %s at %zu\n", file, what, at);
    *(good ? &passed : &failed) += 1;
}

static bytes read_file(const char *path) {
    bytes file = {0};
    FILE *from = fopen(path, "rb");
    if (!from || fseek(from, 0, SEEK_END) != 0)
        abort();
    file.n = (size_t)ftell(from);
    file.data = malloc(file.n + 1);
    rewind(from);
    if (!file.data || fread(file.data, 1, file.n, from) != file.n)
        abort();
    fclose(from);
    return file;
}

static void write_file(const char *path, const bytes *file) {
    FILE *to = fopen(path, "wb");
    if (!to || fwrite(file->data, 1, file->n, to) != file->n || fclose(to) != 0)
        abort();
}

/* A copy of its own of the first `n` bytes, so that reading behind them is seen. */
static input input_of(const bytes *file, size_t n, bytes *copy) {
    copy->n = n;
    copy->data = malloc(n + !n);
    memcpy(copy->data, file->data, n);
    return (input){.fd = -1, .memory = copy->data, .bytes = n, .name = strdup("damaged")};
}

/* Changes the last byte of the last tensor. False if the file has no rows. */
static bool change_row(bytes *file) {
    bytes copy;
    plan plan;
    input in = input_of(file, file->n, &copy);
    if (engine_read(&in, &plan, NULL) != KVOT_OK)
        abort();
    uint64_t end = 0, at = 0;
    for (uint32_t s = 0; s < plan.n_segments; s++) {
        at += plan.segments[s].bytes;
        if (plan.segments[s].plane != FORMAT_VERBATIM && plan.segments[s].bytes > 0)
            end = at;
    }
    if (end > 0)
        file->data[end - 1] ^= 1;
    plan_free(&plan);
    input_close(&in);
    free(copy.data);
    return end > 0;
}

/* A cut file is refused, or is a shorter file that is whole: then the plan accounts for every byte of it. */
static void cut_engine_file(const char *path, const bytes *file) {
    for (size_t n = 0; n < file->n; n++) {
        bytes copy;
        plan plan;
        cache cache = {0};
        input in = input_of(file, n, &copy);
        kvot_status status = engine_read(&in, &plan, NULL);
        if (status == KVOT_OK)
            status = rows_to_cache(&plan, &in, &cache, NULL);
        check(status == KVOT_OK ? plan.bytes == n : status == KVOT_E_DAMAGED || status == KVOT_E_UNKNOWN, path,
              "wrong after a cut", n);
        cache_free(&cache);
        plan_free(&plan);
        input_close(&in);
        free(copy.data);
    }
}

/* Opens a .kvot file and decodes everything; takes `in` over. */
static kvot_status decode(input *in) {
    reader reader;
    kvot_status status = reader_open(&reader, in, NULL);
    if (status != KVOT_OK)
        return status;
    const cache *cache = &reader.cache;
    codec_context context = {0};
    uint8_t *buffer = NULL, *rows = NULL;
    size_t room = 0, rows_room = 0;
    for (uint64_t j = 0; j < cache->n_jobs && status == KVOT_OK; j++) {
        cache_job job = cache_locate(cache, j);
        for (uint32_t i = 0; i < (job.verbatim ? 1 : job.unit->n_planes) && status == KVOT_OK; i++) {
            uint32_t p = job.verbatim ? 0 : job.unit->first_plane + i;
            const format_plane *plane = job.verbatim ? &codec_verbatim : &cache->tables.planes[p];
            uint32_t n = job.verbatim ? cache_verbatim_bytes(cache, job.block) : job.chunk->rows;
            uint32_t stream = job.verbatim ? job.block : cache_stream(cache, p, job.chunk);
            status = make_room(&rows, &rows_room, (size_t)n * plane->row_bytes, NULL);
            if (status == KVOT_OK)
                status = reader_read(&reader, stream, &buffer, &room, NULL);
            if (status == KVOT_OK)
                status = reader_decode(&reader, &context, stream, plane, n, true, buffer, rows, NULL);
        }
    }
    free(buffer);
    free(rows);
    codec_context_free(&context);
    reader_close(&reader);
    return status;
}

/* Marks the bytes that are not padding. */
static uint8_t *used_bytes(const bytes *file) {
    bytes copy;
    reader reader;
    input in = input_of(file, file->n, &copy);
    uint8_t *used = calloc(1, file->n);
    if (reader_open(&reader, &in, NULL) != KVOT_OK)
        abort();
    const format_tables *tables = &reader.cache.tables;
    memset(used, 1, sizeof(format_header));
    for (uint32_t s = 0; s < tables->index->n_streams; s++)
        memset(used + tables->streams[s].offset, 1, tables->streams[s].stored_bytes);
    size_t index = format_index_bytes(tables->index, UINT64_MAX);
    memset(used + file->n - sizeof(format_footer) - index, 1, index + sizeof(format_footer));
    reader_close(&reader);
    free(copy.data);
    return used;
}

static void damage_kvot_file(const char *path, const bytes *file) {
    bytes copy;
    for (size_t n = 0; n <= file->n; n++) {
        input in = input_of(file, n, &copy);
        kvot_status status = decode(&in);
        check(n == file->n ? status == KVOT_OK : status == KVOT_E_DAMAGED, path, ".kvot: wrong after a cut", n);
        free(copy.data);
    }
    uint8_t *used = used_bytes(file);
    for (size_t at = 0; at < file->n; at++) {
        for (int mask = 1; mask < 256; mask += 254) {
            input in = input_of(file, file->n, &copy);
            copy.data[at] ^= (uint8_t)mask;
            kvot_status status = decode(&in);
            check(used[at] ? status == KVOT_E_DAMAGED : status == KVOT_OK, path, ".kvot: wrong after a flip", at);
            free(copy.data);
        }
    }
    free(used);
}

/* `file` begins with a file of `old` bytes and goes on with what was appended to it. What is cut off behind the old one
 * leaves that; so does damage to the new footer alone. */
static void damage_appended_file(const char *path, const bytes *file, size_t old) {
    bytes copy;
    for (size_t n = 0; n < file->n; n++) {
        input in = input_of(file, n, &copy);
        check(decode(&in) == (n < old ? KVOT_E_DAMAGED : KVOT_OK), path, "appended: wrong after a cut", n);
        free(copy.data);
    }
    uint8_t *used = used_bytes(file);
    memset(used + file->n - sizeof(format_footer), 0, sizeof(format_footer));
    for (size_t at = 0; at < file->n; at++) {
        input in = input_of(file, file->n, &copy);
        copy.data[at] ^= 1;
        check(decode(&in) == (used[at] ? KVOT_E_DAMAGED : KVOT_OK), path, "appended: wrong after a flip", at);
        free(copy.data);
    }
    free(used);
}

/* An empty file, to be removed. */
static void make_file(char *name) {
    int fd = mkstemp(name);
    if (fd < 0)
        abort();
    close(fd);
}

int main(int argc, char **argv) {
    char packed[] = "/tmp/damage-XXXXXX", changed[] = "/tmp/damage-XXXXXX";
    if (argc < 2)
        return 2;
    make_file(packed);
    make_file(changed);
    kvot_run run = {.threads = 1, .overwrite = true};
    for (int i = 1; i < argc; i++) {
        bytes file = read_file(argv[i]);
        cut_engine_file(argv[i], &file);
        bool has_rows = change_row(&file);
        write_file(changed, &file);
        free(file.data);
        for (int codec = 0; codec < 2; codec++) {
            kvot_compress_options options = kvot_compress_defaults();
            kvot_append_result result = {0};
            options.codec = (kvot_codec)codec;
            options.bits = 3;
            check(kvot_compress(argv[i], packed, &options, &run, NULL, NULL) == KVOT_OK, argv[i], "not compressed", 0);
            file = read_file(packed);
            damage_kvot_file(argv[i], &file);
            size_t old = file.n;
            free(file.data);
            check(kvot_append(changed, packed, NULL, &run, &result, NULL) == KVOT_OK, argv[i], "not appended", 0);
            file = read_file(packed);
            check(file.n == old + result.written_bytes && (result.written_bytes > 0) == has_rows, argv[i],
                  "appended another length than is said", file.n);
            if (has_rows)
                damage_appended_file(argv[i], &file, old);
            free(file.data);
        }
    }
    unlink(packed);
    unlink(changed);
    printf("%u passed, %u failed\n", passed, failed);
    return failed > 0;
}
