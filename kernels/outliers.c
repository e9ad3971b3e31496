#include "outliers.h"

#include <math.h>
#include <string.h>

void outliers_choose(const float *magnitudes, uint32_t rows, uint32_t heads, int32_t first_position, uint8_t *exact) {
    enum { COUNT = 3 };
    memset(exact, 0, (size_t)rows * heads);
    for (uint32_t h = 0; h < heads; h++) {
        for (uint32_t r = 0; r < rows; r++)
            exact[(size_t)r * heads + h] = isinf(magnitudes[(size_t)r * heads + h]);
        for (int n = 0; n < COUNT && first_position == 0; n++) {
            uint32_t least = UINT32_MAX;
            for (uint32_t r = 0; r < rows; r++) {
                size_t i = (size_t)r * heads + h;
                if (!exact[i] && (least == UINT32_MAX || magnitudes[i] < magnitudes[(size_t)least * heads + h]))
                    least = r;
            }
            if (least != UINT32_MAX)
                exact[(size_t)least * heads + h] = 1;
        }
    }
}
