/* Memory for transfers, in whole pages. */
#ifndef KVOT_PAGES_H
#define KVOT_PAGES_H

#include <stddef.h>
#include <stdint.h>

/* Buffers of transfers lie at multiples of this: a disk was a quarter slower with others. */
#define PAGES_ALIGN (256u << 10)

/* Memory for transfers: zeroed, in large pages where there are any, and aligned to them. NULL if there is none. */
uint8_t *pages_take(size_t bytes);
void pages_free(uint8_t *memory, size_t bytes);

#endif
