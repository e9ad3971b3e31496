#!/usr/bin/env python3
"""How busy kvot batch keeps the processors, how fast it is beside the single command on one large file, what memory it takes.

    batch_speed.py KVOT LARGE FILE... [--files 10000] [--tokens 40] [--copies 3] [--memory 1G] [--pairs 3] [--directory DIR]

FILEs are caches of engines. Small ones are made of them: the first N tokens of each, for N up to --tokens, copied until
there are --files of them. LARGE is a cache of more than 1 GiB, and is copied --copies times. Batch and single commands
take turns; medians of --pairs. Files are in the page cache as far as they fit, and outputs are written durably below DIR
(default: where LARGE is). "processors" is CPU time over wall time and cores.
"""
import argparse
import collections
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent / "cli"))
import memory

Ran = collections.namedtuple("Ran", "seconds busy peak")
CORES = len(os.sched_getaffinity(0))


def measure(*arguments):
    """Runs kvot: wall time, share of the processors' time that it took, peak memory in bytes."""
    begun = time.monotonic()
    used = memory.run_apart([kvot, *arguments])
    seconds = time.monotonic() - begun
    return Ran(seconds, (used.ru_utime + used.ru_stime) / seconds / CORES, used.ru_maxrss << 10)


def make_small(sources, tokens, n, directory):
    """Writes `n` files, a hundred to a directory. Each is a copy of its own."""
    with tempfile.TemporaryDirectory(dir=directory) as place:
        cuts = []
        for s, source in enumerate(sources):
            packed = os.path.join(place, f"{s}.kvot")
            subprocess.run([kvot, "compress", "-q", "--codec", "lossless", source, "-o", packed], check=True)
            for length in range(1, tokens + 1):
                cut = os.path.join(place, f"{s}.{length}")
                command = [kvot, "restore", "-q", "--tokens", str(length), packed, "-o", cut]
                if subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0:
                    cuts.append(cut)
        if not cuts:
            sys.exit("no first tokens can be had of these files")
        for i in range(n):
            to = os.path.join(directory, "small", str(i // 100), f"{i}.bin")
            os.makedirs(os.path.dirname(to), exist_ok=True)
            with open(cuts[i % len(cuts)], "rb") as source, open(to, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)  # its own bytes, whatever the file system would share


def bytes_of(path):
    path = pathlib.Path(path)
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file() and ".kvot-batch" not in p.parts]
    return len(files), sum(p.stat().st_size for p in files)


def empty(trees):
    """Frees their space. The files stay: ext4 searches for inodes that were not deleted in the last minutes, which takes
    a third of a batch's time where thousands were."""
    for tree in trees:
        for path in pathlib.Path(tree).rglob("*"):
            if path.is_file():
                os.truncate(path, 0)
    os.sync()  # else the next command, which is measured, would find the disk busy with that


def row(what, n, size, runs, beside):
    seconds, busy, peak = (statistics.median(column) for column in zip(*runs))
    rate = size / seconds
    share = f"{rate / beside:.2f}" if beside else ""
    print(f"| {what} | {n} | {size / 1e6:.0f} | {seconds:.1f} | {rate / 1e6:.0f} | {share} | {busy:.2f} | "
          f"{max(ran.peak for ran in runs) >> 20} |", flush=True)
    return rate


def compare(directory, large, tree, what, arguments):
    """The single command on the large file and the batch in turns, there and back. Sizes are those of the caches."""
    bound = ["--memory", arguments.memory]
    one, one_back = os.path.join(directory, "one.kvot"), os.path.join(directory, "one.bin")
    n, size = bytes_of(tree)
    runs = collections.defaultdict(list)
    trees = []
    for turn in range(arguments.pairs + 1):
        empty(trees)
        out, back = (os.path.join(directory, f"{name} {turn}") for name in ("out", "back"))
        trees += [out, back]
        ran = [measure("compress", "-q", "-f", large, "-o", one), measure("batch", "compress", "-q", *bound, tree, "-o", out),
               measure("restore", "-q", "-f", one, "-o", one_back), measure("batch", "restore", "-q", *bound, out, "-o", back)]
        if turn > 0:  # the first one warms up
            for i, result in enumerate(ran):
                runs[i].append(result)
    if bytes_of(out)[0] != n or bytes_of(back) != (n, size):
        sys.exit("not all files were done")
    for i, command in ((0, "compress"), (2, "restore")):
        alone = row(f"{command}, one large file", 1, os.path.getsize(large), runs[i], None)
        row(f"batch {command}, {what}", n, size, runs[i + 1], alone)
    for path in trees:
        shutil.rmtree(path)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("kvot", type=os.path.abspath)
    parser.add_argument("large")
    parser.add_argument("sources", nargs="+")
    for name, value in (("files", 10000), ("tokens", 40), ("copies", 3), ("pairs", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--memory", default="1G")
    parser.add_argument("--directory")
    arguments = parser.parse_args()
    global kvot
    kvot = arguments.kvot
    memory.adopt()
    with tempfile.TemporaryDirectory(dir=arguments.directory or os.path.dirname(os.path.abspath(arguments.large))) as place:
        print(f"{CORES} cores, --memory {arguments.memory}, medians of {arguments.pairs}\n")
        print("| what | files | MB | s | MB/s | of one large | processors | peak, MiB |\n|---|---|---|---|---|---|---|---|")
        make_small(arguments.sources, arguments.tokens, arguments.files, place)
        compare(place, arguments.large, os.path.join(place, "small"), "small files", arguments)
        shutil.rmtree(os.path.join(place, "small"))
        os.mkdir(os.path.join(place, "large"))
        for i in range(arguments.copies):
            shutil.copyfile(arguments.large, os.path.join(place, "large", f"{i}.bin"))
        compare(place, arguments.large, os.path.join(place, "large"), "large files", arguments)


main()
