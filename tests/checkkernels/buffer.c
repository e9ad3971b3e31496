#include "buffer.h"
#include "random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { GUARD = 256 };

static void grow(buffer *b, size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (b->memory)
        munmap(b->memory - page, b->memory_bytes + 2 * page);
    b->memory_bytes = (bytes + page - 1) / page * page;
    uint8_t *mapped = mmap(NULL, b->memory_bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || mprotect(mapped + page, b->memory_bytes, PROT_READ | PROT_WRITE) != 0) {
        perror("memory for a test");
        exit(2);
    }
    b->memory = mapped + page;
}

static size_t before(const buffer *b) {
    size_t room = (size_t)(b->at - b->memory);
    return room < GUARD ? room : GUARD;
}

static size_t behind(const buffer *b) {
    size_t room = (size_t)(b->memory + b->memory_bytes - b->at) - b->bytes;
    return room < GUARD ? room : GUARD;
}

void *buffer_place(buffer *b, const char *name, size_t bytes, size_t element, uint8_t fill) {
    /* Not random_bits: the data of a case would depend on which levels there are. */
    static uint64_t places;
    uint64_t place = random_mix(places++);
    size_t needed = bytes + 2 * GUARD + 64;
    if (needed > b->memory_bytes)
        grow(b, needed);
    switch (place >> 62) {
    case 0:
        b->at = b->memory;
        break;
    case 1:
        b->at = b->memory + GUARD + place % (64 / element) * element;
        break;
    default:
        b->at = b->memory + b->memory_bytes - bytes;
    }
    b->name = name;
    b->bytes = bytes;
    b->fill = fill;
    b->is_saved = false;
    memset(b->at - before(b), fill, before(b) + bytes + behind(b));
    return b->at;
}

void buffer_save(buffer *b) {
    if (b->saved_bytes < b->bytes) {
        free(b->saved);
        b->saved = malloc(b->bytes);
        b->saved_bytes = b->bytes;
        if (!b->saved) {
            perror("memory for a test");
            exit(2);
        }
    }
    if (b->bytes > 0)
        memcpy(b->saved, b->at, b->bytes);
    b->is_saved = true;
}

bool buffer_intact(const buffer *b, ptrdiff_t *where) {
    for (size_t i = 1; i <= before(b); i++)
        if (b->at[-(ptrdiff_t)i] != b->fill)
            return *where = -(ptrdiff_t)i, false;
    for (size_t i = b->bytes; i < b->bytes + behind(b); i++)
        if (b->at[i] != b->fill)
            return *where = (ptrdiff_t)i, false;
    if (b->is_saved && b->bytes > 0 && memcmp(b->saved, b->at, b->bytes) != 0) {
        size_t i = 0;
        while (b->saved[i] == b->at[i])
            i++;
        return *where = (ptrdiff_t)i, false;
    }
    return true;
}
