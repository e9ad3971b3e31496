/* Memory for one array of a test, with something on both sides that shows what a kernel does beside it. */
#ifndef CHECK_BUFFER_H
#define CHECK_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The array lies between guard bytes, or ends or begins where no memory is, so that reading beside it crashes. */
typedef struct buffer {
    const char *name;
    uint8_t *at;
    size_t bytes;
    uint8_t *memory; /* usable: the page before and the page after it are not */
    size_t memory_bytes;
    uint8_t fill;
    uint8_t *saved; /* what buffer_save saw */
    size_t saved_bytes;
    bool is_saved;
} buffer;

/* Makes room for `bytes` bytes, at a random address that is a multiple of `element` and often of no more. Array and
 * guards are filled with `fill`. */
void *buffer_place(buffer *b, const char *name, size_t bytes, size_t element, uint8_t fill);
/* From here on the contents must not change either. */
void buffer_save(buffer *b);
/* False if something changed that must not: `where` is then the offset from the start of the array. */
bool buffer_intact(const buffer *b, ptrdiff_t *where);

#endif
