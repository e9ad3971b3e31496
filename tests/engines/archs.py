"""archs.py MODELS STATES: for each model in a folder, has llama-cpp-python save sequence and session files to another.

See archs.sh. A model runs in a process of its own, as some make the engine abort; those are counted and left out."""
import ctypes
import os
import subprocess
import sys

TOKENS = 20


def save(path, flash_attention, target):
    import llama_cpp as llama

    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.flash_attn_type = 128, 128, 128, flash_attention
    context = llama.llama_init_from_model(model, params)
    n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    tokens = (llama.llama_token * TOKENS)(*[(7 * i + 3) % n_vocab for i in range(TOKENS)])
    if llama.llama_decode(context, llama.llama_batch_get_one(tokens, TOKENS)) != 0:
        sys.exit(1)
    saved = llama.llama_state_seq_save_file(context, (target + "-sequence.bin").encode(), 0, tokens, TOKENS)
    saved = llama.llama_state_save_file(context, (target + "-session.bin").encode(), tokens, TOKENS) and saved
    sys.exit(0 if saved else 1)


def main(models, states):
    os.makedirs(states, exist_ok=True)
    good, bad = set(), set()
    for name in sorted(os.listdir(models)):
        for flash_attention in (0, 1):
            target = os.path.join(states, f"{name.removesuffix('.gguf')}-flash{flash_attention}")
            result = subprocess.run([sys.executable, __file__, os.path.join(models, name), str(flash_attention), target],
                                    capture_output=True, timeout=120)
            (good if result.returncode == 0 else bad).add(name)
    print(f"{len(good)} models saved states; {len(bad - good)} did not: {' '.join(sorted(bad - good))}")


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 3 else save(sys.argv[1], int(sys.argv[2]), sys.argv[3])
