/* Of times, the one in the middle: an interruption does not move it. */
#ifndef KVOT_MEDIAN_H
#define KVOT_MEDIAN_H

/* Sorts `n` values, n > 0. */
double bench_median(double *values, int n);

#endif
