/* Memory that grows. */
#ifndef KVOT_ROOM_H
#define KVOT_ROOM_H

#include "../error.h"

/* Makes `*buffer` hold `needed` bytes; what it held may be lost. */
kvot_status make_room(uint8_t **buffer, size_t *bytes, size_t needed, kvot_error *error);

/* Grows `*array` to hold `needed` items of `item_bytes`, at least doubling. `n` is what it holds now. */
kvot_status grow(void *array, uint64_t n, uint64_t needed, size_t item_bytes, kvot_error *error);

#endif
