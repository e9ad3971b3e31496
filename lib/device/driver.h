/* The CUDA driver API, found at run time: no part of CUDA is needed to build or to start a program. */
#ifndef KVOT_DRIVER_H
#define KVOT_DRIVER_H

#include "../error.h"

typedef int cu_result;
typedef int cu_device;
typedef uint64_t cu_pointer;
typedef struct CUctx_st *cu_context;
typedef struct CUmod_st *cu_module;
typedef struct CUfunc_st *cu_function;
typedef struct CUstream_st *cu_stream;
typedef struct CUevent_st *cu_event;

/* The numbers of the driver's interface that are used here. */
enum {
    CU_SUCCESS = 0,
    CU_OUT_OF_MEMORY = 2,
    CU_STREAM_NON_BLOCKING = 1,
    CU_EVENT_BLOCKING_SYNC = 1, /* a waiting thread sleeps */
    CU_EVENT_DISABLE_TIMING = 2
};

/* Every call that is used: X(name without "cu", symbol, parameters, arguments). */
#define DRIVER_CALLS(X)                                                                                                \
    X(Init, "cuInit", (unsigned flags), (flags))                                                                       \
    X(DeviceGetCount, "cuDeviceGetCount", (int *count), (count))                                                       \
    X(DeviceGet, "cuDeviceGet", (cu_device * device, int ordinal), (device, ordinal))                                  \
    X(DeviceGetName, "cuDeviceGetName", (char *name, int length, cu_device device), (name, length, device))            \
    X(DevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (cu_context * context, cu_device device), (context, device)) \
    X(DevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (cu_device device), (device))                           \
    X(CtxPushCurrent, "cuCtxPushCurrent_v2", (cu_context context), (context))                                          \
    X(CtxPopCurrent, "cuCtxPopCurrent_v2", (cu_context * context), (context))                                          \
    X(ModuleLoadData, "cuModuleLoadData", (cu_module * module, const void *image), (module, image))                    \
    X(ModuleUnload, "cuModuleUnload", (cu_module module), (module))                                                    \
    X(ModuleGetFunction, "cuModuleGetFunction", (cu_function * function, cu_module module, const char *name),          \
      (function, module, name))                                                                                        \
    X(StreamCreate, "cuStreamCreate", (cu_stream * stream, unsigned flags), (stream, flags))                           \
    X(StreamDestroy, "cuStreamDestroy_v2", (cu_stream stream), (stream))                                               \
    X(StreamSynchronize, "cuStreamSynchronize", (cu_stream stream), (stream))                                          \
    X(EventCreate, "cuEventCreate", (cu_event * event, unsigned flags), (event, flags))                                \
    X(EventDestroy, "cuEventDestroy_v2", (cu_event event), (event))                                                    \
    X(EventRecord, "cuEventRecord", (cu_event event, cu_stream stream), (event, stream))                               \
    X(EventSynchronize, "cuEventSynchronize", (cu_event event), (event))                                               \
    X(MemAlloc, "cuMemAlloc_v2", (cu_pointer * memory, size_t bytes), (memory, bytes))                                 \
    X(MemFree, "cuMemFree_v2", (cu_pointer memory), (memory))                                                          \
    X(MemHostAlloc, "cuMemHostAlloc", (void **memory, size_t bytes, unsigned flags), (memory, bytes, flags))           \
    X(MemFreeHost, "cuMemFreeHost", (void *memory), (memory))                                                          \
    X(MemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", (cu_pointer to, const void *from, size_t bytes, cu_stream stream),      \
      (to, from, bytes, stream))                                                                                       \
    X(MemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", (void *to, cu_pointer from, size_t bytes, cu_stream stream),            \
      (to, from, bytes, stream))                                                                                       \
    X(MemsetD8Async, "cuMemsetD8Async", (cu_pointer to, unsigned char value, size_t bytes, cu_stream stream),          \
      (to, value, bytes, stream))                                                                                      \
    X(LaunchKernel, "cuLaunchKernel",                                                                                  \
      (cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,    \
       unsigned block_z, unsigned shared_bytes, cu_stream stream, void **arguments, void **extra),                     \
      (function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, arguments, extra))

typedef struct driver {
#define DRIVER_MEMBER(name, symbol, parameters, arguments) cu_result(*name) parameters;
    DRIVER_CALLS(DRIVER_MEMBER)
#undef DRIVER_MEMBER
    cu_result (*GetErrorName)(cu_result result, const char **name);
} driver;

/* Loads libcuda.so.1 and starts it, once for the process. KVOT_E_DEVICE if it is not there or has no use. */
kvot_status driver_load(const driver **driver, kvot_error *error);

/* KVOT_OK for success; KVOT_E_MEMORY where memory of the device (or pinned memory) ran out, so that smaller pieces may
 * do; else KVOT_E_DEVICE. The text names the call and the driver's error. */
kvot_status driver_check(const driver *driver, cu_result result, const char *call, kvot_error *error);

/* Makes a call and checks it. */
#define DRIVER(driver, error, name, ...) driver_check(driver, (driver)->name(__VA_ARGS__), "cu" #name, error)

#endif
