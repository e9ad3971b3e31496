#include "driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static driver loaded;
static kvot_error failure; /* status is KVOT_OK if there was none */

kvot_status driver_check(const driver *driver, cu_result result, const char *call, kvot_error *error) {
    if (result == CU_SUCCESS)
        return KVOT_OK;
    const char *name = NULL;
    if (driver->GetErrorName(result, &name) != CU_SUCCESS || !name)
        name = "an error without a name";
    return fail(error, result == CU_OUT_OF_MEMORY ? KVOT_E_MEMORY : KVOT_E_DEVICE, "%s: %s (%d)", call, name, result);
}

/* dlsym returns an object's address; POSIX wants functions to fit into one. */
static bool find(void *library, const char *symbol, void *function) {
    void *address = dlsym(library, symbol);
    *(void **)function = address;
    if (!address)
        fail(&failure, KVOT_E_DEVICE, "libcuda.so.1 has no %s: the driver is too old", symbol);
    return address != NULL;
}

static void load(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); /* stays loaded */
    if (!library) {
        fail(&failure, KVOT_E_DEVICE, "no CUDA driver: %s", dlerror());
        return;
    }
#define FIND(name, symbol, parameters, arguments)                                                                      \
    if (!find(library, symbol, &loaded.name))                                                                          \
        return;
    DRIVER_CALLS(FIND)
#undef FIND
    if (find(library, "cuGetErrorName", &loaded.GetErrorName))
        DRIVER(&loaded, &failure, Init, 0);
}

kvot_status driver_load(const driver **driver, kvot_error *error) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    *driver = &loaded;
    return failure.status == KVOT_OK ? KVOT_OK : fail(error, failure.status, "%s", failure.text);
}
