"""A place where kvot runs and something happens to it (shim.c), for the tests beside this file."""

import collections
import os
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "cli"))
from sequence import Sequence

TIMEOUT = 60
TEMPORARY = re.compile(r"\.out\.kvot-[a-z0-5]{6}")

# Exit code (None: it had to be stopped), standard output and error, calls that were hit, and how long it took.
Ran = collections.namedtuple("Ran", "code out err hits seconds")


class Place:
    """A directory with some files, where kvot runs. `cold`: they are not in the page cache."""

    binary = shim = None  # paths

    def __init__(self, name, files, cold=False):
        self.path = pathlib.Path(name)
        self.files = files
        self.marks = {}
        self.cold = cold
        self.log = self.path.parent / (self.path.name + ".log")
        (self.path / "tmp").mkdir(parents=True)
        for name, content in files.items():
            self.add(name, content)

    def add(self, name, content):
        self.files[name] = content
        with open(self.path / name, "wb") as file:
            file.write(content)
            file.flush()
            if self.cold:
                os.fsync(file.fileno())
        self.marks[name] = self.mark(name)

    def forget(self):
        """Takes all files out of the page cache."""
        for name in self.files:
            with open(self.path / name, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def run(self, line, fault=None, at=0, on=False, threads=1, delay=None, log=False):
        """Runs a command line, with a fault at a call, or kills it after a delay."""
        words, _, source = line.partition(" < ")
        words = words.split()
        if words[0] in ("compress", "restore", "verify"):
            words.append(f"-T{threads}")
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(self.path / "tmp")}
        if fault or log:
            environment |= {"LD_PRELOAD": self.shim, "KVOT_FAULT_DIR": str(self.path), "KVOT_FAULT_LOG": str(self.log)}
            environment |= {"KVOT_FAULT": str(fault or 0), "KVOT_FAULT_AT": str(at)} | ({"KVOT_FAULT_ON": "1"} if on else {})
        self.log.unlink(missing_ok=True)
        if self.cold:
            self.forget()
        start = time.monotonic()
        with subprocess.Popen([self.binary, *words], cwd=self.path, env=environment, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            if delay is not None:
                time.sleep(delay)
                process.kill()
            try:
                out, err = process.communicate(self.files[source] if source else b"", timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                return Ran(None, out, err, [], 0)
        hits = [line.split(" ", 2) for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return Ran(process.returncode, out, err, hits, time.monotonic() - start)

    def set(self, content):
        """Puts the output back to what it was before."""
        out = self.path / "out"
        if self.output() != content:
            out.unlink(missing_ok=True)
            if content is not None:
                out.write_bytes(content)

    def output(self):
        try:
            return (self.path / "out").read_bytes()
        except FileNotFoundError:
            return None

    def leftovers(self):
        return [name for name in os.listdir(self.path) if TEMPORARY.fullmatch(name)]

    def strange(self):
        """What should not be there, or not so."""
        found = set(os.listdir(self.path)) - set(self.leftovers()) - {"out", "tmp"}
        wrong = [name for name in found | set(self.files) if self.marks.get(name) != self.mark(name)]
        return wrong + [f"tmp/{name}" for name in os.listdir(self.path / "tmp")]

    def mark(self, name):
        """What a file cannot be changed without changing; None where there is none."""
        try:
            about = os.lstat(self.path / name)
        except FileNotFoundError:
            return None
        return about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns


def longer_file(data_dir, wider, n_cells):
    """llama-v3-seq.bin, with rows some times as wide, and repeated until there are so many."""
    sequence = Sequence((data_dir / "llama-v3-seq.bin").read_bytes())
    sequence.widen(wider)
    sequence.repeat(n_cells)
    return sequence.pack()
