/* Which level runs. */
#include "levels.h"

#include <stdlib.h>
#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>

/* __builtin_cpu_supports also asks whether the operating system saves the registers. */
static bool has_avx2(void) {
    unsigned eax, ebx, ecx, edx;
    return __builtin_cpu_supports("avx2") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

const kernel_table *kernels_at(kernel_level level) {
    switch (level) {
    case KERNEL_SCALAR:
        return &kernels_scalar;
#ifdef __aarch64__
    case KERNEL_NEON: /* every AArch64 has it */
        return &kernels_neon;
#endif
#ifdef __x86_64__
    case KERNEL_AVX2:
        return has_avx2() ? &kernels_avx2 : NULL;
    case KERNEL_AVX512:
        return has_avx512() ? &kernels_avx512 : NULL;
#endif
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
        if (table && name && *name && strcmp(name, table->name) != 0)
            table = NULL;
    }
    __atomic_store_n(&chosen, table, __ATOMIC_RELAXED);
    return table;
}
