#!/usr/bin/env python3
"""Whole files at every level of the CPU, on a CUDA device, and by another build: the same bytes, compressed and restored.

    levels.py KVOT DATA [cuda | COMMAND...]

All levels that this processor has are compared with scalar C; with `cuda`, device cuda:0 with the CPU, on a GPU or on
an interpreter of its code; else KVOT with COMMAND, which runs a kvot for another processor. Exits with 77 where there
is nothing to compare.
"""
import filecmp
import os
import pathlib
import subprocess
import sys
import tempfile

SETTINGS = [[], ["--bits", "2", "--group", "128"], ["--bits", "3", "--outliers", "3"], ["--bits", "8", "--group", "32"]]


def run(command, arguments, level=None):
    environment = dict(os.environ)
    if level:
        environment["KVOT_CPU"] = level
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True)


def must(done):
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, done.args))}: exit code {done.returncode}: {done.stderr}")


def compare(source, setting, ways, folder):
    """Compresses and restores `source` in each way; returns how many files were compared with those of the first."""
    first = None
    for name, command, options, level in ways:
        made = [folder / f"{name}.kvot", folder / f"{name}.bin"]
        must(run(command, ["compress", "-q", "-f", *options, *setting, source, "-o", made[0]], level))
        must(run(command, ["restore", "-q", "-f", *options, made[0], "-o", made[1]], level))
        for mine, other in zip(made, first or made):
            if not filecmp.cmp(mine, other, shallow=False):
                sys.exit(f"{source} {' '.join(setting)}: {mine.name} is not {other.name}")
        first = first or made
    return 2 * (len(ways) - 1)


def main():
    kvot, data, other = [sys.argv[1]], pathlib.Path(sys.argv[2]), sys.argv[3:]
    files = sorted(data.glob("*.bin"))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        if other == ["cuda"]:
            probe = run(kvot, ["compress", "-q", "--device", "cuda:0", files[0], "-o", folder / "probe.kvot"])
            if probe.returncode == 4 and "KVOT_CUDA_EXPECTED" not in os.environ and any(text in probe.stderr for text in ["no CUDA", "CUDA_ERROR_NO_DEVICE"]):
                print(f"skipped: {probe.stderr.strip()}")
                sys.exit(77)
            must(probe)
            ways = [("cpu", kvot, ["--device", "cpu"], None), ("cuda", kvot, ["--device", "cuda:0"], None)]
            files = files[::4]  # an interpreter is slow; tests of the kernels are elsewhere
        elif other:
            ways = [("here", kvot, [], None), ("there", other, [], None)]
            files = files[::4]
        else:
            levels = ["scalar"]
            for level in ["neon", "avx2", "avx512"]:
                done = run(kvot, ["compress", "-q", "-f", files[0], "-o", folder / "probe.kvot"], level)
                if done.returncode == 0:
                    levels.append(level)
                elif done.returncode != 4:
                    must(done)
            if len(levels) == 1:
                print("skipped: this processor has no level but scalar")
                sys.exit(77)
            ways = [(level, kvot, [], level) for level in levels]
        compared = sum(compare(source, setting, ways, folder) for source in files for setting in SETTINGS)
    print(f"{', '.join(name for name, *_ in ways)}: {compared} files compared, all the same")


main()
