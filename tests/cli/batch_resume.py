"""Runs kvot batch again, side by side, in shards, with signals and with damaged journals.

Usage: python batch_resume.py KVOT_BINARY DATA_DIR

DATA_DIR holds small cache files that llama.cpp wrote."""

import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import time
import urllib.parse

import bad_input
import batch_tree
import memory
from bad_input import DONE, FAILED, SANITIZED, Group, each, run
from batch_tree import JOURNALS, Single, batch, differences, finish, make_tree, read_tree, scratch, size_of, spread, start
from sequence import Sequence

DAMAGES, DAMAGES_IN_PLACE = (60, 30) if SANITIZED else (1500, 300)
NODES = 8
THREADS = 16
OWN_MEMORY = 24  # MiB: programs and libraries, stacks, what the allocator does not give back


class Trees:
    """A tree, and a place for what becomes of it."""

    def __init__(self, place, files):
        self.tree, self.out = os.path.join(place, "tree"), os.path.join(place, "out")
        self.files = dict(files)
        self.journals = os.path.join(self.out, JOURNALS)
        make_tree(self.tree, files)

    def convert(self, *options, **how):
        return batch("compress", *options, self.tree, "-o", self.out, **how)

    def set(self, name, data, seconds=2e9):
        self.files[name] = data
        make_tree(self.tree, {name: data})
        os.utime(os.path.join(self.tree, name), (seconds, seconds))

    def check(self, group, what, *options):
        wrong = differences(read_tree(self.out), Single.compressed(self.files, *options))
        group.check(not wrong, f"{what}: {wrong}")
        group.check(not batch_tree.leftovers(self.out), f"{what}: temporary files are left")


def stopped(process, tree, n=3):
    """Stops a run when it has made some files. Returns whether it was still running then."""
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        if sum(name.endswith(".kvot") for _, _, names in os.walk(tree) for name in names) >= n:
            os.kill(process.pid, signal.SIGSTOP)  # send_signal would look whether it has ended, and take that from us
            return os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT).si_code == os.CLD_STOPPED
    return False


def many(samples, copies=4):
    return {f"{copy}/{name}": data for copy in range(copies) for name, data in spread(samples).items()}


def restarts(samples):
    with Group("restarts") as group, scratch() as place:
        trees = Trees(place, spread(samples))
        n = len(trees.files)
        group.check(trees.convert().counts() == {"files": n, "done": n}, "the first run")
        before = batch_tree.marks(trees.out)
        for options in ((), ("-T1",), ("--memory", "512M"), ("-f",)):
            ran = trees.convert(*options)
            if options == ("-f",):
                good = ran.code == DONE and ran.said["done"] + ran.said["done_before"] == n
            else:
                good = ran.code == DONE and ran.counts() == {"files": n, "done_before": n}
                good &= (ran.said["bytes_in"], ran.said["bytes_out"], ran.said["ratio"]) == (0, 0, None)
                good &= batch_tree.marks(trees.out) == before
            group.check(good, f"again, with {options}: {ran}")
        before = batch_tree.marks(trees.out)
        names = sorted(trees.files)
        trees.set(names[0], samples["slot-lfm2.bin"])  # another size
        trees.set(names[1], trees.files[names[1]])  # another time
        trees.set(names[2], trees.files[names[2]], 1e9 + 1e-6)  # a time that is a microsecond later
        same_size = bytearray(trees.files["llama-v3-seq.bin" if "llama-v3-seq.bin" in trees.files else names[3]])
        same_size[-1] ^= 1
        changed_name = "llama-v3-seq.bin" if "llama-v3-seq.bin" in trees.files else names[3]
        trees.set(changed_name, bytes(same_size))
        os.unlink(os.path.join(trees.out, names[5] + ".kvot"))
        with open(os.path.join(trees.out, names[6] + ".kvot"), "ab") as file:
            file.write(b"x")
        trees.set("new/file", samples["llama-v4-seq.bin"])
        redone = {names[0], names[1], names[2], changed_name, names[5], "new/file"}
        ran = trees.convert()
        expected = {"files": n + 1, "done": len(redone), "done_before": n - len(redone), "failed": 1}
        group.check(ran.code == FAILED and ran.counts() == expected, f"sources have changed: {ran}, not {expected}")
        group.check(set(ran.failures().values()) == {"KVOT_E_EXISTS"}, f"an output that others have changed: {ran}")
        again = trees.convert("-f")
        group.check(again.code == DONE and again.said["done"] == 1, f"an output that others have changed, -f: {again}")
        group.check(ran.said.get("bytes_in") == sum(len(trees.files[name]) for name in redone), f"bytes: {ran.said}")
        trees.check(group, "sources have changed")
        after = batch_tree.marks(trees.out)
        touched = {name.removesuffix(".kvot") for name in after if after[name] != before.get(name)}
        group.check(touched == redone | {names[6]}, f"written: {touched ^ redone}")
        for name in names[:10]:
            os.unlink(os.path.join(trees.tree, name))
            del trees.files[name]
        ran = trees.convert()
        group.check(ran.code == DONE and ran.counts() == {"files": n - 9, "done_before": n - 9}, f"sources have gone: {ran}")
        # A file that was damaged is tried again.
        trees.set("bad", samples["llama-v3-seq.bin"][:1000])
        for _ in range(2):
            ran = trees.convert()
            group.check(ran.code == FAILED and ran.counts() == {"files": n - 8, "done_before": n - 9, "failed": 1}, f"{ran}")
        trees.set("bad", samples["llama-v3-seq.bin"])
        group.check(trees.convert().counts() == {"files": n - 8, "done_before": n - 9, "done": 1}, "mended")


def parameters(samples):
    with Group("other parameters") as group, scratch() as place:
        trees = Trees(place, dict(list(samples.items())[:8]))
        trees.convert()
        before = batch_tree.marks(trees.out)
        for options in (("--bits", "3"), ("--codec", "lossless"), ("--group", "32"), ("--outliers", "0")):
            ran = trees.convert(*options)
            good = ran.code == FAILED and ran.err.startswith(b"kvot: ") and b"-f" in ran.err and ran.said.get("done", 0) == 0
            group.check(good and batch_tree.marks(trees.out) == before, f"{options}: {ran}")
        group.check(trees.convert("--bits", "4").counts() == {"files": 8, "done_before": 8}, "the default, said")
        ran = trees.convert("-f", "--bits", "3")
        group.check(ran.code == DONE and ran.counts() == {"files": 8, "done": 8}, f"with -f: {ran}")
        trees.check(group, "with -f", "--bits", "3")
        ran = trees.convert("--bits", "3")
        group.check(ran.counts() == {"files": 8, "done_before": 8}, f"and again: {ran}")
        ran = trees.convert()
        group.check(ran.code == FAILED and ran.said.get("done", 0) == 0, f"the first ones: {ran}")
        trees.check(group, "the first ones", "--bits", "3")


def finished_removals(samples):
    """In place, a source that is still there goes only if the new file is the one of it."""
    with Group("sources that are there again") as group, scratch() as place:
        files = dict(list(samples.items())[:10])
        tree = os.path.join(place, "tree")
        for options in ((), ("--codec", "lossless")):
            shutil.rmtree(tree, ignore_errors=True)
            make_tree(tree, files)
            kvots = Single.compressed(files, *options)
            ran = batch("compress", "--in-place", *options, tree)
            group.check(ran.code == DONE and ran.said["done"] == 10, f"{ran}")
            make_tree(tree, files)  # with the same times
            ran = batch("compress", "--in-place", *options, tree)
            group.check(ran.code == DONE and ran.said["failed"] == 0, f"the removal is finished: {ran}")
            wrong = differences(read_tree(tree), kvots)
            group.check(not wrong, f"the removal is finished: {wrong}")
            make_tree(tree, files)
            names = sorted(files)
            bad = {}
            for i, name in enumerate(names):  # files as long as those that the journal knows, but not good for it
                data = bytearray(kvots[name + ".kvot"])
                data[(i * 37) % 64 if i % 2 else len(data) - 1 - i] ^= 1
                bad[name + ".kvot"] = bytes(data)
            make_tree(tree, bad)
            ran = batch("compress", "--in-place", *options, tree)
            found = read_tree(tree)
            for name in names:
                good = found.get(name) == files[name] or found.get(name + ".kvot") == kvots[name + ".kvot"]
                group.check(good, f"LOST: {name}, {ran}")
    with Group("sources that have changed meanwhile") as group, scratch() as place:
        # A valid .kvot file of the recorded size, but of other contents: it must not cost the source.
        first = samples["llama-v3-seq.bin"]
        second = bytearray(first)
        second[-1] ^= 1
        one, two = Single.ask("compress", first, "--codec", "lossless"), Single.ask("compress", bytes(second), "--codec", "lossless")
        make_tree(place, {"tree/file": first})
        batch("compress", "--in-place", "--codec", "lossless", "tree", cwd=place)
        make_tree(place, {"tree/file": bytes(second), "tree/file.kvot": one})
        ran = batch("compress", "--in-place", "--codec", "lossless", "tree", cwd=place)
        found = read_tree(os.path.join(place, "tree"))
        group.check(found in ({"file": bytes(second), "file.kvot": one}, {"file.kvot": two}), f"{ran}, {found.keys()}")


def torn_journals(samples):
    """A journal cut anywhere, and with any byte changed: no crash, and nothing wrong is believed."""
    small = [name for name in samples if len(samples[name]) < 4000][:3]
    with Group("damaged journals") as group, scratch() as place:
        trees = Trees(place, {name: samples[name] for name in small})
        trees.convert()
        journal = pathlib.Path(trees.journals, "compress-1-of-1.journal")
        records = journal.read_bytes()
        group.check(records.endswith(b"\n") and records.count(b"\n") >= 1 + 2 * len(small), f"{records}")
        old = Single.compressed(trees.files)
        trees.set(small[0], samples["slot-lfm2.bin"])
        new = Single.compressed(trees.files)
        bad_input.scratch = place
        chosen = [*range(len(records))]
        cases = [("cut", at) for at in chosen] + [("byte", at) for at in chosen]
        cases += [("noise", at) for at in chosen[:: max(1, len(chosen) // 50)]]
        ends = {"all": 0, "some": 0}

        def damage(directory, case):
            what, at = case
            shutil.copytree(trees.out, directory / "out")
            os.unlink(directory / "out" / (small[1] + ".kvot"))
            noise = {"cut": b"", "byte": bytes([records[at] ^ (1 << at % 8)]) + records[at + 1 :], "noise": os.urandom(200)}
            pathlib.Path(directory, "out", JOURNALS, journal.name).write_bytes(records[:at] + noise[what])
            for turn in range(2):
                ran = batch("compress", trees.tree, "-o", directory / "out")
                found = read_tree(directory / "out")
                group.check(ran.code in (DONE, FAILED), f"{what} at {at}: {ran}")
                group.check(all(found[name] in (old[name], new.get(name)) for name in found), f"{what} at {at}: strange outputs")
                if ran.code == DONE:
                    group.check(not differences(found, new), f"{what} at {at}, {turn}: {ran}, {differences(found, new)}")
                else:  # what stands there without a record
                    good = set(ran.failures().values()) == {"KVOT_E_EXISTS"} or (not ran.failures() and b"journal" in ran.err)
                    group.check(good, f"{what} at {at}: {ran}")
                ends["all" if ran.code == DONE else "some"] += turn
            ran = batch("compress", "-f", trees.tree, "-o", directory / "out")
            group.check(ran.code == DONE and not differences(read_tree(directory / "out"), new), f"{what} at {at}, -f: {ran}")
            result = run("batch", "status", "--json", directory / "out")
            group.check(result.code == DONE, f"{what} at {at}: status: {result}")

        each(damage, cases[:: max(1, len(cases) // DAMAGES)])
        group.check(ends["all"] > 0, f"{ends}")
        group.note = f", {ends['all']} end as if nothing had been, {ends['some']} with files that have no record"
        # What a crash leaves: a line without its end.
        for at in (1, 5, 20):
            journal.write_bytes(records[:-at])
            ran = trees.convert()
            group.check(ran.code == DONE, f"the last {at} bytes are torn off: {ran}")
            trees.check(group, f"the last {at} bytes are torn off")
            group.check(trees.convert().counts() == {"files": 3, "done_before": 3}, "and again")
            shutil.rmtree(trees.out)
            trees.convert()
            records = journal.read_bytes()


def in_place_journals(samples):
    """In place, whatever the journal says: no file is lost."""
    small = [name for name in samples if len(samples[name]) < 4000][:3]
    with Group("damaged journals, in place") as group, scratch() as place:
        files = {name: samples[name] for name in small}
        make_tree(place, {f"tree/{name}": data for name, data in files.items()})
        kvots = Single.compressed(files)
        tree = os.path.join(place, "tree")
        batch("compress", "--in-place", tree)
        journal = pathlib.Path(tree, JOURNALS, "compress-1-of-1.journal")
        records = journal.read_bytes()
        make_tree(tree, files)
        bad_input.scratch = place

        def damage(directory, at):
            copy = directory / "tree"
            shutil.copytree(tree, copy)
            (copy / (small[0] + ".kvot")).write_bytes(kvots[small[0] + ".kvot"][:-1] + b"x")  # as long, but damaged
            os.unlink(copy / (small[1] + ".kvot"))
            data = bytearray(records)
            data[at] ^= 1 << at % 8
            (copy / JOURNALS / journal.name).write_bytes(data)
            ran = batch("compress", "--in-place", copy)
            found = read_tree(copy)
            group.check(ran.code in (DONE, FAILED), f"byte {at}: {ran}")
            for name in small:
                good = found.get(name) == files[name] or found.get(name + ".kvot") == kvots[name + ".kvot"]
                group.check(good, f"byte {at}: LOST: {name}, {ran}")

        each(damage, range(0, len(records), max(1, len(records) // DAMAGES_IN_PLACE)))


def done_by(run_of_shard, out):
    """The names whose outputs a run made."""
    before = set(read_tree(out)) if os.path.isdir(out) else set()
    ran = run_of_shard()
    return ran, set(read_tree(out)) - before


def shards(samples):
    with Group("shards") as group:
        for n in (1, 2, 3, NODES):
            with scratch() as place:
                trees = Trees(place, spread(samples))
                seen = set()
                for i in range(1, n + 1):
                    ran, made = done_by(lambda: trees.convert("--shard", f"{i}/{n}"), trees.out)
                    group.check(ran.code == DONE and ran.said.get("shard") == f"{i}/{n}", f"{i}/{n}: {ran}")
                    group.check(ran.said.get("files") == ran.said.get("done") == len(made) and not made & seen, f"{i}/{n}: {ran}")
                    group.check(os.path.isfile(os.path.join(trees.journals, f"compress-{i}-of-{n}.journal")), f"{i}/{n}: no journal")
                    seen |= made
                trees.check(group, f"{n} shards")
                said = batch_tree.status_of(trees.out)
                shard_sum = sum(shard["done"] for shard in said["shards"])
                group.check(said["done"] == shard_sum == len(trees.files) and said["left"] == 0, f"{n}: {said}")
                group.check(said["bytes_in"] == size_of(trees.files), f"{n}: {said}")
                for i in range(1, n + 1):
                    ran = trees.convert("--shard", f"{i}/{n}")
                    group.check(ran.said.get("done") == 0 and ran.said.get("done_before") == ran.said.get("files"), f"{i}/{n} again: {ran}")
        with scratch() as place:  # files of one size
            trees = Trees(place, {f"{i}/cache": samples["llama-v3-seq.bin"] for i in range(64)})
            found = [trees.convert("--shard", f"{i}/8").said.get("done") for i in range(1, 9)]
            group.check(found == [8] * 8, f"64 files of one size in 8 shards: {found}")
        with scratch() as place:  # files of many sizes
            files = {}
            for i in range(40):
                sequence = Sequence(samples["llama-v3-seq.bin"])
                sequence.widen(8)
                sequence.repeat(200 + 37 * (i * i % 41))
                files[f"{i}"] = sequence.pack()
            trees = Trees(place, files)
            found = [trees.convert("--shard", f"{i}/4").said.get("bytes_in") for i in range(1, 5)]
            group.check(sum(found) == size_of(files), f"{found}")
            group.check(max(found) < 1.1 * size_of(files) / 4, f"40 files in 4 shards: {found}")
            group.note = f", of many sizes: {[round(4 * n / sum(found), 3) for n in found]} of the mean"


def changing_shards(samples):
    with Group("shards of a tree that changes") as group:
        for how in ("-o", "--in-place"):
            with scratch() as place:
                trees = Trees(place, spread(samples))
                where = [trees.tree, *(["-o", trees.out] if how == "-o" else ["--in-place"])]
                out = trees.out if how == "-o" else trees.tree
                n = len(trees.files)
                done = batch("compress", "--shard", "2/4", *where).said["done"]
                for i in range(20):
                    trees.set(f"new/{i}", samples[sorted(samples)[i]])
                for turn in range(2):
                    for i in (1, 2, 3, 4):
                        ran = batch("compress", "--shard", f"{i}/4", *where)
                        group.check(ran.code == DONE and ran.said["failed"] == 0, f"{how}, {i}/4: {ran}")
                        done += ran.said["done"]
                    group.check(done == n + 20, f"{how}, turn {turn}: {done} done of {n + 20}")
                wrong = differences(read_tree(out), Single.compressed(trees.files))
                group.check(not wrong, f"{how}: {wrong}")
        for how in ("-o", "--in-place"):  # begun with another number of shards
            with scratch() as place:
                trees = Trees(place, spread(samples))
                where = [trees.tree, *(["-o", trees.out] if how == "-o" else ["--in-place"])]
                out = trees.out if how == "-o" else trees.tree
                done = sum(batch("compress", "--shard", f"{i}/5", *where).said["done"] for i in (1, 4))
                before = {name: mark for name, mark in batch_tree.marks(out).items() if name.endswith(".kvot")}
                for of in (3, 1):
                    for i in range(1, of + 1):
                        ran = batch("compress", *(["--shard", f"{i}/{of}"] if of > 1 else []), *where)
                        group.check(ran.code == DONE and ran.said["failed"] == 0, f"{how}, {i}/{of}: {ran}")
                        done += ran.said["done"]
                after = batch_tree.marks(out)
                group.check(all(after[name] == mark for name, mark in before.items()), f"{how}: what was done is done again")
                group.check(done == len(trees.files), f"{how}, 5 shards, then 3: {done} done of {len(trees.files)}")
                wrong = differences(read_tree(out), Single.compressed(trees.files))
                group.check(not wrong, f"{how}, 5 shards, then 3: {wrong}")


def shards_together(samples):
    with Group("shards at the same time") as group:
        for how in ("-o", "--in-place", "killed"):
            with scratch() as place:
                trees = Trees(place, many(samples, 2))
                where = [trees.tree, *(["--in-place"] if how == "--in-place" else ["-o", trees.out])]
                out = trees.tree if how == "--in-place" else trees.out
                processes = [start("compress", "--shard", f"{i}/{NODES}", *where) for i in range(1, NODES + 1)]
                if how == "killed":
                    stopped(processes[4], trees.out, 20)
                    processes[4].kill()
                ran = [finish(process) for process in processes]
                if how == "killed":
                    ran[4] = batch("compress", "--shard", f"5/{NODES}", *where)
                group.check(all(r.code == DONE for r in ran), f"{how}: {[str(r) for r in ran if r.code != DONE][:2]}")
                seen = sum(r.said.get("done", 0) + r.said.get("done_before", 0) for r in ran)
                group.check(seen == len(trees.files), f"{how}: {seen} done of {len(trees.files)}")
                wrong = differences(read_tree(out), Single.compressed(trees.files))
                group.check(not wrong, f"{how}: {wrong}")
                said = batch_tree.status_of(out)
                shard_names = [shard["shard"] for shard in said["shards"]]
                group.check(sorted(shard_names) == [f"{i}/{NODES}" for i in range(1, NODES + 1)], f"{how}: {said}")
                group.check(said["done"] == len(trees.files) and said["left"] == said["failed"] == 0, f"{how}: {said}")
                group.check(not any(shard["running"] for shard in said["shards"]), f"{how}: {said}")


def two_runs(samples):
    with Group("two runs on one directory") as group, scratch() as place:
        trees = Trees(place, many(samples))
        process = start("compress", "--shard", "1/2", trees.tree, "-o", trees.out)
        group.check(stopped(process, trees.out), "the first run was over too soon")
        said = batch_tree.status_of(trees.out)
        group.check([s["running"] for s in said["shards"] if s["shard"] == "1/2"] == [True], f"status while it runs: {said}")
        group.check(said["done"] + said["left"] + said["failed"] == said["files"] and said["left"] > 0, f"{said}")
        before = read_tree(trees.out)
        n = sum(name.endswith(".kvot") for name in before)
        for line in (("compress", "--shard", "1/2", trees.tree, "-o", trees.out), ("compress", trees.tree, "-o", trees.out),
                     ("compress", "-f", trees.tree, "-o", trees.out), ("compress", "--shard", "1/3", trees.tree, "-o", trees.out),
                     ("compress", "--shard", "3/3", "-f", trees.tree, "-o", trees.out),
                     ("restore", "--in-place", trees.out), ("recompress", "--in-place", "--bits", "8", trees.out),
                     ("verify", "--journal", trees.out, trees.out), ("restore", trees.out, "-o", trees.out)):
            ran = batch(*line, timeout=30)
            good = ran.code == FAILED and ran.err.startswith(b"kvot: ") and str(process.pid).encode() in ran.err
            group.check(good and ran.said.get("done", 0) == 0, f"{line}: {ran}")
        group.check(not differences(read_tree(trees.out), before), "a run that was refused has changed something")
        ran = batch("verify", trees.out)
        group.check(ran.code == DONE and ran.said["done"] == n, f"verify: {ran}, not {n}")
        other = batch("compress", "--shard", "2/2", trees.tree, "-o", trees.out)
        group.check(other.code == DONE, f"the other shard: {other}")
        process.send_signal(signal.SIGCONT)
        ran = finish(process)
        group.check(ran.code == DONE and ran.said["done"] + other.said.get("done", 0) == len(trees.files), f"the first run: {ran}")
        trees.check(group, "both shards")
        # Locks of a run that was killed are no locks.
        shutil.rmtree(trees.out)
        process = start("compress", trees.tree, "-o", trees.out)
        group.check(stopped(process, trees.out), "a run was over too soon")
        process.kill()
        finish(process)
        ran = batch("compress", "--shard", "1/2", trees.tree, "-o", trees.out)
        rest = batch("compress", "--shard", "2/2", trees.tree, "-o", trees.out)
        group.check(ran.code == rest.code == DONE, f"after a kill: {ran}, {rest}")
        trees.check(group, "after a kill")
        # Many at once: some are refused, none does harm.
        shutil.rmtree(trees.out)
        processes = [start("compress", trees.tree, "-o", trees.out) for _ in range(6)]
        ran = [finish(process) for process in processes]
        group.check(all(r.code in (DONE, FAILED) and r.said.get("failed", 0) == 0 for r in ran), f"{[str(r) for r in ran]}")
        group.check(any(r.code == DONE for r in ran), "all were refused")
        done = sum(r.said.get("done", 0) for r in ran)
        group.check(done == len(trees.files), f"six at once: {done} done of {len(trees.files)}")
        trees.check(group, "six at once")


def status(samples):
    with Group("status") as group, scratch() as place:
        result = run("batch", "status", place)
        group.check(result.code == FAILED and result.err.startswith(b"kvot: "), f"no journal: {result}")
        group.check(run("batch", "status", os.path.join(place, "nowhere")).code == FAILED, "no directory")
        files = spread(dict(list(samples.items())[:20]))
        trees = Trees(place, files | {"bad": samples["llama-v3-seq.bin"][:1000]})
        kvots = Single.compressed(files)
        trees.convert()
        expected = {"operation": "compress", "files": 21, "done": 20, "failed": 1, "left": 0, "bytes_in": size_of(files),
                    "bytes_out": size_of(kvots)}
        for _ in range(2):
            said = batch_tree.status_of(trees.out)
            group.check({key: said.get(key) for key in expected} == expected, f"{said}, not {expected}")
            group.check(abs(said["ratio"] - size_of(files) / size_of(kvots)) < 1e-6, f"{said}")
            group.check([shard["shard"] for shard in said["shards"]] == ["1/1"], f"{said}")
            trees.convert()
        result = run("batch", "status", trees.out)
        group.check(result.code == DONE and b"20" in result.out + result.err, f"for people: {result}")
        batch("restore", trees.out, "-o", os.path.join(place, "back"), "--journal", trees.out)
        operations = json.loads(run("batch", "status", "--json", trees.out).out)["operations"]
        group.check([o["operation"] for o in operations] == ["compress", "restore"] or
                    {o["operation"] for o in operations} == {"compress", "restore"}, f"{operations}")
        group.check(all(o["done"] == 20 for o in operations), f"{operations}")


def signals(samples):
    with Group("signals") as group:
        for how in ("-o", "--in-place"):
            for number in (signal.SIGINT, signal.SIGTERM):
                with scratch() as place:
                    trees = Trees(place, many(samples))
                    where = ["-o", trees.out] if how == "-o" else ["--in-place"]
                    out = trees.out if how == "-o" else trees.tree
                    process = subprocess.Popen([bad_input.binary, "batch", "compress", "--json", trees.tree, *where],
                                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                    group.check(stopped(process, out, 30), f"{how}: over too soon")
                    process.send_signal(number)
                    process.send_signal(signal.SIGCONT)
                    ran, what = finish(process), f"{how}, {number.name}"
                    group.check(ran.code == FAILED and ran.err.count(b"\n") > 0, f"{what}: {ran}")
                    group.check(0 < ran.said.get("done", 0) < len(trees.files), f"{what}: {ran}")
                    group.check(not ran.failures() and ran.said.get("failed") == 0, f"{what}: {ran}")
                    group.check(not batch_tree.leftovers(place), f"{what}: {batch_tree.leftovers(place)[:3]}")
                    kvots = Single.compressed(trees.files)
                    found = {name: data for name, data in read_tree(out).items() if name.endswith(".kvot")}
                    group.check(all(kvots[name] == data for name, data in found.items()), f"{what}: half files")
                    rest = batch("compress", trees.tree, *where)
                    total = ran.said.get("done", 0) + rest.said.get("done", 0)
                    group.check(rest.code == DONE and total == len(trees.files), f"{what}, then: {rest}")
                    group.check(not differences(read_tree(out), kvots), f"{what}, then: {differences(read_tree(out), kvots)}")


def printed(samples):
    with Group("what is printed") as group, scratch() as place:
        trees = Trees(place, many(samples) | {"bad": samples["llama-v3-seq.bin"][:1000]})
        n = len(trees.files) - 1
        result = run("batch", "compress", trees.tree, "-o", trees.out)
        group.check(result.code == FAILED and result.out == b"", f"for people: {result}")
        group.check(str(n).encode() in result.err and result.err.count(b"tree/bad") == 1, f"for people: {result}")
        group.check(b"\r" not in result.err and b"\x1b" not in result.err, f"for a file: {result}")
        shutil.rmtree(trees.out)
        os.unlink(os.path.join(trees.tree, "bad"))
        result = run("batch", "compress", "-q", trees.tree, "-o", trees.out)
        group.check((result.code, result.out, result.err) == (DONE, b"", b""), f"-q: {result}")
        shutil.rmtree(trees.out)
        terminal, end = pty.openpty()
        process = subprocess.Popen([bad_input.binary, "batch", "compress", "-T1", trees.tree, "-o", trees.out], stderr=end)
        os.close(end)
        seen = b""
        while True:
            try:
                part = os.read(terminal, 4096)
            except OSError:
                break
            seen += part
        os.close(terminal)
        group.check(process.wait() == DONE and str(n).encode() in seen, f"on a terminal: {seen[-300:]}")
        lines = [line for line in re.split(rb"\r\n", seen) if line]
        group.check(len(lines) <= 2, f"on a terminal: {lines[:3]}")


def largest_first(samples):
    with Group("largest files first") as group, scratch() as place:
        trees = Trees(place, spread(samples))
        trees.convert()
        journal = pathlib.Path(trees.journals, "compress-1-of-1.journal").read_text().splitlines()
        names = [urllib.parse.unquote(line.split(" ")[1]) for line in journal if line.startswith("begin ")]
        sizes = [len(trees.files[name]) for name in names]
        group.check(len(sizes) == len(trees.files) and sizes == sorted(sizes, reverse=True), f"{sizes}")
        ends = [urllib.parse.unquote(line.split(" ")[1]) for line in journal if line.startswith("done ")]
        group.check(sorted(ends) == sorted(names) and set(ends[:20]) <= set(names[:40]), f"{ends[:20]}")


def memory_bound(samples):
    """Many threads, and files of all sizes: the peak is what --memory says, and what the program takes for itself."""
    with Group("memory") as group, scratch() as place:
        if SANITIZED:
            return group.skip("sanitizers take their own")
        tree = os.path.join(place, "tree")
        make_tree(tree, spread(samples))
        for i, size in enumerate((100, 40, 40, 40, 20, 20, 20, 20, 3, 3, 3, 3, 1, 1, 1, 1)):
            memory.make(os.path.join(tree, f"{i}"), samples["llama-v3-seq.bin"], size << 20)
        memory.adopt()
        notes = []
        for bound in (64, 128, 1024):
            source = tree
            for operation in ("compress", "recompress", "restore"):
                out = os.path.join(place, f"{operation}{bound}")
                options = ["--bits", "8"] if operation == "recompress" else []
                command = ["batch", operation, "-q", f"-T{THREADS}", "--memory", f"{bound}M", *options, source, "-o", out]
                peak = memory.run_apart([bad_input.binary, *command]).ru_maxrss >> 10
                group.check(peak < bound + OWN_MEMORY, f"{operation} --memory {bound}M: {peak} MiB")
                notes.append(f"{peak} of {bound}")
                source = out if operation == "compress" else source
            for operation in ("compress", "recompress", "restore"):
                shutil.rmtree(os.path.join(place, f"{operation}{bound}"))
        group.note = f", MiB: {', '.join(notes)}"
        for bound in ("1", "1K", "1M", "8M"):  # too little for any file: it is done all the same, or said
            ran = batch("compress", "--memory", bound, tree, "-o", os.path.join(place, "o" + bound), timeout=120)
            group.check(ran.code == DONE or (ran.code is not None and ran.err.startswith(b"kvot")), f"--memory {bound}: {ran}")


TESTS = [restarts, parameters, finished_removals, torn_journals, in_place_journals, shards, changing_shards,
         shards_together, two_runs, status, signals, printed, largest_first, memory_bound]

if __name__ == "__main__":
    batch_tree.main(__doc__, TESTS)
