/* resume MODEL.gguf FILE.kvot [TOKENS]: goes on from a prompt whose cache llama.cpp saved and kvot made small. The
 * cache goes straight from the .kvot file into the engine's memory; no file of the engine's own is written.
 */
#include <kvot.h>

#include <llama.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQUENCE = 0 };

static void fail(const char *what) {
    fprintf(stderr, "resume: %s\n", what);
    exit(1);
}

static void check(kvot_status status, const kvot_error *error) {
    if (status != KVOT_OK)
        fail(error->text);
}

static void *memory(size_t bytes) {
    void *room = malloc(bytes + 1);
    if (!room)
        fail("out of memory");
    return room;
}

static void silent(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

/* Opens a file that can be resumed with this model. A file that does not say its model is taken at the user's word. */
static kvot_file *open_cache(const char *path, const char *model_path) {
    kvot_error error;
    kvot_file *file;
    kvot_match match;
    uint8_t model[16];
    check(kvot_open(path, &file, &error), &error);
    check(kvot_model_digest(model_path, model, &error), &error);
    check(kvot_file_match(file, model, NULL, 0, &match, &error), &error);
    const kvot_info *info = kvot_file_info(file);
    if (!info->compressed || strcmp(info->source, "llama") != 0 || info->tokens == 0)
        fail("not a .kvot file of a llama.cpp cache with tokens");
    return file;
}

/* A context for the tokens of the file and `n` more. Its cache must look like the one that was saved. */
static struct llama_context *open_context(struct llama_model *model, const kvot_info *info, unsigned n) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)info->tokens + n;
    params.n_threads = params.n_threads_batch = 1; /* with flash attention another number may round otherwise */
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    for (size_t p = 0; p < info->n_planes; p++)
        if (info->planes[p].channel_major) /* only without flash attention is V stored like that */
            params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    struct llama_context *context = llama_init_from_model(model, params);
    if (!context)
        fail("the engine cannot make a context");
    return context;
}

/* Restores the engine's file in memory, and hands it what llama_state_seq_get_data would have given. A file of one
 * sequence is "ggsq", version, number of tokens, tokens, all in 32 bits; then the state. */
static void load(struct llama_context *context, kvot_file *file) {
    enum { PREFIX = 8 }; /* of a state in memory, since May 2026: a mark and the sequence's number */
    const uint32_t mark = 0xaf143cd8, sequence_file = 0x67677371;
    uint64_t bytes = kvot_file_info(file)->original_bytes;
    uint8_t *saved = memory(bytes);
    uint32_t head[3], first;
    kvot_error error;
    check(kvot_restore_memory(file, saved, bytes, NULL, &error), &error);
    if (bytes < sizeof head)
        fail("not a slot or sequence file of llama.cpp");
    memcpy(head, saved, sizeof head);
    if (head[0] != sequence_file || head[2] > (bytes - sizeof head) / sizeof(llama_token))
        fail("not a slot or sequence file of llama.cpp");
    uint8_t *state = saved + sizeof head + (size_t)head[2] * sizeof(llama_token);

    /* Whether this engine wants the prefix, an empty state tells. There is room for it where the tokens were. */
    size_t empty_bytes = llama_state_seq_get_size(context, SEQUENCE);
    uint8_t *empty = memory(empty_bytes);
    if (llama_state_seq_get_data(context, empty, empty_bytes, SEQUENCE) < PREFIX)
        fail("the engine does not give a state");
    memcpy(&first, empty, sizeof first);
    if (first == mark)
        memcpy(state -= PREFIX, empty, PREFIX);
    if (llama_state_seq_set_data(context, state, (size_t)(saved + bytes - state), SEQUENCE) == 0)
        fail("the engine does not take the state: another model, or other cache types than the defaults");
    free(empty);
    free(saved);
}

/* The likeliest token to follow `token`. */
static llama_token next(struct llama_context *context, llama_token token, int32_t n_vocabulary) {
    if (llama_decode(context, llama_batch_get_one(&token, 1)) != 0)
        fail("the engine cannot decode");
    const float *logits = llama_get_logits_ith(context, -1);
    llama_token best = 0;
    for (llama_token t = 1; t < n_vocabulary; t++)
        if (logits[t] > logits[best])
            best = t;
    return best;
}

/* Prints up to `n` tokens that follow those of the file. */
static void go_on(struct llama_context *context, const struct llama_vocab *vocabulary, kvot_file *file, unsigned n) {
    llama_memory_t cache = llama_get_memory(context);
    llama_token last = (llama_token)kvot_file_info(file)->tokens - 1, token;
    char text[256];
    kvot_error error;
    check(kvot_file_tokens(file, (uint64_t)last, 1, &token, &error), &error);
    /* The state is without the logits of the last token, so this one is computed again. */
    if (llama_memory_seq_pos_max(cache, SEQUENCE) >= last && !llama_memory_seq_rm(cache, SEQUENCE, last, -1))
        fail("this model's cache cannot go back by a token");
    for (unsigned i = 0; i < n; i++) {
        token = next(context, token, llama_vocab_n_tokens(vocabulary));
        if (llama_vocab_is_eog(vocabulary, token))
            break;
        int32_t length = llama_token_to_piece(vocabulary, token, text, sizeof text, 0, false);
        fwrite(text, 1, length > 0 ? (size_t)length : 0, stdout);
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 3)
        return fprintf(stderr, "usage: resume MODEL.gguf FILE.kvot [TOKENS]\n"), 2;
    unsigned n = argc > 3 ? (unsigned)atoi(argv[3]) : 32;
    llama_log_set(silent, NULL);
    llama_backend_init();
    kvot_file *file = open_cache(argv[2], argv[1]);
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model)
        fail("the engine cannot load the model");
    struct llama_context *context = open_context(model, kvot_file_info(file), n);
    load(context, file);
    go_on(context, llama_model_get_vocab(model), file, n);
    llama_free(context);
    llama_model_free(model);
    kvot_close(file);
    llama_backend_free();
    return 0;
}
