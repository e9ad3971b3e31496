"""Runs kvot where the kernel refuses it something: io_uring, O_DIRECT, locked memory, descriptors. The files are the same.

Usage: python refused.py KVOT_BINARY NO_URING DATA_DIR

NO_URING is no_uring.c as a program.
"""

import ctypes
import errno
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

from place import longer_file  # also finds tests/cli

from bench import has_direct
from expect import expect, report

NO_FILTER = 125
# Calls and the error they fail with; RLIMIT_MEMLOCK.
REFUSED = [(calls, error, None) for calls in ("setup", "enter", "register", "setup,enter,register")
           for error in (errno.EPERM, errno.ENOSYS)]
REFUSED += [("none", 0, None), ("none", 0, 0)]
COMMANDS = ("compress -q in -o out", "compress -q - -o - < in", "restore -q kvot -o out", "restore -q - -o - < kvot",
            "verify -q kvot --against in")


def run(line, directory, before=(), limits=(), **environment):
    """Runs a command line. Returns its exit code, the output's bytes, and what it says."""
    words, _, source = line.partition(" < ")
    content = (directory / source).read_bytes() if source else b""

    def limit():
        for what, value in limits:
            resource.setrlimit(what, (value, value))

    done = subprocess.run([*before, binary, *words.split()], input=content, capture_output=True, cwd=directory,
                          preexec_fn=limit, env=os.environ | environment, timeout=60)
    out = directory / "out"
    output = out.read_bytes() if out.exists() else done.stdout
    out.unlink(missing_ok=True)
    return done.returncode, output, done.stderr


def io_uring(directory, results):
    for calls, error, memlock in REFUSED:
        limits = [] if memlock is None else [(resource.RLIMIT_MEMLOCK, memlock)]
        for line, output in results.items():
            ran = run(line, directory, (no_uring, calls, str(error)), limits)
            expect(ran == (0, output, b""), f"{calls} refused with {error}, memlock {memlock}, {line}: {ran[0]}, {ran[2]}")


def in_memory(directory):
    return subprocess.run(["stat", "-fc", "%T", directory], capture_output=True, check=True).stdout == b"tmpfs\n"


def reader(directory):
    """What inspect says of who would read."""
    for calls, error, memlock in REFUSED:
        if memlock is None:  # which old kernels count rings among
            there = rings and has_direct(directory) and not in_memory(directory) and not {"setup", "enter"} & set(calls.split(","))
            for name in "kvot", "in":
                said = json.loads(run(f"inspect --json {name}", directory, (no_uring, calls, str(error)))[1])["reader"]
                good = "io_uring" if there and name == "kvot" else "pread"
                expect(said == good, f"{calls} refused with {error}: {name} would be read by {said}, not {good}")
                text = run(f"inspect {name}", directory, (no_uring, calls, str(error)))[1].decode()
                expect((f"\nreader        {good}" in text) == (name == "kvot"), f"{calls} refused with {error}: {text}")


def descriptors(directory, results):
    """With few descriptors it works, or says that it does not, and leaves nothing."""
    enough = 16
    for n in range(3, enough + 1):
        for line, output in results.items():
            ran = run(line, directory, limits=[(resource.RLIMIT_NOFILE, n)])
            fails = ran[0] == 1 and ran[1] == b"" and ran[2].startswith(b"kvot: ") and ran[2].count(b"\n") == 1
            # With three, not even the libraries can be loaded.
            expect(n == 3 or ran == (0, output, b"") or (n < enough and fails), f"{n} descriptors, {line}: {ran[0]}, {ran[2]}")
            left = set(os.listdir(directory)) - {"in", "kvot"}
            expect(not left, f"{n} descriptors, {line}: leaves {left}")


def temporary_place(directory, results):
    """Only what comes from a pipe or goes to one needs $TMPDIR."""
    for line, output in results.items():
        ran = run(line, directory, TMPDIR="/nonexistent")
        pipes = "-o -" in line or "<" in line
        good = ran[0] == 1 and b"TMPDIR" in ran[2] and ran[1] == b"" if pipes else ran == (0, output, b"")
        expect(good, f"no $TMPDIR, {line}: {ran[0]}, {ran[2]}")


def everything(directory, content):
    (directory / "in").write_bytes(content)
    (directory / "kvot").write_bytes(run("compress -q in -o out", directory)[1])
    results = {line: run(line, directory)[1] for line in COMMANDS}
    if filters:
        io_uring(directory, results)
        reader(directory)
    descriptors(directory, results)
    temporary_place(directory, results)


def has_rings():
    """Whether the kernel gives a ring to a program that nobody forbids it."""
    calls = ctypes.CDLL(None)
    ring = calls.syscall(425, 1, ctypes.create_string_buffer(120))
    if ring >= 0:
        os.close(ring)
    return ring >= 0


def can_filter():
    """Whether a filter can be set, and does what it should: else nothing that passes here would say anything."""
    probe = "import ctypes; ctypes.CDLL(None, use_errno=True).syscall(425, 1, None) < 0 and exit(ctypes.get_errno())"
    command = [no_uring, "setup", str(errno.ENOTTY), sys.executable, "-c", probe]
    code = subprocess.run(command, capture_output=True).returncode
    expect(code in (errno.ENOTTY, NO_FILTER), f"the filter does not work: {code}")
    return code == errno.ENOTTY


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    binary, no_uring, data_dir = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), pathlib.Path(sys.argv[3])
    filters, rings = can_filter(), has_rings()
    if not filters:
        print("system calls cannot be filtered here: io_uring is not refused")
    for place in (None, "/dev/shm"):  # a disk, if $TMPDIR is on one, and tmpfs, which has no O_DIRECT
        if place and not os.access(place, os.W_OK):
            print(f"{place} cannot be written: not tested there")
            continue
        for content in ((data_dir / "slot-lfm2.bin").read_bytes(), longer_file(data_dir, 8, 1000)):
            with tempfile.TemporaryDirectory(dir=place) as name:
                everything(pathlib.Path(name), content)
    sys.exit(report())
