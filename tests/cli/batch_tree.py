"""Trees of cache files, and runs of kvot batch on them, for the tests named batch*.py.

Paths are text with surrogate escapes, as os.fsdecode makes it, so that names may hold any bytes."""

import contextlib
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile

import bad_input
from bad_input import DONE, Group, run

JOURNALS = ".kvot-batch"
# All counters of a summary, but for bytes.
COUNTERS = ("files", "done", "done_before", "already", "unknown", "links", "special", "vanished", "failed")
SUMMARY = {"operation", "shard", "journal", "bytes_in", "bytes_out", "ratio", "seconds", "failures", *COUNTERS}


def set_up(binary, data_dir):
    bad_input.binary = os.path.abspath(binary)
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(data_dir).glob("*.bin"))}


def scratch():
    """A directory to work in: in memory if there is room, for thousands of files are made durable one by one."""
    memory = pathlib.Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30
    return tempfile.TemporaryDirectory(dir=memory if roomy else None)


def spread(files):
    """The same files over directories of several depths."""
    places = ("", "a/", "a/b/", "a/b/c/", "d/e/f/g/h/", "name with spaces/")
    return {places[i % len(places)] + name: data for i, (name, data) in enumerate(sorted(files.items()))}


def make_tree(path, files):
    """Writes files, each of them new, with times long past, so that no later change can have the same."""
    for name, data in files.items():
        at = os.path.join(path, name)
        os.makedirs(os.path.dirname(at), exist_ok=True)
        with open(at, "wb") as file:
            file.write(data)
        os.utime(at, (1e9, 1e9))


def read_tree(path):
    """Content by name of all files of a tree, but for journals; None for what is no file. Directories do not count."""
    found = {}
    for directory, directories, names in os.walk(path):
        if JOURNALS in directories:
            directories.remove(JOURNALS)
        for name in names + [d for d in directories if os.path.islink(os.path.join(directory, d))]:
            at = os.path.join(directory, name)
            good = stat.S_ISREG(os.lstat(at).st_mode)
            found[os.path.relpath(at, path)] = pathlib.Path(at).read_bytes() if good else None
    return found


def marks(path):
    """What a file cannot be written without changing, by name."""
    return {name: (lambda s: (s.st_ino, s.st_mtime_ns, s.st_ctime_ns))(os.lstat(os.path.join(path, name)))
            for name in read_tree(path)}


def differences(found, expected):
    """The names at which two trees differ, as a short text; empty if they are the same."""
    wrong = [f"no {name}" for name in expected.keys() - found.keys()]
    wrong += [f"there is {name}" for name in found.keys() - expected.keys()]
    wrong += [f"other {name}" for name in found.keys() & expected.keys() if found[name] != expected[name]]
    return f"{len(wrong)} differ: {sorted(wrong)[:4]!a}" if wrong else ""


class Batch:
    """What a run of kvot batch said."""

    def __init__(self, result):
        self.code, self.out, self.err = result.code, result.out, result.err
        try:
            self.said = json.loads(result.out)
        except ValueError:
            self.said = {}

    def counts(self):
        """The counters that are not 0."""
        return {name: self.said[name] for name in COUNTERS if self.said.get(name)}

    def failures(self):
        """Status by file."""
        return {failure["file"]: failure["status"] for failure in self.said.get("failures", ())}

    def __str__(self):
        return f"exit code {self.code}, {self.counts()}, {self.failures()!a}, {self.err.decode(errors='replace')!a}"


def words(operation, *arguments):
    return ["batch", operation, "--json", "-q", "-T2", *map(os.fsencode, arguments)]


def batch(operation, *arguments, **options):
    return Batch(run(*words(operation, *arguments), **({"timeout": 300} | options)))


def start(operation, *arguments, **options):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([bad_input.binary, *words(operation, *arguments)], **options)


def restricted():
    """How to run kvot as somebody to whom files can be locked; None where that cannot be had."""
    if os.geteuid() != 0:
        return {}
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        return nobody if run("--help", **nobody).code == DONE else None
    except PermissionError:  # the program is where nobody else can get at it
        return None


def finish(process):
    out, err = process.communicate(timeout=300)
    return Batch(bad_input.Result(process.returncode, out, err))


def status_of(directory):
    """What batch status says of its only operation."""
    result = run("batch", "status", "--json", directory)
    assert result.code == DONE, result
    operations = json.loads(result.out)["operations"]
    assert len(operations) == 1, operations
    return operations[0]


class Single:
    """What the single commands make of contents; each is asked once."""

    made = {}

    @classmethod
    def ask(cls, command, data, *options):
        key = (command, data, options)
        if key not in cls.made:
            with scratch() as place:
                source, target = os.path.join(place, "in"), os.path.join(place, "out")
                pathlib.Path(source).write_bytes(data)
                result = run(command, "-q", *options, source, "-o", target)
                cls.made[key] = pathlib.Path(target).read_bytes() if result.code == DONE else None
        return cls.made[key]

    @classmethod
    def compressed(cls, files, *options):
        return {name + ".kvot": cls.ask("compress", data, *options) for name, data in files.items()}

    @classmethod
    def restored(cls, files):
        return {name.removesuffix(".kvot"): cls.ask("restore", data) for name, data in files.items()}

    @classmethod
    def recompressed(cls, files, *options):
        back = cls.restored(files)
        return {name: cls.ask("compress", back[name.removesuffix(".kvot")], *options) for name in files}


def size_of(files):
    return sum(map(len, files.values()))


@contextlib.contextmanager
def preloaded(shim, directory, fault, at, on=False, log=None):
    """An environment in which a call of kvot on files of a directory fails, or kills it (faults/shim.c)."""
    environment = dict(os.environ) | {"LD_PRELOAD": shim, "KVOT_FAULT_DIR": str(directory), "KVOT_FAULT": str(fault)}
    environment |= {"KVOT_FAULT_AT": str(at)} | ({"KVOT_FAULT_ON": "1"} if on else {})
    yield environment | ({"KVOT_FAULT_LOG": str(log)} if log else {})


def leftovers(path):
    """Temporary files of kvot in a tree."""
    found = []
    for directory, _, names in os.walk(path):
        found += [os.path.join(directory, name) for name in names if is_temporary(name)]
    return found


def is_temporary(name):
    return name.startswith(".") and name[:-6].endswith(".kvot-") and name[-6:].isalnum()


def main(usage, tests):
    """The program: KVOT_BINARY, what set_up wants, and names of tests; all of them if there are none."""
    if len(sys.argv) < 3:
        sys.exit(usage)
    samples = set_up(*sys.argv[1:3])
    for test in tests:
        if not sys.argv[3:] or test.__name__ in sys.argv[3:]:
            test(samples)
    print(f"{Group.passed} passed, {Group.failed} failed")
    sys.exit(Group.failed > 0 or Group.passed == 0)
