/* Small numbers read one after the other from an input, through a window. */
#ifndef KVOT_CURSOR_H
#define KVOT_CURSOR_H

#include "io.h"

typedef struct cursor {
    const input *in;
    uint64_t at;
    uint64_t end;       /* nothing is read from here on */
    uint64_t furthest;  /* the largest `at` so far */
    kvot_status status; /* of the last read that failed for another reason than the end */
    kvot_error error;
    uint64_t window_at;
    size_t window_bytes;
    uint8_t window[1 << 14];
} cursor;

void cursor_start(cursor *cursor, const input *in, uint64_t at, uint64_t end);

/* Takes the next bytes. False, and nothing taken, where fewer are left or reading failed. */
bool cursor_take(cursor *cursor, void *to, size_t n);
bool cursor_u32(cursor *cursor, uint32_t *value);
bool cursor_u64(cursor *cursor, uint64_t *value);
bool cursor_skip(cursor *cursor, uint64_t n);

/* Skips `n` items of `bytes` each; false where they do not fit, however large the numbers are. */
bool cursor_skip_items(cursor *cursor, uint64_t n, uint64_t bytes);

/* Where taking failed: if it was reading that failed, and not what was read that is wrong, that status, and `*error`.
 * Else `status`. */
kvot_status cursor_failure(const cursor *cursor, kvot_status status, kvot_error *error);

#endif
