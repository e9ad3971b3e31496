#include "check.h"

#include "../../kernels/levels.h"
#include "../../kernels/numbers.h"

#include <math.h>
#include <stdlib.h>

static _Thread_local uint32_t state = 1;

uint32_t random_below(uint32_t n) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % n;
}

static float random_float(void) {
    return (float)random_below(1u << 24) / (float)(1u << 23) - 1.0f;
}

static void *room(size_t bytes) {
    void *memory = calloc(bytes + 1, 1);
    if (!memory)
        abort();
    return memory;
}

static float random_element(kernel_type type, unsigned kind, float constant) {
    float largest = type == KERNEL_F16 ? 65504.0f : 0x1p126f;
    float least = type == KERNEL_F16 ? 0x1p-22f : 0x1p-146f;
    switch (kind) {
    case 0:
        return constant;
    case 1:
        return random_float() * least; /* denormal */
    case 2:
        return random_float() * largest * 0.9999999f;
    case 3:
        return random_below(2) ? -0.0f : 0.0f;
    case 4:
        return random_below(8) ? random_float() : -0.0f;
    case 6: /* a few steps of the smallest denormal, to round a minimum to -0 */
        return (float)((int)random_below(12) - 1) * (type == KERNEL_F16    ? 0x1p-24f
                                                     : type == KERNEL_BF16 ? 0x1p-133f
                                                                           : 0x1p-149f);
    case 5: /* the largest, to saturate when decoded */
        return (random_below(2) ? 1.0f : -1.0f) * (type == KERNEL_F16 ? largest : 0x1.fcp125f);
    default:
        return random_float() * ldexpf(1.0f, (int)random_below(6) - 3);
    }
}

sample sample_make(kernel_chunk chunk, uint32_t first, bool start, uint32_t seed) {
    static const float not_finite[] = {INFINITY, -INFINITY, NAN, 0x1p126f, -0x1.8p127f};
    state = seed * 2654435761u | 1;
    sample s = {.chunk = chunk, .first = first, .start = start, .element_bytes = lane_element_bytes(&chunk)};
    cuda_plane plane = {.rows = chunk.rows,
                        .first = first,
                        .chunk_rows = KERNEL_MAX_ROWS,
                        .heads = chunk.heads,
                        .head_dim = chunk.head_dim,
                        .group = chunk.group,
                        .bits = chunk.bits,
                        .keys = chunk.keys};
    size_t heads = (size_t)chunk.rows * chunk.heads;
    s.row_bytes = lane_row_bytes(&chunk);
    s.ranges = cuda_ranges(&plane);
    s.codes.row_code_bytes = cuda_row_code_bytes(&plane);
    s.codes.row_high_bytes = cuda_row_high_bytes(&plane);
    s.code_bytes = chunk.rows * s.codes.row_code_bytes;
    s.high_bytes = chunk.rows * s.codes.row_high_bytes;
    s.rows = room(chunk.rows * s.row_bytes);
    s.decoded = room(chunk.rows * s.row_bytes);
    s.losses = room(chunk.rows * sizeof *s.losses);
    s.sums = room(heads * sizeof(float));
    s.squares = room(heads * sizeof(float));
    s.exact = room(heads);
    s.codes.scales = room(s.ranges * s.element_bytes);
    s.codes.minima = room(s.ranges * s.element_bytes);
    s.codes.codes = room(s.code_bytes);
    s.codes.high = room(s.high_bytes);
    unsigned head_kind = 0;
    for (size_t i = 0; i < heads; i++) {
        size_t head = i % chunk.heads;
        if (i < chunk.heads || random_below(8) == 0)
            head_kind = random_below(10);
        unsigned kind = random_below(3) ? (unsigned)(seed + head) % 10 : head_kind;
        float constant = random_float(), small = kind != 6 && random_below(12) == 0 ? 0.01f : 1.0f;
        for (uint32_t c = 0; c < chunk.head_dim; c++)
            store_element(chunk.type, s.rows, i * chunk.head_dim + c,
                          random_element(chunk.type, kind, constant) * small);
        if (random_below(24) == 0) {
            float value = not_finite[random_below(chunk.type == KERNEL_F16 ? 2 : 5)];
            size_t at = i * chunk.head_dim + random_below(chunk.head_dim);
            store_element(chunk.type, s.rows, at, value);
            if (chunk.type == KERNEL_F16) {
                uint16_t bits = random_below(2) ? 0x7e01 : 0xfc00;
                memcpy(s.rows + at * 2, &bits, 2);
            }
        }
    }
    return s;
}

/* One chunk of a sample. */
typedef struct part {
    kernel_chunk chunk;
    kernel_codes codes;
    size_t row;
} part;

/* The chunk that begins at row `row`, whose groups begin at `range`. */
static part part_at(const sample *s, uint32_t row, size_t *range) {
    uint32_t length = row == 0 ? s->first : KERNEL_MAX_ROWS;
    part part = {.chunk = s->chunk, .codes = s->codes, .row = row};
    part.chunk.rows = s->chunk.rows - row < length ? s->chunk.rows - row : length;
    part.codes.scales = (uint8_t *)s->codes.scales + *range * s->element_bytes;
    part.codes.minima = (uint8_t *)s->codes.minima + *range * s->element_bytes;
    part.codes.codes += row * s->codes.row_code_bytes;
    part.codes.high += row * s->codes.row_high_bytes;
    uint32_t group = s->chunk.group, n = s->chunk.keys ? part.chunk.rows : s->chunk.head_dim;
    *range +=
        (size_t)((n + group - 1) / group) * s->chunk.heads * (s->chunk.keys ? s->chunk.head_dim : part.chunk.rows);
    return part;
}

void sample_measure(sample *s) {
    kernels_scalar.magnitudes(&s->chunk, s->rows, s->sums, s->squares);
}

void sample_choose(sample *s, const sample *keys, const sample *values, const uint8_t *given) {
    size_t range = 0, n = (size_t)s->chunk.rows * s->chunk.heads;
    memset(s->exact, 0, n);
    if (given)
        memcpy(s->exact, given, n);
    else if (keys && keys->chunk.heads == s->chunk.heads)
        memcpy(s->exact, keys->exact, n);
    for (uint32_t row = 0; s->chunk.keys && !given && row < s->chunk.rows;) {
        part part = part_at(s, row, &range);
        size_t at = (size_t)row * s->chunk.heads;
        bool with_values = values && values->chunk.heads == s->chunk.heads;
        kernel_sizes sizes = {part.chunk.rows, s->chunk.heads,  s->start && row == 0,
                              s->sums + at,    s->squares + at, with_values ? values->sums + at : NULL};
        kernels_scalar.choose(&sizes, s->exact + at);
        row += part.chunk.rows;
    }
    for (size_t i = 0; i < n; i++)
        s->exact[i] |= isinf(s->sums[i]);
}

void sample_quantize(sample *s) {
    size_t range = 0;
    for (uint32_t row = 0; row < s->chunk.rows;) {
        part part = part_at(s, row, &range);
        kernels_scalar.quantize(&part.chunk, s->rows + row * s->row_bytes, s->exact + (size_t)row * s->chunk.heads,
                                &part.codes);
        row += part.chunk.rows;
    }
    sample_decode(s);
}

void sample_decode(sample *s) {
    size_t range = 0, head_bytes = s->chunk.head_dim * s->element_bytes;
    for (uint32_t row = 0; row < s->chunk.rows;) {
        part part = part_at(s, row, &range);
        kernels_scalar.dequantize(&part.chunk, &part.codes, s->decoded + row * s->row_bytes);
        row += part.chunk.rows;
    }
    for (size_t i = 0; i < (size_t)s->chunk.rows * s->chunk.heads; i++)
        if (s->exact[i])
            memcpy(s->decoded + i * head_bytes, s->rows + i * head_bytes, head_bytes);
    for (uint32_t r = 0; r < s->chunk.rows; r++)
        kernels_scalar.compare(s->chunk.type, s->rows + r * s->row_bytes, s->decoded + r * s->row_bytes,
                               (size_t)s->chunk.heads * s->chunk.head_dim, &s->losses[r]);
}

void sample_free(sample *s) {
    free(s->rows);
    free(s->decoded);
    free(s->losses);
    free(s->sums);
    free(s->squares);
    free(s->exact);
    free(s->codes.scales);
    free(s->codes.minima);
    free(s->codes.codes);
    free(s->codes.high);
}

size_t layout_strides(layout layout, const kernel_chunk *chunk, cuda_plane *plane, size_t *base) {
    int64_t rows = chunk->rows, heads = chunk->heads, dim = chunk->head_dim, token = 0, head = 0, channel = 0;
    switch (layout) {
    case CHANNEL_MAJOR:
        token = 1, channel = rows + 3, head = dim * channel;
        break;
    case HEAD_MAJOR:
        token = (dim + 7) / 8 * 8, channel = 1, head = token * rows + 8;
        break;
    case ODD_STRIDES:
        token = heads * (dim + 1) + 1, channel = 1, head = dim + 1;
        break;
    case INTERLEAVED:
        token = heads * dim * 2, channel = 2, head = dim * 2;
        break;
    default:
        token = heads * dim, channel = 1, head = dim;
    }
    *base = layout == REVERSED ? (size_t)((rows - 1) * token) : 0;
    plane->token_stride = layout == REVERSED ? -token : token;
    plane->head_stride = head;
    plane->channel_stride = channel;
    return (size_t)((rows - 1) * token + (heads - 1) * head + (dim - 1) * channel + 1);
}

void layout_put(const cuda_plane *plane, size_t base, size_t element_bytes, const void *rows, void *memory) {
    const uint8_t *from = rows;
    for (int64_t r = 0; r < plane->rows; r++)
        for (int64_t h = 0; h < plane->heads; h++)
            for (int64_t c = 0; c < plane->head_dim; c++, from += element_bytes)
                memcpy((uint8_t *)memory + ((int64_t)base + r * plane->token_stride + h * plane->head_stride +
                                            c * plane->channel_stride) *
                                               (int64_t)element_bytes,
                       from, element_bytes);
}
