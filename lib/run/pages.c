#include "pages.h"

#include <sys/mman.h>

enum { LARGE_PAGE = 2 << 20 };

/* Also where a page has 64 KiB: munmap refuses anything else. */
static size_t whole_pages(size_t bytes) {
    return (bytes + PAGES_ALIGN - 1) / PAGES_ALIGN * PAGES_ALIGN;
}

uint8_t *pages_take(size_t bytes) {
    bytes = whole_pages(bytes);
    uint8_t *memory = mmap(NULL, bytes + LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    size_t before = (LARGE_PAGE - (uintptr_t)memory % LARGE_PAGE) % LARGE_PAGE;
    if (before > 0)
        munmap(memory, before);
    munmap(memory + before + bytes, LARGE_PAGE - before);
    madvise(memory + before, bytes, MADV_HUGEPAGE); /* fewer pages to pin; as well without */
    return memory + before;
}

void pages_free(uint8_t *memory, size_t bytes) {
    if (memory)
        munmap(memory, whole_pages(bytes));
}
