"""What the tests of samples/cluster share: a tree of caches, what must become of it, and a shard stopped half-way."""

import collections
import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

COPIES = 8
SHARDS = 8
SAMPLES = pathlib.Path(__file__).resolve().parents[2] / "samples" / "cluster"

# A kvot that waits until it is told to go on, and then yields to whoever watches it. Its process stays the same.
GATE = """#!/bin/sh
echo "$*" >"{directory}/kvot.$$"
while [ ! -e "{directory}/go" ] && [ ! -e "{directory}/go.$$" ]; do sleep 0.05; done
exec nice -n 19 "{kvot}" "$@"
"""


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def wait_for(what, condition, seconds=60, every=0.1):
    """Waits until the condition returns something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"no {what} after {seconds} s"
        time.sleep(every)


class Tree:
    """Copies of real caches with names of their own, and where they are to go."""

    def __init__(self, kvot, data, directory, caches="all caches"):
        self.kvot = pathlib.Path(kvot).resolve()
        self.caches = directory / caches
        self.small = directory / "small"
        self.gate = directory / "gate" / "kvot"
        self.gate.parent.mkdir()
        self.gate.write_text(GATE.format(directory=self.gate.parent, kvot=self.kvot))
        self.gate.chmod(0o755)
        self.expected = {}  # name in the output tree: what the single command makes of it
        for source in sorted(pathlib.Path(data).resolve().glob("*.bin")):
            single = directory / "single.kvot"
            subprocess.run([self.kvot, "compress", "-q", "-o", single, source], check=True)
            for i in range(COPIES):
                name = pathlib.Path(f"user {i}") / source.stem[0] / f"{source.stem}, copy {i}.bin"
                (self.caches / name).parent.mkdir(parents=True, exist_ok=True)
                (self.caches / name).write_bytes(source.read_bytes())
                self.expected[f"{name}.kvot"] = single.read_bytes()
            single.unlink()

    def journal(self, shard):
        try:
            return (self.small / ".kvot-batch" / f"compress-{shard}-of-{SHARDS}.journal").read_text()
        except FileNotFoundError:
            return ""

    def status(self):
        """The shards of the one operation, by number, and the operation itself."""
        status = subprocess.check_output([self.kvot, "batch", "status", "--json", self.small])
        (operation,) = json.loads(status)["operations"]
        return {int(shard["shard"].split("/")[0]): shard for shard in operation["shards"]}, operation

    def hold_half_way(self, shard):
        """Lets a shard through the gate, stops it (SIGSTOP) when it has done some of its files, returns its process."""

        def at_gate():
            for waiting in self.gate.parent.glob("kvot.*"):
                if f"--shard {shard}/{SHARDS} " in waiting.read_text():
                    return int(waiting.suffix[1:])

        process = wait_for(f"kvot for shard {shard}", at_gate)
        (self.gate.parent / f"go.{process}").touch()
        wait_for("finished file", lambda: re.search("^done ", self.journal(shard), re.M), every=0.001)
        os.kill(process, signal.SIGSTOP)
        assert self.is_half_way(shard)
        return process

    def open_gate(self):
        (self.gate.parent / "go").touch()

    def is_half_way(self, shard):
        state = self.status()[0][shard]
        print(f"shard {shard}: {state['done']} of {state['files']} files{', running' if state['running'] else ''}")
        return 0 < state["done"] < state["files"]

    def check(self):
        """All is done, each file once, and every file is byte for byte what the single command makes of it."""
        shards, operation = self.status()
        assert sorted(shards) == list(range(1, SHARDS + 1)), shards
        assert not any(shard["running"] or shard["failed"] for shard in shards.values()), shards
        assert all(0 < shard["done"] == shard["files"] for shard in shards.values()), shards
        assert operation["done"] == operation["files"] == len(self.expected), operation
        assert operation["left"] == operation["failed"] == 0, operation
        done = collections.Counter()
        for shard in shards:
            done.update(re.findall(r"^done (\S+)", self.journal(shard), re.M))
        assert len(done) == len(self.expected), f"{len(done)} files done"
        assert set(done.values()) == {1}, [name for name, times in done.items() if times != 1]
        found = {str(path.relative_to(self.small)) for path in self.small.rglob("*") if path.is_file()}
        found = {name for name in found if not name.startswith(".kvot-batch/")}
        assert found == set(self.expected), found ^ set(self.expected)
        for name, expected in self.expected.items():
            assert (self.small / name).read_bytes() == expected, name
        print(f"{len(found)} files in {SHARDS} shards, each done once and as the single command does it")


@contextlib.contextmanager
def no_process_left():
    """Ends what is left of the processes started inside, also those whose parents are gone."""
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children")
        while left := children.read_text().split():
            for child in left:
                os.kill(int(child), signal.SIGKILL)
            for child in left:
                os.waitpid(int(child), 0)
