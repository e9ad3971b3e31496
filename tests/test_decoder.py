#!/usr/bin/env python3
"""Compares decoder.py, which knows the document only, with the command.

    test_decoder.py KVOT_BINARY FILE...

Each FILE is an engine's cache file, or a directory of such (ending in .bin); one that ends in .gguf is the model of those after it, so that rows have heads.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import decoder

SETTINGS = [
    ("lossless", ["--codec", "lossless"]),
    ("ott 2 bits G=128 outliers 3", ["--bits", "2", "--group", "128", "--outliers", "3"]),
    ("ott 3 bits G=32 outliers 0", ["--bits", "3", "--group", "32", "--outliers", "0"]),
    ("ott 4 bits", ["--bits", "4"]),
    ("ott 8 bits G=64", ["--bits", "8", "--group", "64"]),
]


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise RuntimeError(f"{command[1]} gave {result.returncode}: {result.stderr.strip()}")


def difference(a, b):
    """Where two byte strings differ, or None."""
    if a == b:
        return None
    at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return f"differs at byte {at} (lengths {len(a)} and {len(b)})"


def test(kvot, name, options, folder):
    """What is wrong, or None."""
    small, restored = folder / "test.kvot", folder / "restored"
    try:
        run(kvot, "compress", "-q", "-f", *options, "-o", small, name)
        run(kvot, "restore", "-q", "-f", "-o", restored, small)
        decoded, _, _ = decoder.decode(small.read_bytes(), strict=True)
    except Exception as error:  # whatever it is, the other files are tested too
        return f"{type(error).__name__}: {error}"
    wrong = difference(restored.read_bytes(), decoded)
    if wrong is None and "lossless" in options:
        wrong = difference(Path(name).read_bytes(), decoded)
        return wrong and "against the source: " + wrong
    return wrong


def expand(names):
    for name in names:
        yield from sorted(map(str, Path(name).glob("*.bin"))) if Path(name).is_dir() else [name]


def main(kvot, *names):
    passed = failed = 0
    model = []
    with tempfile.TemporaryDirectory() as folder:
        for name in expand(names):
            if name.endswith(".gguf"):
                model = ["--model", name]
                continue
            good = 0
            for setting, options in SETTINGS:
                wrong = test(kvot, name, options + model, Path(folder))
                if wrong is None:
                    good += 1
                else:
                    failed += 1
                    print(f"FAILED {name}, {setting}: {wrong}")
            passed += good
            print(f"{name}: {good} of {len(SETTINGS)} settings", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
