/* What elements are worth, by the definition of their formats in IEEE 754: slow, and not the way kernels/ goes. */
#ifndef KVOT_UNIT_NUMBERS_H
#define KVOT_UNIT_NUMBERS_H

#include <stdint.h>

/* 16 bits: a sign, an exponent, and so many bits of fraction. */
typedef enum half_kind { HALF_F16 = 10, HALF_BF16 = 7 } half_kind;

double half_value(half_kind kind, uint16_t bits);

/* The nearest, of two the even one; of finite numbers beyond the largest f16, that. */
uint16_t half_nearest(half_kind kind, double value);

/* Not a number, whichever: which one is not laid down. */
int half_is_nan(half_kind kind, uint16_t bits);

#endif
