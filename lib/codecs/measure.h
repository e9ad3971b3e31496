/* How far apart two arrays of elements are. */
#ifndef KVOT_MEASURE_H
#define KVOT_MEASURE_H

#include "../../format/format.h"
#include "../../kernels/kernels.h"

/* Elements that are not finite take no part in the sums; where such an element differs, `max_error` is infinity. */
typedef struct measure {
    double squared_error, squared_sum, max_error;
    uint64_t elements;
    bool identical; /* bit for bit */
} measure;

/* Nothing measured yet. */
measure measure_none(void);

/* Compares rows of one element type. Types that are not f32, f16 or bf16 are compared by their bits alone. The sums are
 * those of the rows, in order. */
measure measure_rows(unsigned format_type, const void *original, const void *other, size_t rows, size_t row_bytes);
/* The same of rows whose losses are known. `identical` is not, and false. */
measure measure_losses(const kernel_loss *losses, size_t rows, size_t channels);
void measure_add(measure *sum, const measure *part);

double measure_rms(const measure *measure);
double measure_relative_rms(const measure *measure);

#endif
