/* Fuzzes the reader of GGUF models. */
#include "../../lib/engines/gguf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {.fd = -1, .memory = data, .bytes = size, .name = "fuzz"};
    static gguf model;
    if (gguf_read(&in, &model, NULL) == KVOT_OK) {
        for (uint32_t elems = 1; elems <= 1 << 16; elems = elems * 3 / 2 + 1)
            for (int keys = 0; keys < 2; keys++) {
                uint32_t heads = gguf_heads(&model, keys, elems);
                if (heads > 0 && elems % heads != 0)
                    abort(); /* a row must divide into its heads */
            }
    }
    return 0;
}
