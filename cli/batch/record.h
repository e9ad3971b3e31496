/* Lines of journals and plans: "KIND NAME REST CHECKSUM". NAME is escaped and may be any file name or text; REST is
 * printable and means what KIND says. */
#ifndef KVOT_BATCH_RECORD_H
#define KVOT_BATCH_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct record {
    char *kind, *name, *rest;
} record;

/* Such a line, with its end. In what `format` gives, control characters become '?'. To be freed. */
char *record_line(const char *kind, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Takes `line`, `n` bytes and a 0, apart, in place. False if it is no whole line: torn, changed, or without its end. */
bool record_read(char *line, size_t n, record *record);

/* FNV-1a, the same on every machine. */
uint64_t record_hash(const char *text, size_t n);

#endif
