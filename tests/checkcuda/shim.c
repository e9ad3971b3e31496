#include "shim.h"

#include <pthread.h>
#include <string.h>

static driver *table, original, real; /* `real` does not load modules */
static cu_module shared_module;

static fault wanted;
static uint64_t calls, downloaded;
static shim_failed failed;
static pthread_t starter;
static bool worked, closing;

/* What is to be given back, by the calls that take it and give it. */
static const struct {
    const char *take, *give;
} pairs[] = {{"DevicePrimaryCtxRetain", "DevicePrimaryCtxRelease"},
             {"CtxPushCurrent", "CtxPopCurrent"},
             {"ModuleLoadData", "ModuleUnload"},
             {"StreamCreate", "StreamDestroy"},
             {"EventCreate", "EventDestroy"},
             {"MemAlloc", "MemFree"},
             {"MemHostAlloc", "MemFreeHost"}};
enum { PAIRS = sizeof pairs / sizeof *pairs };
static int held[PAIRS];
static int strays;       /* pushed although the call was to fail */
static bool module_lost; /* unloading it needs a context */

static shim_phase phase_now(void) {
    if (!pthread_equal(pthread_self(), starter)) {
        worked = true;
        return SHIM_WORKING;
    }
    return closing || worked ? SHIM_CLOSING : SHIM_OPENING;
}

static bool fails(const char *name) {
    shim_phase phase = phase_now();
    if ((wanted.name && strcmp(wanted.name, name) != 0) || wanted.number == 0)
        return false;
    calls++;
    if (calls < wanted.number || (calls > wanted.number && !wanted.later_too))
        return false;
    if (!failed.name)
        failed = (shim_failed){name, phase};
    return true;
}

/* A context that cannot be made current takes all that is in it along when it is released. But the test holds this one,
 * so it is made current nevertheless where the library closes, for what it then gives back to be gone. */
static bool strays_in(const char *name) {
    if (strcmp(name, "CtxPushCurrent") != 0 || (phase_now() != SHIM_CLOSING && !wanted.later_too))
        return false;
    strays += pthread_equal(pthread_self(), starter) != 0;
    return true;
}

static bool gives(const char *name) {
    for (int i = 0; i < PAIRS; i++)
        if (strcmp(name, pairs[i].give) == 0)
            return true;
    return false;
}

static void note(const char *name, cu_result result) {
    for (int i = 0; i < PAIRS && result == CU_SUCCESS; i++)
        held[i] += (strcmp(name, pairs[i].take) == 0) - (strcmp(name, pairs[i].give) == 0);
}

/* A call that gives something back does so even if it is to fail, and then reports a failure, as the driver does for
 * what went wrong earlier. */
#define WRAP(name, symbol, parameters, arguments)                                                                      \
    static cu_result faulty_##name parameters {                                                                        \
        bool fail = fails(#name), stray = fail && strays_in(#name);                                                    \
        if (fail && !stray && !gives(#name))                                                                           \
            return wanted.with;                                                                                        \
        cu_result result = real.name arguments;                                                                        \
        if (!stray)                                                                                                    \
            note(#name, result);                                                                                       \
        return fail ? wanted.with : result;                                                                            \
    }
DRIVER_CALLS(WRAP)

static cu_result share_module(cu_module *module, const void *image) {
    (void)image;
    *module = shared_module;
    return CU_SUCCESS;
}

static cu_result keep_module(cu_module module) {
    return CHECK(module == shared_module) ? CU_SUCCESS : CU_UNKNOWN;
}

static cu_result count_download(void *to, cu_pointer from, size_t bytes, cu_stream stream) {
    downloaded += bytes;
    return original.MemcpyDtoHAsync(to, from, bytes, stream);
}

void shim_install(const device *device) {
    table = (driver *)device->driver; /* the library's own */
    original = real = *table;
    real.ModuleLoadData = share_module;
    real.ModuleUnload = keep_module;
    real.MemcpyDtoHAsync = count_download;
    shared_module = device->module;
#define REPLACE(name, symbol, parameters, arguments) table->name = faulty_##name;
    DRIVER_CALLS(REPLACE)
}

void shim_remove(void) {
    *table = original;
}

const driver *shim_real(void) {
    return &real;
}

void shim_start(fault fault) {
    wanted = fault;
    calls = downloaded = 0;
    failed = (shim_failed){0};
    starter = pthread_self();
    worked = closing = false;
    strays = 0;
    memset(held, 0, sizeof held);
}

uint64_t shim_downloaded(void) {
    return downloaded;
}

void shim_closing(void) {
    closing = true;
}

shim_failed shim_end(void) {
    wanted = (fault){0};
    module_lost = strays > 0;
    for (cu_context context; strays > 0; strays--)
        real.CtxPopCurrent(&context);
    return failed;
}

bool shim_ignored(shim_failed failed) {
    return failed.phase == SHIM_CLOSING || strcmp(failed.name, "MemFree") == 0 ||
           strcmp(failed.name, "MemFreeHost") == 0;
}

void shim_check_held(const char *what) {
    for (int i = 0; i < PAIRS; i++)
        if (held[i] != 0 && !(module_lost && strcmp(pairs[i].give, "ModuleUnload") == 0))
            wrong("%s: %d left of cu%s", what, held[i], pairs[i].take);
}
