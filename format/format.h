/* The .kvot file format, version 0: structs, and checks as pure functions over memory.
 *
 * SPEC.md is normative; this header follows it field by field. All numbers are little-endian, and so are the machines
 * this is compiled for (checked below), so a struct may be read straight from a mapping. Nothing here knows of files,
 * threads or arithmetic on tensors. A check returns NULL where all is well, else a static text that says what is wrong.
 */
#ifndef KVOT_FORMAT_H
#define KVOT_FORMAT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs are read as they lie in the file");

#define FORMAT_VERSION       0u
#define FORMAT_MAGIC         "\x89KVOT\r\n\x1a"
#define FORMAT_END_MAGIC     "KVOTEND\n"
#define FORMAT_STREAM_ALIGN  64u         /* every stream starts on a multiple of this */
#define FORMAT_EXTENT_ALIGN  4096u       /* the first stream of an extent starts on a multiple of this */
#define FORMAT_EXTENT_BYTES  (1u << 20)  /* a stream starts a new extent when the last began this long ago */
#define FORMAT_FOOTER_ALIGN  8u          /* every footer starts on a multiple of this */
#define FORMAT_PART_ALIGN    16u         /* parts inside an ott stream */
#define FORMAT_CHUNK_ROWS    256u        /* rows a chunk holds at the most */
#define FORMAT_CHUNK_BYTES   (16u << 20) /* decoded bytes a chunk or a verbatim block holds at the most */
#define FORMAT_VERBATIM_STEP (1u << 20)  /* decoded bytes of every verbatim block but the last */
#define FORMAT_MAX_ROW_BYTES FORMAT_CHUNK_BYTES

/* Element types. Quantizable: f32, f16, bf16. The others are blocks of 32 elements, or one byte that is opaque. */
typedef enum format_type {
    FORMAT_OPAQUE = 0,
    FORMAT_F32 = 1,
    FORMAT_F16 = 2,
    FORMAT_BF16 = 3,
    FORMAT_Q4_0 = 4,
    FORMAT_Q4_1 = 5,
    FORMAT_Q5_0 = 6,
    FORMAT_Q5_1 = 7,
    FORMAT_Q8_0 = 8,
    FORMAT_IQ4_NL = 9,
    FORMAT_TYPES
} format_type;

typedef struct format_type_info {
    const char *name;
    uint16_t block_elems; /* elements a block holds */
    uint16_t block_bytes; /* bytes a block takes */
    uint16_t head_bytes;  /* leading bytes of a block that the lossless codec splits into byte planes */
} format_type_info;

/* The row of the table above for `type`, or NULL if there is no such type. */
const format_type_info *format_type_of(unsigned type);

typedef enum format_kind { FORMAT_K = 0, FORMAT_V = 1, FORMAT_STATE = 2, FORMAT_KINDS } format_kind;
typedef enum format_layout { FORMAT_TOKEN_MAJOR = 0, FORMAT_CHANNEL_MAJOR = 1, FORMAT_LAYOUTS } format_layout;
typedef enum format_codec { FORMAT_LOSSLESS = 0, FORMAT_OTT = 1, FORMAT_CODECS } format_codec;

typedef enum format_outlier_rule { FORMAT_OUTLIERS_CHUNK = 0, FORMAT_OUTLIERS_FIXED = 1 } format_outlier_rule;

typedef struct format_header {
    uint8_t magic[8];
    uint32_t version;
    uint32_t header_bytes; /* 64 */
    uint64_t incompatible; /* a reader that does not know a bit that is set here refuses the file */
    uint64_t compatible;   /* a reader may ignore bits that are set here */
    char writer[24];       /* program and version, padded with NUL */
    uint64_t checksum;     /* XXH3-64 of the bytes before it */
} format_header;
static_assert(sizeof(format_header) == 64, "SPEC.md, Header");

typedef struct format_footer {
    uint64_t index_offset;
    uint64_t index_bytes;
    uint64_t index_checksum; /* XXH3-64 */
    uint64_t file_bytes;     /* of the whole file, this footer included */
    uint64_t reserved[2];    /* zero */
    uint8_t magic[8];
    uint64_t checksum; /* XXH3-64 of the bytes before it */
} format_footer;
static_assert(sizeof(format_footer) == 64, "SPEC.md, Footer");

typedef struct format_index {
    uint64_t source_bytes;    /* length of the file that was compressed */
    char engine[16];          /* who wrote the source: "llama" */
    char variant[64];         /* what the source is, for people */
    char architecture[32];    /* model architecture if known, else empty */
    uint8_t model_digest[16]; /* XXH3-128 of the GGUF file to the end of its tensor list; zero: unknown */
    uint64_t tokens_offset;   /* of the token ids (i32) in the source; they lie in verbatim bytes */
    uint32_t n_tokens;
    uint32_t rope_dims; /* channels of a head that RoPE turns; 0: unknown */
    float rope_base;    /* 0: unknown */
    uint32_t n_rowsets;
    uint32_t n_position_runs;
    uint32_t n_chunks;
    uint32_t n_views;
    uint32_t n_view_runs;
    uint32_t n_planes;
    uint32_t n_segments;
    uint32_t n_streams;   /* verbatim blocks, then chunks of each plane in turn */
    uint32_t n_verbatim;  /* verbatim blocks */
    uint32_t reserved[8]; /* zero */
} format_index;
static_assert(sizeof(format_index) == 224, "SPEC.md, Index");

/* Rows of a set of planes, every distinct row once. */
typedef struct format_rowset {
    uint32_t n_rows;
    uint32_t n_position_runs;
    uint32_t n_chunks;
    uint32_t n_planes;
} format_rowset;
static_assert(sizeof(format_rowset) == 16, "SPEC.md, Row sets");

typedef struct format_run {
    uint32_t first;
    uint32_t count;
} format_run;
static_assert(sizeof(format_run) == 8, "SPEC.md, Runs");

/* The cells of one stream of one section of the source, in the source's order, as rows of a row set. */
typedef struct format_view {
    uint32_t rowset;
    uint32_t n_cells;
    uint32_t n_runs;
    uint32_t reserved;
} format_view;
static_assert(sizeof(format_view) == 16, "SPEC.md, Views");

typedef struct format_plane {
    uint32_t rowset;
    uint32_t layer;       /* ordinal inside the section of the source */
    uint8_t kind;         /* format_kind */
    uint8_t type;         /* format_type */
    uint8_t layout;       /* format_layout, in the source; stored rows are token-major */
    uint8_t codec;        /* format_codec */
    uint8_t bits;         /* ott */
    uint8_t outlier_rule; /* ott: format_outlier_rule, for information */
    uint16_t group;       /* ott */
    uint32_t row_bytes;
    uint32_t heads;    /* KV heads a row holds; 1 if unknown */
    uint32_t outliers; /* ott with FORMAT_OUTLIERS_FIXED: exact rows of each head */
    uint32_t reserved; /* zero */
} format_plane;
static_assert(sizeof(format_plane) == 32, "SPEC.md, Planes");

#define FORMAT_VERBATIM UINT32_MAX
typedef struct format_segment {
    uint32_t plane; /* or FORMAT_VERBATIM */
    uint32_t view;  /* 0 for verbatim bytes */
    uint64_t bytes;
} format_segment;
static_assert(sizeof(format_segment) == 16, "SPEC.md, Segments");

typedef enum format_stream_type { FORMAT_STREAM_LOSSLESS = 1, FORMAT_STREAM_OTT = 2 } format_stream_type;
typedef struct format_stream {
    uint64_t offset;
    uint64_t checksum;         /* XXH3-64 of the stored bytes */
    uint64_t decoded_checksum; /* XXH3-64 of what they decode to */
    uint32_t stored_bytes;
    uint32_t decoded_bytes;
    uint32_t type; /* format_stream_type */
    uint32_t reserved;
    double squared_error; /* what was lost: sum over all elements; 0 in lossless streams, like the next two */
    double squared_sum;   /* sum of squares of the original elements */
    double max_error;
} format_stream;
static_assert(sizeof(format_stream) == 64, "SPEC.md, Streams");

/* Pointers to the tables of an index that lies in memory at an address that is a multiple of 8. */
typedef struct format_tables {
    const format_index *index;
    const format_rowset *rowsets;
    const format_run *position_runs;
    const uint32_t *chunk_rows; /* padded to a multiple of 8 bytes */
    const format_view *views;
    const format_run *view_runs;
    const format_plane *planes;
    const format_segment *segments;
    const format_stream *streams;
} format_tables;

/* Bytes of an index with the counts in `index`, or 0 if that is more than `limit`. */
uint64_t format_index_bytes(const format_index *index, uint64_t limit);

/* Points `tables` into `memory`, which starts with a format_index whose counts fit `bytes` exactly. */
const char *format_index_tables(const void *memory, uint64_t bytes, format_tables *tables);

/* True if a text field holds printable ASCII, then nothing but NUL, at least one. */
bool format_is_text(const char *field, size_t n);

const char *format_check_header(const format_header *header);
const char *format_check_footer(const format_footer *footer, uint64_t file_bytes);

/* The last footer in `n` bytes of a file that passes format_check_footer for a file that ends with it, or NULL. The
 * bytes lie in the file at `offset`, a multiple of FORMAT_FOOTER_ALIGN, as does `bytes` in memory. */
const format_footer *format_find_footer(const void *bytes, size_t n, uint64_t offset);

/* Checks all that SPEC.md demands of an index, so that whoever follows it later cannot leave an array. */
const char *format_check_index(const format_tables *tables, uint64_t index_offset);

/* Fills magic, sizes and checksums. */
void format_seal_header(format_header *header, const char *writer);
void format_seal_footer(format_footer *footer, const void *index, uint64_t index_offset, uint64_t index_bytes);
uint64_t format_checksum(const void *bytes, size_t n);

/* Where the parts of an ott stream lie (SPEC.md, ott streams). All offsets are from the stream's first byte. */
typedef struct format_ott {
    uint32_t head_dim, elem_bytes;
    bool keys;               /* K: ranges per channel over `group` rows; V: per row over `group` channels of a head */
    uint32_t ranges;         /* scales, and as many minima */
    uint32_t row_code_bytes; /* of the low codes of one row */
    uint32_t row_high_bytes; /* of the high bits of one row, 3-bit codes only, else 0 */
    uint64_t rows_at, exact, scales, minima, codes, high, bytes;
} format_ott;

/* Lays out a stream with `outliers` exact rows in all heads together. False if a value is out of bounds. */
bool format_ott_layout(format_ott *ott, const format_plane *plane, uint32_t rows, uint32_t outliers);

/* Reads the number of exact rows in all heads together and checks counts, row numbers, scales and minima of a stream,
 * which is aligned to FORMAT_PART_ALIGN. */
const char *format_ott_read(format_ott *ott, const format_plane *plane, uint32_t rows, const void *stream,
                            uint64_t bytes);

#endif
