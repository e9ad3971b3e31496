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
    enum { BLOCK = 256 };
    size_t elem = format_type_of(type)->block_bytes, n = bytes / elem;
    kernel_type kernel = codec_kernel_type(type);
    float a[BLOCK], b[BLOCK];
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t part = n - at < BLOCK ? n - at : BLOCK;
        kernel_to_f32(kernel, (const uint8_t *)original + at * elem, part, a);
        kernel_to_f32(kernel, (const uint8_t *)other + at * elem, part, b);
        for (size_t i = 0; i < part; i++) {
            double error = fabs((double)a[i] - b[i]);
            if (!isfinite(a[i]) || !isfinite(b[i])) {
                if (memcmp(&a[i], &b[i], sizeof a[i]) != 0)
                    result.max_error = INFINITY;
                continue;
            }
            result.squared_error += error * error;
            result.squared_sum += (double)a[i] * a[i];
            result.max_error = error > result.max_error ? error : result.max_error;
        }
    }
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
