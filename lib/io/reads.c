#include "reads.h"

#include "direct.h"

#include <stdlib.h>

enum {
    READ_BYTES = 1 << 20,     /* at most, unless a range is larger */
    SMALL_GAP = DIRECT_ALIGN, /* bytes that nobody wants are read along, rather than begin another read */
};

kvot_status reads_plan(const fetch_range *ranges, size_t count, uint64_t file_bytes, fetch_read **reads,
                       size_t *n_reads, uint64_t *largest, kvot_error *error) {
    fetch_read *list = malloc((count + 1) * sizeof *list);
    size_t n = 0;
    if (!list)
        return fail_memory(error);
    for (size_t i = 0; i < count; i++) {
        uint64_t offset = ranges[i].offset, end = offset + ranges[i].bytes;
        fetch_read *last = n > 0 ? &list[n - 1] : NULL;
        if (last && offset >= last->end && offset - last->end <= SMALL_GAP &&
            direct_up(end) - last->offset <= READ_BYTES) {
            last->end = end;
            last->count++;
        } else
            list[n++] = (fetch_read){direct_down(offset), end, i, 1};
    }
    *largest = 1;
    for (size_t i = 0; i < n; i++) {
        uint64_t end = direct_up(list[i].end);
        list[i].end = end < file_bytes ? end : file_bytes;
        *largest = list[i].end - list[i].offset > *largest ? list[i].end - list[i].offset : *largest;
    }
    *reads = list;
    *n_reads = n;
    return KVOT_OK;
}
