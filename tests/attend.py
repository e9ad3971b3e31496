#!/usr/bin/env python3
"""attend.py KVOT ATTEND DATA: samples/attend on real caches. Scores on packed codes are those on restored keys, but for
the rounding of these to f16; it says so where there are no such keys."""
import json
import os
import re
import subprocess
import sys
import tempfile

FILES = ["slot-gemma3.bin", "slot-lfm2.bin", "granite_swa-wrap-v4-seq.bin", "llama-one-v3-seq.bin"]


def run(*command):
    return subprocess.run(command, capture_output=True, text=True)


def check(condition, what):
    if not condition:
        raise SystemExit(what)


def main():
    kvot, attend, data = sys.argv[1:]
    scores = 0
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out.kvot")
        for name in FILES:
            source = os.path.join(data, name)
            result = run(kvot, "compress", "-f", source, "-o", out)
            check(result.returncode == 0, result.stderr)
            info = json.loads(run(kvot, "inspect", "--json", out).stdout)
            for layer in sorted({p["layer"] for p in info["planes"] if p["kind"] == "K" and p["codec"] == "ott"}):
                result = run(attend, out, str(layer), "0")
                check(result.returncode == 0, f"{name}, layer {layer}: {result.stderr}")
                rows = int(re.search(r"(\d+) tokens", result.stdout)[1])
                in_scores, in_weights = map(float, re.search(r"(\S+) in scores, (\S+) in weights", result.stdout).groups())
                check(rows in {p["rows"] for p in info["planes"]}, f"{name}: {rows} tokens")
                check(in_scores < 1e-4 and in_weights < 1e-5, f"{name}, layer {layer}: {result.stdout}")
                scores += rows
        result = run(attend, out, "0", "1000")
        check(result.returncode == 1 and "head 1000" in result.stderr, f"head 1000: {result.stderr}")
        run(kvot, "compress", "-f", "--bits", "8", source, "-o", out)
        result = run(attend, out)
        check(result.returncode == 1 and "no keys of 4 bits" in result.stderr, f"8 bits: {result.stderr}")
    check(scores > 300, f"only {scores} scores")
    print(f"{scores} scores")


main()
