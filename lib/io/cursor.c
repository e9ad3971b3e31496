#include "cursor.h"

#include <string.h>

void cursor_start(cursor *cursor, const input *in, uint64_t at, uint64_t end) {
    *cursor = (struct cursor){.in = in, .at = at, .end = end, .furthest = at};
}

static bool moved(cursor *cursor, uint64_t n) {
    cursor->at += n;
    if (cursor->at > cursor->furthest)
        cursor->furthest = cursor->at;
    return true;
}

/* Moves the window so that it begins at `cursor->at`. */
static bool refill(cursor *cursor) {
    uint64_t left = cursor->end - cursor->at;
    size_t n = left < sizeof cursor->window ? (size_t)left : sizeof cursor->window;
    cursor->window_bytes = 0;
    kvot_status status = input_read(cursor->in, cursor->at, cursor->window, n, &cursor->error);
    if (status != KVOT_OK) {
        cursor->status = status;
        return false;
    }
    cursor->window_at = cursor->at;
    cursor->window_bytes = n;
    return true;
}

bool cursor_take(cursor *cursor, void *to, size_t n) {
    if (cursor->at > cursor->end || n > cursor->end - cursor->at)
        return false;
    if (n > sizeof cursor->window || cursor->in->memory) {
        cursor->status = input_read(cursor->in, cursor->at, to, n, &cursor->error);
        return cursor->status == KVOT_OK && moved(cursor, n);
    }
    bool inside = cursor->at >= cursor->window_at && cursor->at - cursor->window_at <= cursor->window_bytes &&
                  n <= cursor->window_bytes - (cursor->at - cursor->window_at);
    if (!inside && !refill(cursor))
        return false;
    memcpy(to, cursor->window + (cursor->at - cursor->window_at), n);
    return moved(cursor, n);
}

kvot_status cursor_failure(const cursor *cursor, kvot_status status, kvot_error *error) {
    if (cursor->status == KVOT_OK)
        return status;
    if (error)
        *error = cursor->error;
    return cursor->status;
}

bool cursor_u32(cursor *cursor, uint32_t *value) {
    return cursor_take(cursor, value, sizeof *value);
}

bool cursor_u64(cursor *cursor, uint64_t *value) {
    return cursor_take(cursor, value, sizeof *value);
}

bool cursor_skip(cursor *cursor, uint64_t n) {
    return cursor->at <= cursor->end && n <= cursor->end - cursor->at && moved(cursor, n);
}

bool cursor_skip_items(cursor *cursor, uint64_t n, uint64_t bytes) {
    if (bytes != 0 && n > (cursor->end - cursor->at) / bytes)
        return false;
    return cursor_skip(cursor, n * bytes);
}
