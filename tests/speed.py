#!/usr/bin/env python3
"""How long kvot takes on a saved cache, beside zstd on the same file in the same run.

    speed.py KVOT FILE [PAIRS]

Whole commands in turn, files in the page cache and written durably by both (zstd's output is synced). Prints medians of
PAIRS (default 7) and the ratio of each pair's times.
"""
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time


def seconds(command, made=None):
    start = time.monotonic()
    subprocess.run(command, check=True)
    if made:
        with open(made, "rb") as file:
            os.fsync(file.fileno())
    return time.monotonic() - start


def main():
    kvot, source = sys.argv[1], sys.argv[2]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    size = os.path.getsize(source)
    processors = str(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory(dir=pathlib.Path(source).resolve().parent) as folder:
        small, back, zst, unzst = (os.path.join(folder, name) for name in ["a.kvot", "a.bin", "a.zst", "b.bin"])
        print("| what | threads | kvot, s | zstd, s | kvot / zstd |\n|---|---|---|---|---|")
        for threads in dict.fromkeys(["1", processors]):
            compress = [kvot, "compress", "-q", "-f", "-T", threads, source, "-o", small]
            restore = [kvot, "restore", "-q", "-f", "-T", threads, small, "-o", back]
            zstd = ["zstd", "-3", f"-T{threads}", "-q", "-f", source, "-o", zst]
            unzstd = ["zstd", "-d", "-q", "-f", zst, "-o", unzst]
            for what, mine, other, made in [("compress, 4 bits", compress, zstd, zst), ("restore", restore, unzstd, unzst)]:
                seconds(mine)
                seconds(other, made)
                times = [(seconds(mine), seconds(other, made)) for _ in range(pairs)]
                ours, theirs = (statistics.median(column) for column in zip(*times))
                ratio = statistics.median(a / b for a, b in times)
                print(f"| {what} | {threads} | {ours:.2f} | {theirs:.2f} | {ratio:.2f} |", flush=True)
        print(f"\n{size / 1e6:.0f} MB; kvot made {os.path.getsize(small) / 1e6:.0f} MB of it, "
              f"zstd {os.path.getsize(zst) / 1e6:.0f} MB")


main()
