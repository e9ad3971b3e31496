/* What a model's file tells about a plan: KV heads, RoPE, the model's identity. */
#ifndef KVOT_MODEL_H
#define KVOT_MODEL_H

#include "io/io.h"
#include "plan.h"

/* Fills in what the GGUF file at `path` says about the cache in `in`. KVOT_E_MODEL if it cannot be its model. */
kvot_status model_apply(plan *plan, const input *in, const char *path, const kvot_run *run, kvot_error *error);

#endif
