/* What a model's file tells about a plan: KV heads, RoPE, the model's identity. */
#ifndef KVOT_MODEL_H
#define KVOT_MODEL_H

#include "../cache/plan.h"
#include "../io/io.h"

/* Fills in what the GGUF file at `path` says about the cache in `in`. KVOT_E_MODEL if it cannot be its model. */
kvot_status model_apply(plan *plan, const input *in, const char *path, const kvot_run *run, kvot_error *error);

/* Whether the file says which model made it. */
bool model_is_known(const format_index *about);

/* What an older file of the same cache says about the model. */
void model_keep(format_index *about, const format_index *old);

#endif
