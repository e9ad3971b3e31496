#include "lane.h"

#include <stdlib.h>

#ifdef KVOT_CUDA
extern const unsigned char kvot_cuda_module[]; /* embedded by the build */
static const void *const image = kvot_cuda_module;
#else
static const void *const image = NULL;
#endif

kvot_status device_enter(const device *device, kvot_error *error) {
    return DRIVER(device->driver, error, CtxPushCurrent, device->context);
}

kvot_status device_leave(const device *device, kvot_status status, kvot_error *error) {
    cu_context own;
    kvot_status left = DRIVER(device->driver, status == KVOT_OK ? error : NULL, CtxPopCurrent, &own);
    return status == KVOT_OK ? left : status;
}

static kvot_status find_device(device *device, unsigned ordinal, kvot_error *error) {
    kvot_status status = driver_load(&device->driver, error);
    int count = 0;
    if (status == KVOT_OK)
        status = DRIVER(device->driver, error, DeviceGetCount, &count);
    if (status == KVOT_OK && ordinal >= (unsigned)count)
        return fail(error, KVOT_E_DEVICE, "there is no CUDA device %u: the driver has %d", ordinal, count);
    if (status == KVOT_OK)
        status = DRIVER(device->driver, error, DeviceGet, &device->number, (int)ordinal);
    if (status == KVOT_OK)
        status = DRIVER(device->driver, error, DeviceGetName, device->name, (int)sizeof device->name, device->number);
    return status;
}

static kvot_status load_module(device *device, kvot_error *error) {
    kvot_status status = device_enter(device, error);
    if (status != KVOT_OK)
        return status;
    status = DRIVER(device->driver, error, ModuleLoadData, &device->module, image);
    return device_leave(device, status, error);
}

kvot_status device_open(unsigned ordinal, device **opened, kvot_error *error) {
    *opened = NULL;
    if (!image)
        return fail(error, KVOT_E_DEVICE, "this build has no CUDA kernels");
    device *device = calloc(1, sizeof *device);
    if (!device)
        return fail_memory(error);
    kvot_status status = find_device(device, ordinal, error);
    if (status == KVOT_OK)
        status = DRIVER(device->driver, error, DevicePrimaryCtxRetain, &device->context, device->number);
    if (status == KVOT_OK)
        status = load_module(device, error);
    if (status != KVOT_OK) {
        device_close(device);
        return status;
    }
    *opened = device;
    return KVOT_OK;
}

void device_close(device *device) {
    if (!device)
        return;
    if (device->module && device_enter(device, NULL) == KVOT_OK) {
        device->driver->ModuleUnload(device->module);
        device_leave(device, KVOT_OK, NULL);
    }
    if (device->context)
        device->driver->DevicePrimaryCtxRelease(device->number);
    free(device);
}

const char *device_name(const device *device) {
    return device->name;
}

kvot_status lane_launch(lane *lane, cuda_launch launch, const void *argument, kvot_error *error) {
    device *device = lane->device;
    cu_function function = atomic_load(&device->functions[launch.kernel]);
    if (!function) { /* threads that race here find the same */
        char name[64];
        cuda_kernel_name(launch.kernel, name);
        kvot_status status = DRIVER(device->driver, error, ModuleGetFunction, &function, device->module, name);
        if (status != KVOT_OK)
            return status;
        atomic_store(&device->functions[launch.kernel], function);
    }
    void *arguments[] = {(void *)argument};
    return DRIVER(device->driver, error, LaunchKernel, function, launch.blocks, 1, 1, launch.threads, 1, 1,
                  launch.shared_bytes, lane->stream, arguments, NULL);
}
