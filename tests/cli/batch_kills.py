"""Kills kvot batch at random moments, and resumes it: the tree is that of one run without a kill, and no file is ever lost.

Usage: python batch_kills.py KVOT_BINARY SHIM DATA_DIR [--kills N] [--faults N] [--seed N] [--only WORDS]

SHIM is ../faults/shim.c as a library: half of the kills hit a random call, the other half a random moment. N kills (200)
are shared among compress into a tree and in place, restore in place and recompress in place; most runs are killed again
when they are resumed. Then calls fail at random (--faults, 120) instead."""

import argparse
import errno
import itertools
import os
import random
import shutil
import signal
import sys
import time

import batch_tree
from bad_input import DONE, FAILED, Group
from batch_tree import Single, batch, differences, finish, make_tree, read_tree, scratch, spread, start
from sequence import Sequence

FAULTS = (errno.EIO, errno.ENOSPC, errno.EINTR, "short")


class Mode:
    """An operation on a tree: what is there before and after, and whether a file of it is whole."""

    def __init__(self, place, line, before, after):
        self.line, self.before, self.after = line, before, after
        self.in_place = "--in-place" in line
        self.tree, self.out = os.path.join(place, "tree"), os.path.join(place, "out")
        self.command = [*line.split(), self.tree] + ([] if self.in_place else ["-o", self.out])
        self.result = self.tree if self.in_place else self.out
        self.all = os.path.dirname(self.tree)

    def set_up(self):
        for path in (self.tree, self.out):
            shutil.rmtree(path, ignore_errors=True)
        make_tree(self.tree, self.before)

    def measure(self, shim):
        """How long a run takes, and how many calls it makes."""
        log = self.all + ".log"
        self.set_up()
        begun = time.monotonic()
        ran = batch(*self.command)
        self.seconds = time.monotonic() - begun
        assert ran.code == DONE and ran.said["done"] + ran.said["already"] == len(self.before), ran
        assert not self.different(), self.different()
        self.set_up()
        with batch_tree.preloaded(shim, self.all, 0, 0, log=log) as environment:
            ran = batch(*self.command, env=environment)
        assert ran.code == DONE, ran
        with open(log, errors="surrogateescape") as lines:
            self.calls = [line.rstrip("\n").split(" ", 2)[1:] for line in lines]
        os.unlink(log)

    def lost(self):
        """Names of which neither the old nor the new file is whole; in a tree of its own, outputs that are not whole."""
        tree = read_tree(self.tree)
        if not self.in_place:
            wrong = [name for name, data in self.before.items() if tree.get(name) != data]
            found = read_tree(self.out) if os.path.isdir(self.out) else {}
            return wrong + [n for n, data in found.items() if data != self.after.get(n) and not hidden(n)]
        wrong = []
        for old, new in zip(sorted(self.before), sorted(self.after)):
            if tree.get(old) != self.before[old] and tree.get(new) != self.after[new]:
                wrong.append(old)
            if new in tree and tree[new] not in (self.after[new], self.before.get(new)):
                wrong.append(new)
        return wrong

    def different(self):
        wrong = differences(read_tree(self.result), self.after)
        if not self.in_place:
            wrong += differences(read_tree(self.tree), self.before)
        return wrong


def hidden(name):
    return batch_tree.is_temporary(os.path.basename(name))


def make_modes(place, samples):
    """Few enough files for hundreds of runs, some of them of more than one chunk."""
    files = {name: samples[name] for name in sorted(samples)[::3]}
    for i, cells in enumerate((300, 700, 1500)):
        sequence = Sequence(samples["llama-v3-seq.bin"])
        sequence.widen(4)
        sequence.repeat(cells)
        files[f"longer{i}"] = sequence.pack()
    files = spread(files)
    kvots = Single.compressed(files)
    lossless = Single.compressed(files, "--codec", "lossless")
    yield Mode(place, "compress", files, kvots)
    yield Mode(place, "compress --in-place", files, kvots)
    yield Mode(place, "restore --in-place", kvots, Single.restored(kvots))
    yield Mode(place, "recompress --in-place --bits 3", lossless, Single.recompressed(lossless, "--bits", "3"))


def kill(mode, shim, chance):
    """Starts a run and kills it. Returns what it was, or None where it was over before."""
    if chance.random() < 0.5:
        process = start(*mode.command)
        delay = chance.uniform(0, 1.1 * mode.seconds)
        time.sleep(delay)
        process.kill()
        ran, what = finish(process), f"after {delay:.3f} s"
    else:
        fault, at = chance.choice(("kill-before", "kill-half", "kill-after")), chance.randint(1, len(mode.calls))
        with batch_tree.preloaded(shim, mode.all, fault, at) as environment:
            ran, what = batch(*mode.command, env=environment), f"{fault} at call {at}"
    return ran, what


def kills(mode, n, shim, chance):
    with Group(f"kills of {mode.line}") as group:
        mode.measure(shim)
        killed = rounds = 0
        while killed < n:
            mode.set_up()
            rounds += 1
            for again in itertools.count():
                ran, what = kill(mode, shim, chance)
                was_killed = ran.code == -signal.SIGKILL
                killed += was_killed
                group.check(was_killed or ran.code == DONE, f"{what}: {ran}")
                lost = mode.lost()
                group.check(not lost, f"LOST {what}, kill {again + 1} of a run: {lost[:3]}")
                if not was_killed or chance.random() < 0.4:
                    break
            ran = batch(*mode.command)
            group.check(ran.code == DONE and ran.said["failed"] == 0, f"resumed, {what}: {ran}")
            wrong = mode.different()
            group.check(not wrong, f"resumed, {what}: {wrong}")
            before = batch_tree.marks(mode.result)
            ran = batch(*mode.command)
            group.check(ran.code == DONE and ran.said["done"] == 0 and batch_tree.marks(mode.result) == before, f"once more: {ran}")
        group.note = f", {killed} kills in {rounds} runs, {len(mode.before)} files, {mode.seconds:.2f} s, {len(mode.calls)} calls"


def faults(mode, n, shim, chance):
    """Calls that fail: the run may fail for some files, or as a whole, but it says so, and the next run does the rest."""
    with Group(f"faults of {mode.line}") as group:
        ends = {DONE: 0, FAILED: 0}
        for _ in range(n):
            mode.set_up()
            # Every kind of call as often as others: a few kinds are most of the calls.
            kind = chance.choice(sorted({call for call, _ in mode.calls}))
            at = chance.choice([at for at, (call, _) in enumerate(mode.calls, 1) if call == kind])
            fault, on = chance.choice(FAULTS), chance.random() < 0.3
            what = f"{fault} at call {at}{' and on' * (on and fault != errno.EINTR)}, {mode.calls[at - 1]}"
            with batch_tree.preloaded(shim, mode.all, fault, at, on and fault != errno.EINTR) as environment:
                ran = batch(*mode.command, env=environment)
            group.check(ran.code in ends, f"{what}: {ran}")
            ends[ran.code] = ends.get(ran.code, 0) + 1
            lost = mode.lost()
            group.check(not lost, f"LOST: {what}: {lost[:3]}")
            if ran.code == DONE:
                group.check(not mode.different(), f"{what}: {ran}, {mode.different()}")
            else:
                group.check(ran.err.startswith(b"kvot") or ran.failures(), f"{what}: nothing is said: {ran}")
            ran = batch(*mode.command)
            group.check(ran.code == DONE, f"after {what}: {ran}")
            group.check(not mode.different(), f"after {what}: {mode.different()}")
        group.note = f", {ends[DONE]} as if nothing had been, {ends[FAILED]} that say so"


def order(mode):
    """A source goes only when the new file's bytes and name are durable, and the journal knows: no kill would show it."""
    with Group(f"order of calls of {mode.line}") as group:
        for name in mode.before:
            path = os.path.join(mode.tree, name)
            new = path + ".kvot" if mode.line.startswith("compress") else path.removesuffix(".kvot")
            gone = [i for i, (call, at) in enumerate(mode.calls) if call == "unlink" and at == path]
            if not group.check(len(gone) == 1, f"{name}: is removed {len(gone)} times"):
                continue
            calls = mode.calls[: gone[0]]
            named = [i for i, (call, at) in enumerate(calls) if call in ("rename", "renameat2", "link") and at == new]
            if not group.check(len(named) == 1, f"{name}: {new} gets its name {len(named)} times before"):
                continue
            temporary = os.path.join(os.path.dirname(new), "." + os.path.basename(new) + ".kvot-")
            synced = [i for i, (call, at) in enumerate(calls[: named[0]]) if call == "fdatasync" and at.startswith(temporary)]
            group.check(synced, f"{name}: has its name before its bytes are durable")
            synced = [i for i, (call, at) in enumerate(calls) if call == "fsync" and at == os.path.dirname(new) and i > named[0]]
            group.check(synced, f"{name}: the source goes before the name is durable")
            known = [i for i, (call, at) in enumerate(calls) if call == "write" and at.endswith(".journal") and i > named[0]]
            group.check(known, f"{name}: the source goes before the journal knows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("binary")
    parser.add_argument("shim", type=os.path.abspath)
    parser.add_argument("data_dir")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--faults", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    given = batch_tree.set_up(arguments.binary, arguments.data_dir)
    print(f"seed {arguments.seed}", flush=True)
    with scratch() as work:
        where = os.path.join(work, "all")
        os.mkdir(where)
        modes = [mode for mode in make_modes(where, given) if arguments.only in mode.line]
        for each_mode in modes:
            dice = random.Random(f"{arguments.seed} {each_mode.line}")
            kills(each_mode, -(-arguments.kills // len(modes)), arguments.shim, dice)
            faults(each_mode, -(-arguments.faults // len(modes)), arguments.shim, dice)
            if each_mode.in_place and "recompress" not in each_mode.line:
                order(each_mode)
    print(f"{Group.passed} passed, {Group.failed} failed")
    sys.exit(Group.failed > 0 or Group.passed == 0)
