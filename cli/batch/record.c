#include "record.h"

#include "batch.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHECKSUM = 16 }; /* digits */

uint64_t record_hash(const char *text, size_t n) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    return hash;
}

char *record_line(const char *kind, const char *name, const char *format, ...) {
    static const char digits[] = "0123456789ABCDEF";
    va_list arguments;
    char *rest;
    va_start(arguments, format);
    if (vasprintf(&rest, format, arguments) < 0)
        batch_out_of_memory();
    va_end(arguments);
    char *line = batch_memory(NULL, strlen(kind) + 3 * strlen(name) + strlen(rest) + CHECKSUM + 5),
         *end = stpcpy(line, kind);
    *end++ = ' ';
    for (const char *c = name; *c; c++) {
        unsigned char byte = (unsigned char)*c;
        if (byte > ' ' && byte < 0x7f && byte != '%') {
            *end++ = *c;
            continue;
        }
        *end++ = '%';
        *end++ = digits[byte >> 4];
        *end++ = digits[byte & 15];
    }
    *end++ = ' ';
    for (const char *c = rest; *c; c++)
        *end++ = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c;
    sprintf(end, " %016" PRIx64 "\n", record_hash(line, (size_t)(end - line)));
    free(rest);
    return line;
}

static bool unescape(char *text) {
    char *to = text;
    for (const char *c = text; *c; c++) {
        if (*c == '%') {
            char digits[3] = {0};
            if (!isxdigit((unsigned char)c[1]) || !isxdigit((unsigned char)c[2]))
                return false;
            memcpy(digits, c + 1, 2);
            *to = (char)strtoul(digits, NULL, 16);
            if (*to++ == 0)
                return false;
            c += 2;
        } else
            *to++ = *c;
    }
    *to = 0;
    return true;
}

bool record_read(char *line, size_t n, record *record) {
    if (n < CHECKSUM + 2 || line[n - 1] != '\n' || strlen(line) != n)
        return false;
    size_t text = n - CHECKSUM - 2;
    char expected[CHECKSUM + 1];
    snprintf(expected, sizeof expected, "%016" PRIx64, record_hash(line, text));
    if (line[text] != ' ' || memcmp(line + text + 1, expected, CHECKSUM) != 0)
        return false;
    line[text] = 0;
    record->kind = strsep(&line, " ");
    record->name = strsep(&line, " ");
    record->rest = line;
    return record->rest && unescape(record->name);
}
