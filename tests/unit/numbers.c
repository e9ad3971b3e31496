#include "numbers.h"

#include <math.h>

static unsigned special(half_kind kind) {
    return 0x7fffu >> kind << kind; /* exponent of infinity and NaN, in its place */
}

/* The exponent of the last bit of denormal numbers. */
static int least(half_kind kind) {
    int bias = (1 << (14 - kind)) - 1;
    return 1 - bias - (int)kind;
}

int half_is_nan(half_kind kind, uint16_t bits) {
    return (bits & 0x7fffu) > special(kind);
}

double half_value(half_kind kind, uint16_t bits) {
    unsigned magnitude = bits & 0x7fffu, exponent = magnitude >> kind, fraction = magnitude & ((1u << kind) - 1);
    double value;
    if (half_is_nan(kind, bits))
        value = NAN;
    else if (magnitude == special(kind))
        value = INFINITY;
    else if (exponent == 0)
        value = ldexp(fraction, least(kind));
    else
        value = ldexp((1u << kind) + fraction, least(kind) + (int)exponent - 1);
    return copysign(value, bits & 0x8000u ? -1 : 1);
}

uint16_t half_nearest(half_kind kind, double value) {
    uint16_t sign = signbit(value) ? 0x8000u : 0;
    if (isnan(value))
        return (uint16_t)(sign | 0x7fffu);
    if (isinf(value) || value == 0)
        return (uint16_t)(sign | (value == 0 ? 0 : special(kind)));
    int exponent;
    frexp(value, &exponent); /* |value| is from 2^(exponent - 1) to below 2^exponent */
    int last = exponent - 1 - (int)kind > least(kind) ? exponent - 1 - (int)kind : least(kind);
    double units = nearbyint(ldexp(fabs(value), -last)); /* one more than fits is the next exponent's first */
    double magnitude = ldexp(last - least(kind), (int)kind) + units, most = special(kind) - (kind == HALF_F16);
    return (uint16_t)(sign | (unsigned)(magnitude < most ? magnitude : most));
}
