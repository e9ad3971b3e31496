#!/usr/bin/env python3
"""roundtrip.py KVOT FILE...: every file comes back bit for bit from lossless, and verifies against itself from ott.

FILE may be a directory: all files in it that end in .bin. Prints each failure, then a count."""
import filecmp
import os
import subprocess
import sys
import tempfile

SETTINGS = [["--codec", "lossless"], ["--bits", "2", "--group", "32"], ["--bits", "3", "--group", "128", "--outliers", "0"],
            ["--bits", "4", "--outliers", "3"], ["--bits", "8"]]


def run(*arguments):
    """The error text of a command, or None if it went well."""
    result = subprocess.run(arguments, capture_output=True, text=True)
    return None if result.returncode == 0 else f"exit {result.returncode}: {result.stderr.strip()}"


def check(kvot, path, setting, directory):
    packed, restored = os.path.join(directory, "packed"), os.path.join(directory, "restored")
    wrong = (run(kvot, "compress", "-qf", *setting, path, "-o", packed) or run(kvot, "verify", "-q", packed, "--against", path)
             or run(kvot, "restore", "-qf", packed, "-o", restored))
    if wrong:
        return wrong
    if "lossless" in setting and not filecmp.cmp(path, restored, shallow=False):
        return "the restored file differs"
    # A restored file is one that the engine could have written: it has the same layers and cells.
    return run(kvot, "diff", "-q", path, restored) if "lossless" not in setting else None


def main():
    kvot, paths = sys.argv[1], []
    for name in sys.argv[2:]:
        paths += sorted(os.path.join(name, f) for f in os.listdir(name) if f.endswith(".bin")) if os.path.isdir(name) else [name]
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        for path in paths:
            for setting in SETTINGS:
                wrong = check(kvot, path, setting, directory)
                failed += wrong is not None
                if wrong:
                    print(f"{path} {' '.join(setting)}: {wrong}")
    print(f"{len(paths) * len(SETTINGS) - failed} passed, {failed} failed")
    return failed > 0 or not paths


sys.exit(main())
