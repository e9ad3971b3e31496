"""Arrows between folders go one way: a file includes headers of its own folder and of those below it in this list, none of
those above. So whoever changes a folder has to look at what is above it, and at nothing else.

layers.py ROOT
"""
import os
import re
import sys

# From the bottom. cli/ and samples/ use lib/kvot.h only, which the build finds for them.
LAYERS = [
    ["kernels", "kernels/vector", "kernels/cuda", "format"],
    ["lib"],
    ["lib/device"],
    ["lib/run"],
    ["lib/io"],
    ["lib/codecs"],
    ["lib/cache"],
    ["lib/file"],
    ["lib/engines"],
    ["lib/calls"],
    ["lib/bench"],
    ["cli", "cli/batch", "samples"],
]
KNOW_NOTHING_OF_EACH_OTHER = [("kernels", "format"), ("cli", "lib"), ("samples", "lib"), ("samples", "cli")]

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def level(folder):
    return next(i for i, layer in enumerate(LAYERS) if folder in layer)


def top(folder):
    return folder.split("/")[0]


def main(root):
    checked, wrong = 0, []
    for start in ("kernels", "format", "lib", "cli", "samples"):
        for folder, _, names in os.walk(os.path.join(root, start)):
            for name in names:
                if not name.endswith((".c", ".h", ".cu", ".cuh")):
                    continue
                path = os.path.join(folder, name)
                here = os.path.relpath(folder, root)
                for included in INCLUDE.findall(open(path, encoding="utf-8").read()):
                    target = os.path.normpath(os.path.join(folder, included))
                    if not os.path.exists(target):
                        continue  # found by the build: kvot.h and headers of libraries
                    there = os.path.relpath(os.path.dirname(target), root)
                    checked += 1
                    apart = any({top(here), top(there)} == set(pair) for pair in KNOW_NOTHING_OF_EACH_OTHER)
                    if apart or level(there) > level(here):
                        wrong.append(f"{os.path.relpath(path, root)} includes {included}")
    for line in wrong:
        print(line)
    assert checked > 200, checked
    print(f"{checked} includes, {len(wrong)} of them upward")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
