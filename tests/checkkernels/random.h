/* Pseudo-random numbers that are the same in every run. */
#ifndef CHECK_RANDOM_H
#define CHECK_RANDOM_H

#include <stdint.h>

/* Source: splitmix64. A good hash as well. */
static inline uint64_t random_mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

extern uint64_t random_state;

static inline uint32_t random_bits(void) {
    return (uint32_t)(random_mix(random_state++) >> 32);
}

static inline uint32_t random_below(uint32_t n) {
    return (uint32_t)((uint64_t)random_bits() * n >> 32);
}

/* 0 to below 1 */
static inline float random_unit(void) {
    return (float)(random_bits() >> 8) * 0x1p-24f;
}

#endif
