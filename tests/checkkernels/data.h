/* Numbers to test with. */
#ifndef CHECK_DATA_H
#define CHECK_DATA_H

#include "../../kernels/kernels.h"

#include <stddef.h>

typedef enum data_kind {
    DATA_REALISTIC,    /* channels with offsets of their own, some tokens small */
    DATA_SPIKES,       /* the same with a few large values */
    DATA_CONSTANT,     /* most groups constant */
    DATA_ZERO,         /* +0 */
    DATA_SIGNED_ZEROS, /* -0 and +0 */
    DATA_DENORMAL,     /* of the type */
    DATA_ANY,          /* any number that may be quantized */
    DATA_LARGEST,      /* the largest of these */
    DATA_NARROW,       /* a group spans few steps of the type: the rounded minimum may be beside all values */
    DATA_TIES,         /* half way between two codes */
    DATA_LEAST_SCALE,  /* scales about the smallest that is not taken as 0 */
    DATA_MIXED,        /* each group of another kind */
    DATA_KINDS
} data_kind;

extern const char *const data_kind_names[DATA_KINDS];

/* Fills a chunk with finite numbers below 2^126. */
void data_fill(const kernel_chunk *chunk, data_kind kind, void *rows);
/* Puts what only exact rows may hold at some places of `n` elements: NaN, infinities, numbers from 2^126. */
void data_spoil(kernel_type type, void *elements, size_t n);
/* Any finite number of the type, its largest included. */
float data_any_finite(kernel_type type);

size_t data_element_bytes(kernel_type type);

#endif
