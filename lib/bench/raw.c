#include "raw.h"

#include "../io/direct.h"
#include "../io/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

enum { READ_BYTES = 1 << 20, DEPTH = 16, LEVEL = 3 };

void raw_drop(const input *in) {
    fdatasync(in->fd); /* pages that are still to be written stay */
    posix_fadvise(in->fd, 0, 0, POSIX_FADV_DONTNEED);
}

typedef kvot_status consumer(void *context, const uint8_t *bytes, size_t n, kvot_error *error);

/* Reads a file from start to end. */
static kvot_status read_all(const input *in, consumer *consume, void *context, kvot_error *error) {
    uint8_t *buffer = malloc(READ_BYTES);
    kvot_status status = buffer ? KVOT_OK : fail_memory(error);
    for (uint64_t at = 0; at < in->bytes && status == KVOT_OK; at += READ_BYTES) {
        size_t n = in->bytes - at < READ_BYTES ? (size_t)(in->bytes - at) : READ_BYTES;
        status = input_read(in, at, buffer, n, error);
        if (status == KVOT_OK && consume)
            status = consume(context, buffer, n, error);
    }
    free(buffer);
    return status;
}

kvot_status raw_warm(const input *in, kvot_error *error) {
    return read_all(in, NULL, NULL, error);
}

kvot_status raw_buffered(const input *in, double *seconds, kvot_error *error) {
    double start = clock_now();
    kvot_status status = read_all(in, NULL, NULL, error);
    *seconds = clock_now() - start;
    return status;
}

static kvot_status no_direct(const input *in, kvot_error *error) {
    return fail(error, KVOT_E_UNSUPPORTED, "%s: no O_DIRECT or io_uring", in->name);
}

/* Reads with `ring`; `memory` has DEPTH places. */
static kvot_status read_on_ring(const input *in, ring *ring, uint8_t *memory, kvot_error *error) {
    uint64_t next = 0, offsets[DEPTH];
    unsigned under_way = 0;
    int number = 0;
    for (; under_way < DEPTH && next < in->bytes && number == 0; next += READ_BYTES, under_way += number == 0) {
        offsets[under_way] = next;
        number = ring_read(ring, memory + (size_t)under_way * READ_BYTES, READ_BYTES, next, under_way);
    }
    while (under_way > 0) {
        ring_result result;
        if (!ring_wait(ring) || !ring_poll(ring, &result))
            return fail_errno(error, in->name, "read");
        under_way--;
        if (result.result < 0)
            number = -result.result;
        uint64_t wanted = in->bytes - offsets[result.tag];
        if (number == 0 && (uint64_t)result.result < (wanted < READ_BYTES ? wanted : READ_BYTES))
            number = EOPNOTSUPP; /* a disk reads whole blocks; what does not is not measured */
        if (number != 0 || next >= in->bytes)
            continue;
        offsets[result.tag] = next;
        number = ring_read(ring, memory + result.tag * READ_BYTES, READ_BYTES, next, result.tag);
        next += READ_BYTES;
        under_way += number == 0;
    }
    if (number == EINVAL || number == EOPNOTSUPP) /* some file systems refuse it only now */
        return no_direct(in, error);
    errno = number;
    return number == 0 ? KVOT_OK : fail_errno(error, in->name, "read");
}

kvot_status raw_direct(const input *in, kept *kept, double *seconds, kvot_error *error) {
    const size_t bytes = (size_t)DEPTH * READ_BYTES;
    uint8_t *memory = kept_take(kept, bytes);
    if (!memory)
        return fail_memory(error);
    memset(memory, 0, bytes);
    int fd = direct_open(in->fd, O_RDONLY);
    ring *ring = fd >= 0 ? ring_open(fd, DEPTH) : NULL;
    if (ring)
        ring_register(ring, memory, bytes);
    kvot_status status = ring ? KVOT_OK : no_direct(in, error);
    double start = clock_now();
    if (status == KVOT_OK)
        status = read_on_ring(in, ring, memory, error);
    *seconds = clock_now() - start;
    ring_close(ring);
    if (fd >= 0)
        close(fd);
    kept_give(kept, memory, bytes);
    return status;
}

static kvot_status zstd_failed(const char *name, size_t code, kvot_error *error) {
    return fail(error, KVOT_E_IO, "%s: zstd: %s", name, ZSTD_getErrorName(code));
}

typedef struct packing {
    ZSTD_CCtx *context;
    output *out;
    uint8_t *room;
    size_t room_bytes;
    uint64_t bytes; /* written */
} packing;

static kvot_status pack(packing *packing, ZSTD_inBuffer in, ZSTD_EndDirective how, kvot_error *error) {
    for (;;) {
        ZSTD_outBuffer out = {packing->room, packing->room_bytes, 0};
        size_t left = ZSTD_compressStream2(packing->context, &out, &in, how);
        if (ZSTD_isError(left))
            return zstd_failed(packing->out->name, left, error);
        kvot_status status = output_append(packing->out, packing->room, out.pos, error);
        packing->bytes += out.pos;
        if (status != KVOT_OK || (how == ZSTD_e_end ? left == 0 : in.pos == in.size))
            return status;
    }
}

static kvot_status pack_part(void *context, const uint8_t *bytes, size_t n, kvot_error *error) {
    const packing *packing = context;
    if (asked_to_stop(packing->out->run, packing->bytes))
        return fail(error, KVOT_E_CANCELLED, "stopped");
    return pack(context, (ZSTD_inBuffer){bytes, n, 0}, ZSTD_e_continue, error);
}

kvot_status raw_compress(const input *in, const char *directory, const kvot_run *run, input *compressed,
                         kvot_error *error) {
    output out;
    kvot_status status = output_open_unnamed(&out, directory, in->name, run, error);
    if (status != KVOT_OK)
        return status;
    packing packing = {ZSTD_createCCtx(), &out, malloc(ZSTD_CStreamOutSize()), ZSTD_CStreamOutSize(), 0};
    if (!packing.context || !packing.room)
        status = fail_memory(error);
    if (status == KVOT_OK) {
        ZSTD_CCtx_setParameter(packing.context, ZSTD_c_compressionLevel, LEVEL);
        status = read_all(in, pack_part, &packing, error);
    }
    if (status == KVOT_OK)
        status = pack(&packing, (ZSTD_inBuffer){NULL, 0, 0}, ZSTD_e_end, error);
    if (status == KVOT_OK)
        status = output_to_input(&out, compressed, packing.bytes, error);
    ZSTD_freeCCtx(packing.context);
    free(packing.room);
    output_close(&out);
    return status;
}

typedef struct unpacking {
    ZSTD_DCtx *context;
    const char *name;
    uint8_t *room;
    size_t room_bytes;
} unpacking;

static kvot_status unpack_part(void *context, const uint8_t *bytes, size_t n, kvot_error *error) {
    unpacking *unpacking = context;
    ZSTD_inBuffer in = {bytes, n, 0};
    ZSTD_outBuffer out;
    do {
        out = (ZSTD_outBuffer){unpacking->room, unpacking->room_bytes, 0};
        size_t left = ZSTD_decompressStream(unpacking->context, &out, &in);
        if (ZSTD_isError(left))
            return zstd_failed(unpacking->name, left, error);
    } while (in.pos < in.size || out.pos == out.size);
    return KVOT_OK;
}

kvot_status raw_decompress(const input *in, double *seconds, kvot_error *error) {
    unpacking unpacking = {ZSTD_createDCtx(), in->name, malloc(ZSTD_DStreamOutSize()), ZSTD_DStreamOutSize()};
    double start = clock_now();
    kvot_status status =
        unpacking.context && unpacking.room ? read_all(in, unpack_part, &unpacking, error) : fail_memory(error);
    *seconds = clock_now() - start;
    ZSTD_freeDCtx(unpacking.context);
    free(unpacking.room);
    return status;
}
