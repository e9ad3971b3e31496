/* What a GGUF model file says about the caches that it makes. Metadata and tensor list only; no tensor is read. */
#ifndef KVOT_GGUF_H
#define KVOT_GGUF_H

#include "../io/io.h"

enum { GGUF_MAX_LAYERS = 4096, GGUF_MAX_DIMS = 4 };

typedef struct gguf {
    char architecture[32];
    uint8_t digest[16]; /* XXH3-128 of the file up to the end of the tensor list: the model's identity */
    uint32_t n_heads;   /* query heads */
    uint32_t n_embedding;
    uint32_t key_dims[GGUF_MAX_DIMS], value_dims[GGUF_MAX_DIMS]; /* head sizes that occur, 0 ends */
    uint32_t kv_heads[GGUF_MAX_LAYERS];                          /* of each layer, as far as told */
    uint32_t n_kv_heads;                                         /* entries in kv_heads; 1 if all layers are alike */
    float rope_base;
    uint32_t rope_dims;
} gguf;

/* KVOT_E_UNKNOWN: not a GGUF file; KVOT_E_DAMAGED: cut or changed. */
kvot_status gguf_read(const input *in, gguf *model, kvot_error *error);

/* KV heads in a row of `elems` elements of K (or V), or 0 if no layer of the model has such rows. */
uint32_t gguf_heads(const gguf *model, bool keys, uint32_t elems);

#endif
