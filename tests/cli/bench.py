"""Runs kvot bench on small real caches: what it prints is complete and adds up, and it leaves nothing behind.

Usage: python bench.py KVOT_BINARY NO_URING DATA_DIR

NO_URING is ../faults/no_uring.c as a program. How fast anything is does not matter here."""

import errno
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

from expect import expect, report
from sequence import Sequence

NO_FILTER = 125
SECONDS = {"buffered", "direct", "zstd", "restore", "first_layer"}
STAGES = {"seconds", "waiting", "copying", "working", "disk_idle", "disk_starved", "direct_bytes", "copied_bytes", "threads",
          "reader"}
PASS = {"seconds", "disk_limit_seconds", "decode_limit_seconds", "limit_seconds", "share_of_limit", "stages"}
TOP = {"file", "original_bytes", "stored_bytes", "zstd_bytes", "decoded_bytes", "tokens", "layers", "start_seconds",
       "start_tokens", "tokens_per_second", "cold", "warm"}
BREAK_EVEN = {"prefill_tokens_per_second", "break_even_tokens"}


def run(directory, *words, before=(), source=None):
    return subprocess.run([*before, binary, *words], cwd=directory, capture_output=True, timeout=120, input=source)


def close(a, b):
    return math.isclose(a, b, rel_tol=1e-6)


def check_pass(result, name, info, refused, what):
    one, what = result[name], f"{what}, {name}"
    expect(set(one) == PASS and set(one["seconds"]) == SECONDS and set(one["stages"]) == STAGES, f"{what}: keys {one}")
    seconds, stages = one["seconds"], one["stages"]
    numbers = [seconds[key] for key in SECONDS - {"direct"}] + [one[key] for key in PASS - {"seconds", "stages"}]
    expect(all(number > 0 for number in numbers) and stages["seconds"] > 0 and stages["threads"] > 0, f"{what}: {one}")
    expect(all(stages[key] >= 0 for key in STAGES - {"reader"}), f"{what}: stages {stages}")
    expect(seconds["direct"] is None if refused else seconds["direct"] > 0, f"{what}: direct {seconds['direct']}")
    expect(seconds["first_layer"] <= seconds["restore"], f"{what}: the first layer after all: {seconds}")
    expect(one["limit_seconds"] == max(one["disk_limit_seconds"], one["decode_limit_seconds"]), f"{what}: limit {one}")
    if name == "warm" or refused:  # else the .kvot file itself was read
        part = result["stored_bytes"] / result["original_bytes"]
        expect(close(one["disk_limit_seconds"], seconds["buffered"] * part), f"{what}: disk limit {one}")
    # Streams, and what lies between them: padding, the rest of blocks.
    read = stages["direct_bytes"] + stages["copied_bytes"]
    expect(sum(p["stored_bytes"] for p in info["planes"]) <= read <= result["stored_bytes"] + 4096, f"{what}: read {read}")
    expect(stages["reader"] == ("io_uring" if stages["direct_bytes"] else "pread"), f"{what}: reader {stages}")
    expect(stages["reader"] in (info["reader"], "pread"), f"{what}: inspect says {info['reader']}, not {stages}")
    expect(not refused or stages["direct_bytes"] == 0, f"{what}: reads with what is refused: {stages}")


def check_json(ran, info, prefill, refused, what):
    expect(ran.returncode == 0 and ran.stderr == b"", f"{what}: {ran.returncode}, {ran.stderr}")
    if ran.returncode != 0:
        return
    result = json.loads(ran.stdout)
    expect(set(result) == TOP | (BREAK_EVEN if prefill else set()), f"{what}: keys {set(result)}")
    for name in "cold", "warm":
        check_pass(result, name, info, refused, what)
    for key in "original_bytes", "stored_bytes", "layers":
        expect(result[key] == info[key], f"{what}: {key} {result[key]}, not {info[key]}")
    expect(result["decoded_bytes"] == sum(p["rows"] * p["row_bytes"] for p in info["planes"]), f"{what}: decoded bytes")
    expect(result["tokens"] == max(p["rows"] for p in info["planes"]), f"{what}: tokens {result['tokens']}")
    expect(0 < result["start_tokens"] <= min(256, result["tokens"]), f"{what}: start tokens {result['start_tokens']}")
    expect(0 < result["zstd_bytes"] < result["original_bytes"] + 1000 and result["start_seconds"] > 0, f"{what}: {result}")
    rate = result["tokens"] / result["cold"]["seconds"]["restore"]
    expect(close(result["tokens_per_second"], rate), f"{what}: tokens a second")
    if prefill:
        expect(result["prefill_tokens_per_second"] == prefill, f"{what}: prefill")
        expect(result["break_even_tokens"] is None or result["break_even_tokens"] >= 1, f"{what}: break even {result}")


def check_text(ran, prefill, refused, what):
    text = ran.stdout.decode()
    expect(ran.returncode == 0, f"{what}: {ran.returncode}, {ran.stderr}")
    words = ["original, read", "zstd -d", "restored into memory", "first layer", "\ncold: ", "\nwarm: ", "  limit "]
    words += ["tokens a second restored"] + (["of prefill"] if prefill else []) + (["refused"] if refused else [])
    expect(all(word in text for word in words), f"{what}: {text}")
    expect(("refused" in text) == refused and ("as reading the original with O_DIRECT" in text) != refused, f"{what}: {text}")


def everything(directory, place, before=(), refused=False):
    """All ways to call it. `refused`: there is no O_DIRECT, or no io_uring."""
    info = json.loads(run(directory, "inspect", "--json", "kvot", before=before).stdout)
    there = set(os.listdir(directory))
    for original in ([], ["--original", "in"]):
        for prefill in (None, 5000.0, 1e9):
            words = ["bench", "kvot", "-q", *original] + (["--prefill", str(prefill)] if prefill else [])
            what = f"{place}: {' '.join(words)}"
            check_json(run(directory, *words, "--json", before=before), info, prefill, refused, what)
            check_text(run(directory, *words, before=before), prefill, refused, what)
    expect(set(os.listdir(directory)) == there, f"{place}: leaves {set(os.listdir(directory)) - there}")


def refuse(directory, code, say, *words, source=None):
    there = set(os.listdir(directory))
    ran = run(directory, "bench", "-q", *words, source=source)
    good = ran.returncode == code and ran.stdout == b"" and say in ran.stderr.decode() and ran.stderr.count(b"\n") <= 2
    expect(good, f"{' '.join(words)}: {ran.returncode}, {ran.stderr}")
    expect(set(os.listdir(directory)) == there, f"{' '.join(words)}: leaves {set(os.listdir(directory)) - there}")


def wrong(directory, data_dir):
    packed = (directory / "kvot").read_bytes()
    (directory / "longer").write_bytes((directory / "in").read_bytes() + bytes(4))
    damaged = bytearray(packed)
    damaged[len(packed) // 2] ^= 1
    (directory / "damaged").write_bytes(damaged)
    (directory / "cut").write_bytes(packed[:-1])
    (directory / "nothing").write_bytes(b"")
    run(directory, "compress", "-q", data_dir / "llama-empty-v11-ses.bin", "-o", "empty")
    refuse(directory, 1, "not the original", "kvot", "--original", "longer")
    refuse(directory, 1, "nowhere", "kvot", "--original", "nowhere")
    refuse(directory, 1, "nowhere", "nowhere")
    refuse(directory, 2, "no cells", "empty")
    refuse(directory, 3, "not a .kvot file", "in")
    refuse(directory, 3, "nothing", "nothing")
    refuse(directory, 3, "damaged", "damaged")
    refuse(directory, 3, "damaged", "damaged", "--original", "in")
    refuse(directory, 3, "cut", "cut")
    refuse(directory, 3, "standard input", "-", source=b"")
    refuse(directory, 4, "cuda:99", "kvot", "--device", "cuda:99")
    refuse(directory, 2, "tokens a second", "kvot", "--prefill", "0")
    ran = run(directory, "bench", "-q", "--json", "-", source=packed)
    expect(ran.returncode == 0 and json.loads(ran.stdout)["stored_bytes"] == len(packed), f"from a pipe: {ran.stderr}")


def make(directory, content):
    (directory / "in").write_bytes(content)
    expect(run(directory, "compress", "-q", "in", "-o", "kvot").returncode == 0, "compress")


def has_direct(directory):
    """Whether files there can be read with O_DIRECT: on tmpfs since Linux 6.6."""
    try:
        os.close(os.open(directory / "in", os.O_RDONLY | os.O_DIRECT))
        return True
    except OSError as error:
        return error.errno != errno.EINVAL


def main(data_dir):
    sequence = Sequence((data_dir / "llama-v3-seq.bin").read_bytes())
    sequence.repeat(600)
    refused = (no_uring, "setup", str(errno.EPERM))
    for content in ((data_dir / "slot-gemma3.bin").read_bytes(), b"".join(sequence.parts())):
        for place in (None, "/dev/shm"):  # a disk, if $TMPDIR is on one, and tmpfs
            if place and not os.access(place, os.W_OK):
                print(f"{place} cannot be written: not tested there")
                continue
            with tempfile.TemporaryDirectory(dir=place) as name:
                directory = pathlib.Path(name)
                make(directory, content)
                everything(directory, place or "disk", refused=not has_direct(directory))
                if place:
                    continue
                if subprocess.run([*refused, "true"]).returncode == NO_FILTER:
                    print("system calls cannot be filtered here: io_uring is not refused")
                else:
                    everything(directory, "without io_uring", refused, True)
                wrong(directory, data_dir)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    binary, no_uring = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    main(pathlib.Path(sys.argv[3]).resolve())
    sys.exit(report())
