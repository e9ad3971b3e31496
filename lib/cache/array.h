/* Arrays in the caller's memory (kvot.h): their rows, contiguous, and back. */
#ifndef KVOT_ARRAY_H
#define KVOT_ARRAY_H

#include "../codecs/codec.h"

/* KVOT_E_ARGUMENT if there is no such array, or, of the shape alone, no array whose tokens look like that. `what` names
 * it. */
kvot_status array_check_shape(const kvot_array *array, const char *what, kvot_error *error);
kvot_status array_check(const kvot_array *array, const char *what, kvot_error *error);

/* As formats and kernels name its type; bytes of a row. */
unsigned array_type(const kvot_array *array);
uint64_t array_row_bytes(const kvot_array *array);

/* The rows from `first` on, as a lane takes them, of an array on a device. */
lane_rows array_on_device(const kvot_array *array, uint64_t first);

/* Copies `n` rows from `first` on of an array of the host to `rows`, [n][heads][head_dim]. */
void array_read(const kvot_array *array, uint64_t first, uint32_t n, void *rows);

/* And back. `rows` have elements of `type`, a format_type that can be quantized, and are converted where the array has
 * another. */
void array_write(const kvot_array *array, uint64_t first, uint32_t n, unsigned type, const void *rows);

/* Where rows from `first` on lie side by side as [n][heads][head_dim]: their address, else NULL. */
void *array_rows_in_place(const kvot_array *array, uint64_t first);

#endif
