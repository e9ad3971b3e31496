/* attend FILE.kvot [LAYER [HEAD]]: attention scores of one query over the 4-bit keys of a layer, computed on the packed
 * codes where they lie in the file, and compared with those over the restored keys.
 *
 * A key is code * scale + minimum, channel by channel, with one scale and minimum for each channel of a group of
 * tokens:
 *
 *     q . k  =  sum of (q[c] * scale[c]) * code[c]  +  sum of q[c] * minimum[c]
 *
 * So scales are multiplied into the query once a group, and minima added up once a group; a token then costs one
 * product and sum a channel, and half a byte of memory. Tokens that are kept exact get their scores from their own
 * rows.
 */
#include <kvot.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Element `i` of an array of f32, f16 or bf16. */
static float element(const void *from, kvot_type type, size_t i) {
    if (type == KVOT_F32)
        return ((const float *)from)[i];
    uint32_t bits = ((const uint16_t *)from)[i], sign = (bits & 0x8000) << 16, rest = bits & 0x7fff;
    if (type == KVOT_BF16)
        return float_of_bits(bits << 16);
    if (rest >= 0x7c00) /* infinite, or no number */
        return float_of_bits(sign | 0x7f800000 | rest << 13);
    /* As if f16 were a small f32, then 2^112 times as much: right for denormal numbers too. */
    return float_of_bits(sign | rest << 13) * 0x1p112f;
}

/* Scores of a chunk's tokens over one head. `scaled` is room for head_dim numbers. */
static void score_chunk(const kvot_chunk *chunk, uint32_t head, const float *query, float *scaled, float *scores) {
    uint32_t dim = chunk->head_dim, channels = chunk->heads * dim, first = head * dim;
    float base = 0;
    for (uint32_t row = 0; row < chunk->rows; row++) {
        if (row % chunk->group == 0) {
            size_t range = (size_t)row / chunk->group * channels + first;
            base = 0;
            for (uint32_t c = 0; c < dim; c++) {
                scaled[c] = query[c] * element(chunk->scales, chunk->type, range + c);
                base += query[c] * element(chunk->minima, chunk->type, range + c);
            }
        }
        const uint8_t *codes = chunk->codes + (size_t)row * chunk->row_code_bytes + first / 2;
        float even = 0, odd = 0;
        for (uint32_t c = 0; c < dim; c += 2) { /* dim is even: a byte holds two channels, the lower one first */
            even += scaled[c] * (float)(*codes & 15);
            odd += scaled[c + 1] * (float)(*codes++ >> 4);
        }
        scores[row] = base + even + odd;
    }
    size_t exact = 0; /* those of the heads before are listed first */
    for (uint32_t h = 0; h < head; h++)
        exact += chunk->exact_counts[h];
    for (uint32_t i = 0; i < chunk->exact_counts[head]; i++, exact++) {
        float score = 0;
        for (uint32_t c = 0; c < dim; c++)
            score += query[c] * element(chunk->exact, chunk->type, exact * dim + c);
        scores[chunk->exact_rows[exact]] = score;
    }
}

/* Turns scores into the weights that attention gives. */
static void softmax(float *scores, size_t n) {
    float most = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, scores[i]);
    for (size_t i = 0; i < n; i++)
        sum += scores[i] = expf(scores[i] - most);
    for (size_t i = 0; i < n; i++)
        scores[i] /= sum;
}

static float largest_difference(const float *a, const float *b, size_t n) {
    float most = 0;
    for (size_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(a[i] - b[i]));
    return most;
}

static void check(kvot_status status, const kvot_error *error) {
    if (status == KVOT_OK)
        return;
    fprintf(stderr, "attend: %s\n", error->text);
    exit(1);
}

static void *memory(size_t bytes) {
    void *room = malloc(bytes);
    if (!room)
        fprintf(stderr, "attend: out of memory\n"), exit(1);
    return room;
}

/* The number of the first 4-bit K plane of a layer. */
static size_t find_plane(const kvot_info *info, unsigned layer) {
    for (size_t p = 0; p < info->n_planes; p++) {
        const kvot_plane *plane = &info->planes[p];
        if (plane->layer == layer && plane->kind == KVOT_K && plane->codec == KVOT_OTT && plane->bits == 4)
            return p;
    }
    fprintf(stderr, "attend: layer %u has no keys of 4 bits\n", layer);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc < 2)
        return fprintf(stderr, "usage: attend FILE.kvot [LAYER [HEAD]]\n"), 2;
    unsigned layer = argc > 2 ? (unsigned)atoi(argv[2]) : 0, head = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
    kvot_error error;
    kvot_file *file;
    kvot_map *map;
    kvot_chunk chunk;
    check(kvot_open(argv[1], &file, &error), &error);
    check(kvot_map_open(file, true, &map, &error), &error);
    size_t plane = find_plane(kvot_file_info(file), layer), chunks = kvot_map_chunks(map, plane);
    size_t rows = kvot_file_info(file)->planes[plane].rows;
    for (size_t i = 0; i < chunks; i++) /* so that times below are without the checksums of the first access */
        check(kvot_map_chunk(map, plane, i, &chunk, &error), &error);
    uint32_t dim = chunk.head_dim;
    if (head >= chunk.heads || dim % 2 != 0)
        return fprintf(stderr, "attend: there is no head %u of an even size\n", head), 1;

    /* All keys of the layer, restored, as [tokens][heads][head_dim]. */
    size_t row_elems = (size_t)chunk.heads * dim;
    float *keys = memory(rows * row_elems * sizeof *keys), *query = memory(dim * sizeof *query);
    kvot_part part = {plane, 0, {keys, KVOT_F32, (uint32_t)rows, chunk.heads, dim, (int64_t)row_elems, dim, 1}};
    double start = seconds();
    check(kvot_load(file, &part, 1, NULL, &(kvot_run){.threads = 1}, &error), &error);
    double to_restore = seconds() - start;

    /* The query: the last token's key looks for others like it. */
    for (uint32_t c = 0; c < dim; c++)
        query[c] = keys[(rows - 1) * row_elems + head * dim + c] / sqrtf((float)dim);

    float *packed = memory(rows * sizeof *packed), *plain = memory(rows * sizeof *plain);
    float *scaled = memory(dim * sizeof *scaled);
    start = seconds();
    for (size_t i = 0; i < chunks; i++) {
        check(kvot_map_chunk(map, plane, i, &chunk, &error), &error);
        score_chunk(&chunk, head, query, scaled, packed + chunk.first_row);
    }
    double on_codes = seconds() - start;
    start = seconds();
    for (size_t row = 0; row < rows; row++) {
        const float *key = keys + row * row_elems + head * dim;
        float even = 0, odd = 0;
        for (uint32_t c = 0; c < dim; c += 2) {
            even += query[c] * key[c];
            odd += query[c + 1] * key[c + 1];
        }
        plain[row] = even + odd;
    }
    double on_keys = seconds() - start;

    printf("layer %u, head %u of %u: %zu tokens of %u channels\n", layer, head, chunk.heads, rows, dim);
    printf("on packed codes     %8.3f ms, reading %zu bytes\n", on_codes * 1e3, rows * dim / 2);
    printf("on restored keys    %8.3f ms, reading %zu bytes, after %.3f ms to restore the layer's keys\n",
           on_keys * 1e3, rows * dim * sizeof *keys, to_restore * 1e3);
    printf("largest difference  %g in scores", (double)largest_difference(packed, plain, rows));
    softmax(packed, rows);
    softmax(plain, rows);
    printf(", %g in weights\n", (double)largest_difference(packed, plain, rows));
    free(keys);
    free(query);
    free(packed);
    free(plain);
    free(scaled);
    kvot_map_close(map);
    kvot_close(file);
    return 0;
}
