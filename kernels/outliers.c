#include "outliers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 2 };
static const float product_share = 0.2f, square_share = 0.36f;

static int by_value(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

static float median(const float *values, uint32_t n) {
    float sorted[OUTLIERS_MAX_ROWS];
    memcpy(sorted, values, n * sizeof *values);
    qsort(sorted, n, sizeof *sorted, by_value);
    return sorted[(n - 1) / 2];
}

/* Marks the MOST smallest of `values`; infinity is not taken. */
static void mark_smallest(const float *values, uint32_t n, uint32_t heads, uint8_t *exact) {
    for (int taken = 0; taken < MOST; taken++) {
        uint32_t least = n;
        for (uint32_t r = 0; r < n; r++)
            if (!exact[(size_t)r * heads] && values[r] < INFINITY && (least == n || values[r] < values[least]))
                least = r;
        if (least < n)
            exact[(size_t)least * heads] = 1;
    }
}

void outliers_choose(const outliers_view *view, uint8_t *exact) {
    float magnitudes[OUTLIERS_MAX_ROWS], squares[OUTLIERS_MAX_ROWS];
    memset(exact, 0, (size_t)view->rows * view->heads);
    for (uint32_t h = 0; h < view->heads; h++) {
        for (uint32_t r = 0; r < view->rows; r++) {
            size_t i = (size_t)r * view->heads + h;
            magnitudes[r] = view->keys[i] * (view->values && !view->start ? view->values[i] : 1.0f);
            if (!(magnitudes[r] < INFINITY)) /* infinity times 0 is NaN */
                magnitudes[r] = INFINITY;
            squares[r] = view->key_squares[i];
        }
        if (!view->start) {
            float product_limit = product_share * median(magnitudes, view->rows);
            float square_limit = square_share * median(squares, view->rows);
            for (uint32_t r = 0; r < view->rows; r++)
                if (!(magnitudes[r] < product_limit && squares[r] >= square_limit))
                    magnitudes[r] = INFINITY;
        }
        mark_smallest(magnitudes, view->rows, view->heads, exact + h);
    }
}
