#include "cuda.h"
void check_lanes(device *device) {
    (void)device;
}
void check_faults(void) {
}
