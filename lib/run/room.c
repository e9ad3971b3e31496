#include "room.h"

#include <stdlib.h>
#include <string.h>

kvot_status make_room(uint8_t **buffer, size_t *bytes, size_t needed, kvot_error *error) {
    if (needed <= *bytes && *buffer)
        return KVOT_OK;
    free(*buffer);
    *bytes = 0;
    *buffer = aligned_alloc(64, (needed + 64) / 64 * 64);
    if (!*buffer)
        return fail_memory(error);
    *bytes = needed;
    return KVOT_OK;
}

kvot_status grow(void *array, uint64_t n, uint64_t needed, size_t item_bytes, kvot_error *error) {
    /* Capacity is the least power of two that holds n, so it need not be kept. */
    uint64_t capacity = 16;
    while (capacity < n)
        capacity *= 2;
    void *memory;
    memcpy(&memory, array, sizeof memory);
    if (memory && needed <= capacity)
        return KVOT_OK;
    while (capacity < needed)
        capacity *= 2;
    memory = capacity <= SIZE_MAX / item_bytes ? realloc(memory, capacity * item_bytes) : NULL;
    if (!memory)
        return fail_memory(error);
    memcpy(array, &memory, sizeof memory);
    return KVOT_OK;
}
