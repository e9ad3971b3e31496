#!/usr/bin/env python3
"""Tries outlier rules and range shares in numpy, with the loss that an engine has from them.

    prototype.py SETTING... --model smollm2 [--texts FILE...] [--tokens 2048] [--one-head]

For finding the constants of format/SPEC.md, "What the encoder does". It does the same arithmetic, so that with the
same constants the quantized values are those of kvot, bit for bit. A SETTING is a list of NAME=NUMBER:

    bits=4            bits of a code
    group=64          elements that share a scale and a minimum
    k=1 v=1           share of a group's range that codes span, in K and in V
    count=N           outlier rule 1: N exact rows of each plane and head
    start=2           else rule 0: exact rows in the chunk that has position 0,
    product=0.2         elsewhere of the rows with |K| * |V| < product * median
    square=0.36         and K^2 >= square * median
    cap=2               at most so many

Numbers that are not given are as above, so bits=4,group=64,k=0.98,v=0.99 is kvot's default, bits=2,group=128,count=3
the paper's method, and count=0 KIVI's.

As in measure.py the first tokens of a text are prefilled, and the next 256 are scored with the original cache and with
what each setting makes of it. A line of output: model, text, setting, exact rows of a plane and head, stored bits per
value (all but padding and index), mean Kullback-Leibler divergence in nats, share of positions with the same most
likely token."""
import argparse
import os
import struct
import sys
import tempfile
from types import SimpleNamespace

import numpy as np

import measure
from measure import SCORED, Context, Model, f32_model, loss, llama

CHUNK = 256
LANES = 16
DEFAULTS = {"bits": 4, "group": 64, "k": 1.0, "v": 1.0, "count": -1, "start": 2, "product": 0.2, "square": 0.36, "cap": 2}
INFINITY = np.float32(np.inf)
MAGIC, VERSION = 0x67677371, 3


def setting(text):
    given = dict(item.split("=") for item in text.split(","))
    if not given.keys() <= DEFAULTS.keys():
        raise ValueError
    return SimpleNamespace(text=text, **DEFAULTS | {name: type(DEFAULTS[name])(number) for name, number in given.items()})


# ---- The engine's file

def sections(state):
    """Parses a sequence file in a bytearray. Returns a list of (positions, [(K, V) of each layer]), one of each attention
    section. The arrays [cell][channel] are views: what is written to them changes the file."""
    magic, version, n_tokens = struct.unpack_from("<3I", state)
    if (magic, version) != (MAGIC, VERSION):
        sys.exit(f"not a llama.cpp sequence file of version {VERSION}")
    at, found = 12 + 4 * n_tokens, []
    while at < len(state):
        n_streams, n_cells = struct.unpack_from("<2I", state, at)
        at += 8
        positions = np.empty(n_cells, np.int64)
        for i in range(n_cells):
            positions[i], n_sequences = struct.unpack_from("<iI", state, at)
            at += 8 + 4 * n_sequences
        transposed, n_layers = struct.unpack_from("<2I", state, at)
        at += 8
        if n_streams != 1 or transposed:
            sys.exit("the cache has several streams, or V is transposed")
        planes = []
        for _ in range(2 * n_layers):
            element, row_bytes = struct.unpack_from("<iQ", state, at)
            if element != measure.GGML_F16:
                sys.exit("the cache is not f16")
            planes.append(np.frombuffer(state, np.float16, n_cells * row_bytes // 2, at + 12).reshape(n_cells, -1))
            at += 12 + n_cells * row_bytes
        found.append((positions, list(zip(planes[:n_layers], planes[n_layers:]))))
    return found


# ---- What the encoder does. Arrays of rows are [row][head][channel], of what is known of rows [row][head].

def magnitudes(rows):
    """Sums of |x| and of x * x, added up in 16 lanes."""
    padded = np.zeros((*rows.shape[:2], -(-rows.shape[2] // LANES) * LANES), np.float32)
    padded[:, :, :rows.shape[2]] = np.abs(rows)
    result = []
    for terms in padded, padded * padded:
        lanes = np.zeros((*rows.shape[:2], LANES), np.float32)
        for i in range(0, padded.shape[2], LANES):
            lanes += terms[:, :, i:i + LANES]
        while lanes.shape[2] > 1:
            half = lanes.shape[2] // 2
            lanes = lanes[:, :, :half] + lanes[:, :, half:]
        result.append(np.where(np.isfinite(rows).all(axis=2), lanes[:, :, 0], INFINITY))
    return result


def median(values):
    return np.sort(values, axis=0)[(len(values) - 1) // 2]


def smallest(values, n):
    """Marks the n smallest of each head; of equal rows the first; none that is infinite."""
    marked = np.zeros(values.shape, bool)
    np.put_along_axis(marked, np.argsort(values, axis=0, kind="stable")[:n], True, axis=0)
    return marked & (values < INFINITY)


def choose(keys, squares, values, at_start, setting):
    """Outlier rule 0 for a chunk."""
    if at_start:
        return smallest(keys, setting.start)
    products = keys * values
    likely = products < np.float32(setting.product) * median(products)
    likely &= squares >= np.float32(setting.square) * median(squares)
    return smallest(np.where(likely, products, INFINITY), setting.cap)


def to_f16(x):
    return np.clip(x, -65504, 65504).astype(np.float16)


def quantize_group(x, exact, axis, bits, share):
    """Quantizes groups along an axis and decodes them again."""
    original, x, exact = x, x.astype(np.float32), exact[:, :, None]
    share, levels = np.float32(share), np.float32(2**bits - 1)
    low = np.where(exact, INFINITY, x).min(axis=axis, keepdims=True)
    high = np.where(exact, -INFINITY, x).max(axis=axis, keepdims=True)
    empty = low > high
    low, span = np.where(empty, 0, low), np.where(empty, 0, high - low)
    minimum = to_f16(low + span * ((1 - share) * np.float32(0.5))).astype(np.float32) + 0  # never -0
    scale = to_f16(span * share / levels).astype(np.float32)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    codes = np.clip(np.rint((x - minimum) * inverse), 0, levels)
    return np.where(exact, original, to_f16(codes * scale + minimum))


def quantize_chunk(k, v, exact_k, exact_v, setting):
    """Quantizes a chunk in place."""
    for i in range(0, len(k), setting.group):
        part = slice(i, i + setting.group)
        k[part] = quantize_group(k[part], exact_k[part], 0, setting.bits, setting.k)
    for i in range(0, v.shape[2], setting.group):
        part = np.s_[:, :, i:i + setting.group]
        v[part] = quantize_group(v[part], exact_v, 2, setting.bits, setting.v)


def quantize_layer(k, v, positions, setting):
    """Quantizes a layer's planes, with rows in the order of positions, in place. Returns how many rows are exact
    in both, and all stored bits."""
    keys, squares = magnitudes(k)
    values, _ = magnitudes(v)
    starts = [0, *(np.flatnonzero(np.diff(positions // CHUNK)) + 1), len(k)]
    chunks = [slice(first, last) for first, last in zip(starts, starts[1:])]
    if setting.count >= 0:
        chosen = smallest(keys, setting.count)
    else:
        chosen = np.concatenate([choose(keys[c], squares[c], values[c], positions[c.start] == 0, setting) for c in chunks])
    exact_k = chosen | np.isinf(keys)
    exact_v = exact_k | np.isinf(values)
    for c in chunks:
        quantize_chunk(k[c], v[c], exact_k[c], exact_v[c], setting)
    rows, heads, head_dim = k.shape
    n_exact = int(exact_k.sum() + exact_v.sum())
    n_groups = sum(-(-(c.stop - c.start) // setting.group) for c in chunks) * head_dim + rows * -(-head_dim // setting.group)
    bits = 2 * rows * heads * head_dim * setting.bits + n_groups * heads * 2 * 16
    bits += n_exact * (head_dim + 1) * 16 + 2 * len(chunks) * heads * 16  # rows with their numbers, counts
    return n_exact, bits


def quantize_state(state, heads, setting):
    """Quantizes a sequence file, a bytearray, in place. Returns exact rows of a plane and head, and bits per value."""
    exact = bits = planes = elements = 0
    for positions, layers in sections(state):
        order = np.argsort(positions, kind="stable")
        for planes_kv in layers:
            k, v = (plane[order].reshape(len(plane), heads, -1) for plane in planes_kv)
            n_exact, layer_bits = quantize_layer(k, v, positions[order], setting)
            for plane, rows in zip(planes_kv, (k, v)):
                plane[order] = rows.reshape(plane.shape)
            exact, bits = exact + n_exact, bits + layer_bits
            planes, elements = planes + 2 * heads, elements + k.size + v.size
    return exact / planes, bits / elements


# ---- The loss

def measure_text(model, heads, text, n, settings, directory):
    """Yields (setting, exact rows, bits, loss)."""
    tokens = model.tokens_of(text)[:n + SCORED]
    if len(tokens) < n + SCORED:
        print(f"only {len(tokens)} tokens, left out", file=sys.stderr)
        return
    prefix, rest = tokens[:n], tokens[n:]
    path = os.path.join(directory, "state.bin")
    with Context(model, n + SCORED + 8) as context:
        context.feed(prefix, 0, False)
        context.save(path, prefix)
        reference = context.feed(rest, n, True)
    with open(path, "rb") as file:
        original = file.read()
    for setting in settings:
        state = bytearray(original)
        rows, bits = quantize_state(state, heads, setting)
        with open(path, "wb") as file:
            file.write(state)
        with Context(model, n + SCORED + 8) as context:
            context.load(path, prefix)
            yield setting, rows, bits, loss(reference, context.feed(rest, n, True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", type=setting, metavar="SETTING")
    parser.add_argument("--model", required=True, choices=["smollm2", "gemma3"])
    parser.add_argument("--texts", nargs="+", default=[], help="files; default: those of measure.py")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--one-head", action="store_true", help="as if the KV heads of the model were not known")
    parser.add_argument("--cache", default="build/quality", help="where F32 models are kept")
    arguments = parser.parse_args()
    measure.start_engine(arguments.cache)
    model = Model(f32_model(arguments.model, arguments.cache))
    heads = 1 if arguments.one_head else llama.llama_model_n_head_kv(model.model)
    with tempfile.TemporaryDirectory() as directory:
        for name, text in measure.read_texts(arguments.texts):
            for tried, rows, bits, lost in measure_text(model, heads, text, arguments.tokens, arguments.settings, directory):
                print(f"{arguments.model} {name} {tried.text} | rows {rows:.2f} | bits {bits:.3f} | KLD {lost['kld']} | "
                      f"top-1 {lost['top1']}", flush=True)


if __name__ == "__main__":
    main()
