"""Shows that the memory compress and restore take does not grow with the file.

Usage: python memory.py KVOT_BINARY DATA_DIR

Makes two sequence files of the same geometry, one eight times as long as the other, and compares the peaks.
"""

import ctypes
import os
import pathlib
import subprocess
import sys
import tempfile

from sequence import Sequence

SMALL, LARGE = 80 << 20, 640 << 20  # both with more extents than are read ahead
SLACK = 4 << 20  # what the allocator may do one way or the other
TOKEN = 128  # bytes of tables for each cell more


def make(path, source, size):
    """Writes a file of about `size` bytes of `source`'s rows, and returns its number of cells."""
    sequence = Sequence(source)
    # Rows as long as those of models in use; else the tables of cells would be a large share of the file.
    sequence.widen(32)
    n_cells = size // sequence.cell_bytes()
    sequence.repeat(n_cells)
    with open(path, "wb") as file:
        file.writelines(sequence.parts())
    return n_cells


def adopt():
    """Makes this process the parent of processes whose parent ended."""
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("cannot adopt processes")


def run_apart(command, source="/dev/null", target="/dev/null"):
    """Runs a command, and returns what it used. For a peak of memory that is its own: adopt() first."""
    # What starts a process passes its own peak on to it, and this program's would hide that of kvot. So a shell, which
    # is small, starts kvot and leaves it to us.
    script = 'from=$1 to=$2; shift 2; "$@" <"$from" >"$to" & echo $!'
    shell = subprocess.run(["sh", "-c", script, "sh", source, target, *command], stdout=subprocess.PIPE, text=True)
    _, status, used = os.wait4(int(shell.stdout), 0)
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit code {os.waitstatus_to_exitcode(status)}")
    return used


def peak(arguments, source="/dev/null", target="/dev/null"):
    """Bytes that kvot has in memory at the most."""
    return run_apart([binary, *arguments, "-q", "-T2"], source, target).ru_maxrss << 10


def measure(directory, file, options):
    """Peaks of the four ways to run."""
    small, back = directory / "small.kvot", directory / "back"
    peaks = {"compress": peak(["compress", "-f", *options, file, "-o", small])}
    peaks["restore"] = peak(["restore", "-f", small, "-o", back])
    if "lossless" in options and subprocess.run(["cmp", file, back]).returncode != 0:
        sys.exit("other bytes come back")
    peaks["compress, pipes"] = peak(["compress", *options, "-"], file, small)
    peaks["restore, pipes"] = peak(["restore", "-"], small, back)
    return peaks


def main():
    adopt()
    source = (data_dir / "llama-v3-seq.bin").read_bytes()
    failed = 0
    # Files without a name, which pipes are copied to, shall lie on the same disk.
    with tempfile.TemporaryDirectory() as name:
        os.environ["TMPDIR"] = name
        directory = pathlib.Path(name)
        cells = [make(directory / f"{size}", source, size) for size in (SMALL, LARGE)]
        allowed = SLACK + TOKEN * (cells[1] - cells[0])
        for options in (["--codec", "lossless"], ["--codec", "ott"], ["--codec", "ott", "--outliers", "16"]):
            before, after = (measure(directory, directory / f"{size}", options) for size in (SMALL, LARGE))
            for what in before:
                grown = after[what] - before[what]
                good = grown < allowed
                failed += not good
                print(
                    f"{what}, {' '.join(options[1:])}: {before[what] >> 10} KiB for {SMALL >> 20} MiB, "
                    f"{after[what] >> 10} KiB for {LARGE >> 20} MiB{'' if good else ': too much'}"
                )
        print(f"{cells[0]} and {cells[1]} cells, {allowed >> 10} KiB more allowed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    binary, data_dir = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
    sys.exit(main())
