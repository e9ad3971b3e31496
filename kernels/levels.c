/* Which level runs. */
#include "levels.h"

#include <stdlib.h>
#include <string.h>

const kernel_table *kernels_at(kernel_level level) {
    switch (level) {
    case KERNEL_SCALAR:
        return &kernels_scalar;
    default:
        return NULL;
    }
}

const kernel_table *kernels(void) {
    static const kernel_table *chosen; /* threads that race here find the same */
    const kernel_table *table = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
    if (table)
        return table;
    const char *name = getenv("KVOT_CPU");
    for (int level = KERNEL_LEVELS - 1; level >= 0 && !table; level--) {
        table = kernels_at((kernel_level)level);
        if (table && name && strcmp(name, table->name) != 0)
            table = NULL;
    }
    __atomic_store_n(&chosen, table, __ATOMIC_RELAXED);
    return table;
}
