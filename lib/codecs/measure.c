#include "measure.h"

#include "codec.h"

#include <math.h>
#include <string.h>

measure measure_none(void) {
    return (measure){.identical = true};
}

static void add_loss(measure *sum, const kernel_loss *loss, size_t channels) {
    measure_add(sum, &(measure){loss->squared_error, loss->squared_sum, loss->max_error, channels, true});
}

measure measure_losses(const kernel_loss *losses, size_t rows, size_t channels) {
    measure result = {.identical = false};
    for (size_t r = 0; r < rows; r++)
        add_loss(&result, &losses[r], channels);
    return result;
}

measure measure_rows(unsigned type, const void *original, const void *other, size_t rows, size_t row_bytes) {
    measure result = measure_none();
    result.identical = memcmp(original, other, rows * row_bytes) == 0;
    if (!codec_can_quantize(type))
        return result;
    size_t channels = row_bytes / format_type_of(type)->block_bytes;
    for (size_t r = 0; r < rows; r++) {
        kernel_loss loss;
        kernels()->compare(codec_kernel_type(type), (const uint8_t *)original + r * row_bytes,
                           (const uint8_t *)other + r * row_bytes, channels, &loss);
        add_loss(&result, &loss, channels);
    }
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
