/* Header, footer, checksum and element types. */
#include "format.h"

#include <string.h>
#include <xxhash.h>

const format_type_info *format_type_of(unsigned type) {
    static const format_type_info table[FORMAT_TYPES] = {
        [FORMAT_OPAQUE] = {"bytes", 1, 1, 0}, [FORMAT_F32] = {"f32", 1, 4, 4},
        [FORMAT_F16] = {"f16", 1, 2, 2},      [FORMAT_BF16] = {"bf16", 1, 2, 2},
        [FORMAT_Q4_0] = {"q4_0", 32, 18, 2},  [FORMAT_Q4_1] = {"q4_1", 32, 20, 4},
        [FORMAT_Q5_0] = {"q5_0", 32, 22, 2},  [FORMAT_Q5_1] = {"q5_1", 32, 24, 4},
        [FORMAT_Q8_0] = {"q8_0", 32, 34, 2},  [FORMAT_IQ4_NL] = {"iq4_nl", 32, 18, 2},
    };
    return type < FORMAT_TYPES ? &table[type] : NULL;
}

uint64_t format_checksum(const void *bytes, size_t n) {
    return XXH3_64bits(bytes, n);
}

bool format_is_text(const char *field, size_t n) {
    size_t length = 0;
    while (length < n && field[length] >= ' ' && field[length] <= '~')
        length++;
    if (length == n)
        return false;
    while (length < n && field[length] == 0)
        length++;
    return length == n;
}

void format_seal_header(format_header *header, const char *writer) {
    memset(header, 0, sizeof *header);
    memcpy(header->magic, FORMAT_MAGIC, sizeof header->magic);
    header->version = FORMAT_VERSION;
    header->header_bytes = sizeof *header;
    for (size_t i = 0; i + 1 < sizeof header->writer && writer[i]; i++)
        header->writer[i] = writer[i];
    header->checksum = format_checksum(header, offsetof(format_header, checksum));
}

const char *format_check_header(const format_header *header) {
    if (memcmp(header->magic, FORMAT_MAGIC, sizeof header->magic) != 0)
        return "not a .kvot file";
    if (header->checksum != format_checksum(header, offsetof(format_header, checksum)))
        return "the header's checksum is wrong";
    if (header->version != FORMAT_VERSION)
        return "written in another version of the format";
    if (header->header_bytes != sizeof *header)
        return "the header's length is wrong";
    if (header->incompatible != 0)
        return "needs a feature that this version does not have";
    if (!format_is_text(header->writer, sizeof header->writer))
        return "the writer's name is not a text";
    return NULL;
}

void format_seal_footer(format_footer *footer, const void *index, uint64_t index_offset, uint64_t index_bytes) {
    memset(footer, 0, sizeof *footer);
    footer->index_offset = index_offset;
    footer->index_bytes = index_bytes;
    footer->index_checksum = format_checksum(index, index_bytes);
    footer->file_bytes = index_offset + index_bytes + sizeof *footer;
    memcpy(footer->magic, FORMAT_END_MAGIC, sizeof footer->magic);
    footer->checksum = format_checksum(footer, offsetof(format_footer, checksum));
}

const char *format_check_footer(const format_footer *footer, uint64_t file_bytes) {
    if (memcmp(footer->magic, FORMAT_END_MAGIC, sizeof footer->magic) != 0)
        return "the end is missing: the file was cut";
    if (footer->checksum != format_checksum(footer, offsetof(format_footer, checksum)))
        return "the footer's checksum is wrong";
    if (footer->file_bytes != file_bytes)
        return "the file is longer or shorter than it says";
    if (footer->reserved[0] != 0 || footer->reserved[1] != 0)
        return "reserved bits of the footer are set";
    if (footer->index_offset < sizeof(format_header) || footer->index_offset % FORMAT_STREAM_ALIGN != 0 ||
        footer->index_offset > file_bytes - sizeof *footer ||
        footer->index_bytes != file_bytes - sizeof *footer - footer->index_offset)
        return "the index does not lie where the footer says";
    return NULL;
}

const format_footer *format_find_footer(const void *bytes, size_t n, uint64_t offset) {
    const format_footer *footer;
    if (n < sizeof *footer)
        return NULL;
    for (size_t at = (n - sizeof *footer) / FORMAT_FOOTER_ALIGN * FORMAT_FOOTER_ALIGN;; at -= FORMAT_FOOTER_ALIGN) {
        footer = (const void *)((const uint8_t *)bytes + at);
        if (memcmp(footer->magic, FORMAT_END_MAGIC, sizeof footer->magic) == 0 &&
            !format_check_footer(footer, offset + at + sizeof *footer))
            return footer;
        if (at == 0)
            return NULL;
    }
}
