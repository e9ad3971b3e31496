#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

kvot_status fail(kvot_error *error, kvot_status status, const char *format, ...) {
    if (error) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        vsnprintf(error->text, sizeof error->text, format, arguments);
        va_end(arguments);
    }
    return status;
}

kvot_status fail_memory(kvot_error *error) {
    return fail(error, KVOT_E_MEMORY, "out of memory");
}

kvot_status fail_errno(kvot_error *error, const char *name, const char *verb) {
    if (errno == ECANCELED)
        return fail(error, KVOT_E_CANCELLED, "stopped");
    return fail(error, KVOT_E_IO, "%s: cannot %s: %s", name, verb, strerror(errno));
}

kvot_status fail_errno_at(kvot_error *error, const char *name, const char *verb, uint64_t offset) {
    char at[64];
    snprintf(at, sizeof at, "%s at byte %llu", verb, (unsigned long long)offset);
    return fail_errno(error, name, at);
}

const char *kvot_status_name(kvot_status status) {
    static const char *const names[] = {
        [KVOT_OK] = "KVOT_OK",
        [KVOT_E_ARGUMENT] = "KVOT_E_ARGUMENT",
        [KVOT_E_MEMORY] = "KVOT_E_MEMORY",
        [KVOT_E_IO] = "KVOT_E_IO",
        [KVOT_E_EXISTS] = "KVOT_E_EXISTS",
        [KVOT_E_UNKNOWN] = "KVOT_E_UNKNOWN",
        [KVOT_E_DAMAGED] = "KVOT_E_DAMAGED",
        [KVOT_E_UNSUPPORTED] = "KVOT_E_UNSUPPORTED",
        [KVOT_E_MODEL] = "KVOT_E_MODEL",
        [KVOT_E_DIFFERENT] = "KVOT_E_DIFFERENT",
        [KVOT_E_CANCELLED] = "KVOT_E_CANCELLED",
        [KVOT_E_DEVICE] = "KVOT_E_DEVICE",
    };
    return (unsigned)status < sizeof names / sizeof *names ? names[status] : "unknown status";
}

const char *kvot_version(void) {
    return KVOT_VERSION;
}
