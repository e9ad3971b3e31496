/* A libcuda.so.1 on a machine without a GPU. */
#include "../../lib/device/driver.h"

enum { NO_DEVICE = 100 };

#define REFUSE(name, symbol, parameters, arguments)                                                                    \
    cu_result refuse_##name(void) __asm__(symbol);                                                                     \
    cu_result refuse_##name(void) {                                                                                    \
        return NO_DEVICE;                                                                                              \
    }
DRIVER_CALLS(REFUSE)

cu_result cuGetErrorName(cu_result result, const char **name);
cu_result cuGetErrorName(cu_result result, const char **name) {
    *name = result == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : NULL;
    return CU_SUCCESS;
}
