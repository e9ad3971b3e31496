#include "measure.h"

#include "codecs/codec.h"

#include <math.h>
#include <string.h>

measure measure_none(void) {
    return (measure){.identical = true};
}

measure measure_rows(unsigned type, const void *original, const void *other, size_t bytes) {
    measure result = measure_none();
    result.identical = memcmp(original, other, bytes) == 0;
    if (!codec_can_quantize(type))
        return result;
    kernel_loss loss;
    size_t n = bytes / format_type_of(type)->block_bytes;
    kernels()->compare(codec_kernel_type(type), original, other, n, &loss);
    result.squared_error = loss.squared_error;
    result.squared_sum = loss.squared_sum;
    result.max_error = loss.max_error;
    result.elements = n;
    return result;
}

void measure_add(measure *sum, const measure *part) {
    sum->squared_error += part->squared_error;
    sum->squared_sum += part->squared_sum;
    sum->max_error = part->max_error > sum->max_error ? part->max_error : sum->max_error;
    sum->elements += part->elements;
    sum->identical &= part->identical;
}

double measure_rms(const measure *measure) {
    return measure->elements > 0 ? sqrt(measure->squared_error / (double)measure->elements) : 0;
}

double measure_relative_rms(const measure *measure) {
    return measure->squared_sum > 0 ? sqrt(measure->squared_error / measure->squared_sum) : 0;
}
