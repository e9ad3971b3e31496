/* Reads a .kvot file: the index at once, streams one by one. */
#ifndef KVOT_READER_H
#define KVOT_READER_H

#include "../cache/cache.h"
#include "../codecs/codec.h"

typedef struct reader {
    input in;          /* what belongs to the cache: an interrupted append's bytes behind it are not counted */
    uint64_t leftover; /* bytes of an interrupted append */
    format_header header;
    cache cache;
} reader;

/* Says whether the input begins as a .kvot file does: `*compressed` is false on failure. */
kvot_status reader_probe(const input *in, bool *compressed, kvot_error *error);

/* Finds the footer, that of the last state of the file that is complete (SPEC.md, Appending). Takes `in` over, also on
 * failure; reader_close is then not needed. */
kvot_status reader_open(reader *reader, input *in, kvot_error *error);

/* Takes memory of the run's pool for what reader_open has read, until the call ends. */
kvot_status reader_take(const reader *reader, const kvot_run *run, kvot_error *error);

/* Opens the input too, and takes memory; KVOT_E_UNKNOWN if it is not a .kvot file. */
kvot_status reader_open_path(reader *reader, const char *path, const kvot_run *run, kvot_error *error);
void reader_close(reader *reader);

/* Reads stream number `stream` as it is stored. `*buffer` grows as needed. Any thread, each with its own buffer. */
kvot_status reader_read(const reader *reader, uint32_t stream, uint8_t **buffer, size_t *buffer_bytes,
                        kvot_error *error);

/* Checks stream number `stream`, of `n` rows of `plane`, which is at `stored`, aligned to 16, and decodes it to `rows`.
 * `check_decoded`: also compares the decoded rows with their checksum. Any thread, each with its own context. */
kvot_status reader_decode(const reader *reader, codec_context *context, uint32_t stream, const format_plane *plane,
                          uint32_t n, bool check_decoded, const uint8_t *stored, void *rows, kvot_error *error);

/* The same on the context's lane, to where `rows` says, for a codec that decodes there. KVOT_E_MEMORY if the device has
 * no memory left. */
kvot_status reader_decode_on_lane(const reader *reader, codec_context *context, uint32_t stream,
                                  const format_plane *plane, uint32_t n, const uint8_t *stored, const lane_rows *rows,
                                  kvot_error *error);

#endif
