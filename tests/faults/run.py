"""Kills kvot, and makes its reads and writes fail, at every call in turn and at random; nothing may be lost.

Usage: python run.py KVOT_BINARY SHIM DATA_DIR [--long] [--seed N] [--only WORDS]

SHIM is shim.c as a library. After each fault the output is the old one or the new one, byte for byte (an append may leave
something behind the old one, which verify, restore and the next append pass over); nothing else is left, but for one temporary file of a process that was killed, which the next run removes; and what failed says
so, with the file's name and the offset. Interruptions and short transfers are no failures at all. .kvot files that are
cut at a block, or have a block of zeros, are refused. --long takes more files, and every call for files of some MB too, and
lets kvot verify look at every output; --only runs the commands that contain WORDS.
"""

import argparse
import collections
import errno
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time

from place import Place, longer_file

# What is run, in a directory with the files of a sample (make_sample); "out" is the output, and what it is before.
COMMANDS = (
    ("compress -q in -o out", None),
    ("compress -qf in -o out", "lossless"),
    ("compress -qf --codec lossless in -o out", "lossless"),
    ("compress -qf - -o out < in", "lossless"),
    ("compress -q in -o -", None),
    ("compress -q --append out longer", "kvot"),
    ("restore -q kvot -o out", None),
    ("restore -qf lossless -o out", "in"),
    ("restore -q --tokens 2 kvot -o out", None),
    ("restore -qf --layers 0:1 kvot -o out", "in"),
    ("restore -q - -o - < kvot", None),
    ("verify -q kvot", None),
    ("verify -q kvot --against in", None),
    ("inspect --json kvot", None),
    ("inspect --json in", None),
    ("diff --json in kvot", None),
)
KILLS = ("kill-before", "kill-half", "kill-after")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EAGAIN)
HARMLESS = ("short", errno.EINTR)
# From there on: a disk that is full, a disk that is gone, a slow pipe.
LASTING = ("short", errno.EIO, errno.ENOSPC)
TRANSFERS = ("read", "write", "uring-read", "uring-write")
MESSAGE = re.compile(rb"kvot: (in|longer|kvot|lossless|out|standard input|standard output): [^\n]+\n")
RANDOM = 1000
BLOCK = 512
MEMORY = 512 << 20

Case = collections.namedtuple("Case", "sample command fault at on threads delay", defaults=(False, 1, None))
Sample = collections.namedtuple("Sample", "name cold files results calls seconds restored")


def check_order(line, hits):
    """The bytes are durable before the name is given, and the name before the command ends: no kill would show it."""
    ends = ["fdatasync", "write", "fdatasync"] if "--append" in line else ["fdatasync", "rename", "fsync"]
    named = {"uring-write": "write", "renameat2": "rename"}
    calls = [named.get(call, call) for _, call, path in hits]
    order = [call for call in calls if call in ("write", "fdatasync", "rename", "fsync")]
    assert order.count("write") >= len(order) - 3 and order[-3:] == ends, (line, order)


def make_sample(name, files, cold):
    """An engine's file, what becomes of it, and what calls each command makes for it."""
    place = Place(scratch(cold) / ("make " + name), files, cold)
    for name_of, options in (("kvot", "--bits 8"), ("lossless", "--codec lossless")):
        ran = place.run(f"compress -q {options} in -o out")
        assert ran.code == 0, ran
        place.add(name_of, place.output())
        assert place.run(f"verify -q {name_of} --against in").code == 0
        place.set(None)
    sample = Sample(name, cold, place.files, {}, {}, {}, set())
    for line, old in chosen:
        if ("longer" in line or "--tokens" in line) and "longer" not in files:
            continue
        before = place.files.get(old)
        place.set(before)
        ran = place.run(line, log=True)
        if "--layers" in line and ran.code == 2:  # it has no layers, or is restored as a whole only
            place.set(None)
            continue
        assert ran.code == 0 and not place.leftovers() and not place.strange(), (line, ran)
        if before != place.output():
            check_order(line, ran.hits)
        sample.results[line] = (before, place.output(), ran.out)
        sample.calls[line] = [call for _, call, _ in ran.hits]
        if line.startswith("compress") and place.output():
            assert place.run("verify -q out --against " + ("longer" if "longer" in line else "in")).code == 0
        if "--append" in line:
            sample.restored.update(place.run(f"restore -q {name} -o -").out for name in (old, "out"))
        place.set(before)
        sample.seconds[line] = place.run(line).seconds
        place.set(None)
    return sample


def check_append(case, place, killed):
    """What is wrong after an append that left something behind the old state."""
    before, after, _ = samples[case.sample].results[case.command]
    if not killed:
        return "a failed append leaves something"
    if not place.output().startswith(before):
        return "LOST: the old state was changed"
    restored = place.run("restore -q out -o -")
    if place.run("verify -q out").code != 0 or restored.out not in samples[case.sample].restored:
        return "LOST: the file is neither in its old state nor in the new one"
    ran = place.run(case.command)
    return None if ran.code == 0 and place.output() == after else f"the next append fails: {ran}"


def check(case, place, ran):
    """What is wrong after a case; None if all is well."""
    before, after, stdout = samples[case.sample].results[case.command]
    output, leftovers = place.output(), place.leftovers()
    killed = ran.code == -signal.SIGKILL
    calls = [call for _, call, _ in ran.hits]
    if output not in (before, after):
        if "--append" not in case.command:
            return "LOST: the output is neither the old one nor the new one"
        wrong = check_append(case, place, killed or "ftruncate" in calls)
        if wrong:
            return wrong
    if place.strange():
        return f"left or changed: {place.strange()}"
    if len(leftovers) > (killed or "unlink" in calls or (calls == ["flock"] and case.fault == errno.EAGAIN)):
        return f"left: {leftovers}"
    if killed != (case.delay is not None or (case.fault in KILLS and bool(calls))) and not (case.delay and ran.code == 0):
        return f"exit code {ran.code}"
    if calls and case.command.startswith("inspect"):
        ran = ran._replace(out=ran.out.replace(b'"reader": "pread"', b'"reader": "io_uring"'))  # what was refused was a ring
        stdout = stdout.replace(b'"reader": "pread"', b'"reader": "io_uring"')
    if ran.code == 0 and (output, ran.out, ran.err) != (after, stdout, b""):
        return f"exit code 0, but not the new output: {ran.err}"
    if not killed and ran.code != 0:
        if not calls or (case.fault in HARMLESS and "rename" not in calls[0]):
            return f"fails: {ran.code}, {ran.err}"
        if ran.code != 1 or not MESSAGE.fullmatch(ran.err):
            return f"exit code {ran.code}, {ran.err}"
        if calls[0] in TRANSFERS and b" at byte " not in ran.err:
            return f"no offset: {ran.err}"
        # The directory's sync failed, or an append could not be taken back.
        if before != after and output == after and b"complete" not in ran.err and "ftruncate" not in calls:
            return f"fails with a new output: {ran.err}"
    if leftovers:
        line = case.command.replace(" -q ", " -qf ")
        ran = place.run(line)
        if ran.code != 0 or place.output() != after or place.leftovers():
            return f"the next run does not sweep: {ran}, {place.leftovers()}"
    if long and output and case.command.startswith("compress") and place.run("verify -q out").code != 0:
        return "verify refuses the output"
    return None


places = {}


def attempt(case):
    """Runs a case. Returns whether the fault came about, and what is wrong."""
    place = places.get(case.sample)
    if not place:
        sample = samples[case.sample]
        name = scratch(sample.cold) / f"{os.getpid()}.{len(places)}"
        place = places[case.sample] = Place(name, sample.files, sample.cold)
    place.set(samples[case.sample].results[case.command][0])
    ran = place.run(case.command, case.fault, case.at, case.on, case.threads, case.delay)
    wrong = check(case, place, ran)
    for name in place.leftovers():
        (place.path / name).unlink()
    return bool(ran.hits) or ran.code == -signal.SIGKILL, wrong and f"{case}, {ran.hits[:1]}: {wrong}"


def every_call(name):
    """Every fault at every call (or some of them) that a command makes for a sample."""
    for line, calls in samples[name].calls.items():
        for at, call in enumerate(calls, 1):
            if at % step_of(name) != 0 and call in ("read", "write"):
                continue
            # No read fills a disk, and only what moves bytes can do so in part.
            senseless = {errno.ENOSPC} if call in ("read", "uring-read", "close", "flock") else set()
            senseless |= set() if call in TRANSFERS else {"kill-half", "short"}
            for fault in KILLS + ERRORS + HARMLESS:
                if fault not in senseless:
                    yield Case(name, line, fault, at)
            for fault in LASTING:
                if fault not in senseless:
                    yield Case(name, line, fault, at, True)
            if call == "renameat2":
                yield Case(name, line, errno.EINVAL, at)


def step_of(name):
    """In files of some MB, the short form takes only some calls and blocks."""
    return 20 if name.startswith("some MB") and not long else 1


def random_cases(n, kills):
    for _ in range(n):
        name = chance.choice([name for name in samples if samples[name].calls])
        line = chance.choice(list(samples[name].calls))
        if kills and chance.random() < 0.5:
            yield Case(name, line, None, 0, threads=2, delay=chance.uniform(0, 1.2 * samples[name].seconds[line]))
            continue
        at = chance.randint(1, len(samples[name].calls[line]))
        on = not kills and chance.random() < 0.3
        fault = chance.choice(KILLS if kills else LASTING if on else ERRORS + HARMLESS)
        yield Case(name, line, fault, at, on, threads=2)


def cut(item):
    """A .kvot file cut at a block, and with the block before it lost: both are refused, and leave the output alone."""
    name, at, lost = item
    place = places.get("cuts " + name)
    content = samples[name].files["kvot"]
    if not place:
        place = places["cuts " + name] = Place(scratch(False) / f"{os.getpid()}.{len(places)}", {})
    damaged = content[:at] if not lost else content[: at - BLOCK] + bytes(BLOCK) + content[at:]
    if damaged == content:
        return False, None
    (place.path / "kvot").write_bytes(damaged)
    place.set(b"old")
    for line in ("verify -q kvot",) if lost else ("verify -q kvot", "restore -qf kvot -o out"):
        ran = place.run(line)
        if ran.code != 3 or not MESSAGE.fullmatch(ran.err) or place.output() != b"old" or place.leftovers():
            return True, f"{name}, block before {at} lost: {lost}, {line}: {ran}"
    return True, None


def blocks(_):
    for name, sample in samples.items():
        if sample.cold:
            continue
        for at in range(0, len(sample.files["kvot"]), BLOCK if step_of(name) == 1 else 7 * BLOCK):
            yield name, at, False
            if at > 0:
                yield name, at, True


def scratch(cold):
    """Where to work. A disk is needed only to read what is not in the page cache; it would be all that takes time."""
    return pathlib.Path(on_disk if cold else in_memory)


def run_all(pool, what, function, make, least=1):
    """Runs cases that make(n) makes, again until `least` faults came about. Returns how many did, and how many are wrong."""
    start, n, wrong = time.monotonic(), 0, []
    while n < least:
        for happened, failure in pool.imap_unordered(function, make(least - n), chunksize=8):
            n += happened
            wrong += [failure] if failure else []
    print(f"{what}: {n}, {len(wrong)} wrong, {time.monotonic() - start:.1f} s", flush=True)
    for line in wrong[:10]:
        print("  " + line, flush=True)
    return n, len(wrong)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("binary", type=os.path.abspath)
    parser.add_argument("shim", type=os.path.abspath)
    parser.add_argument("data_dir", type=pathlib.Path)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    Place.binary, Place.shim, long = arguments.binary, arguments.shim, arguments.long
    chance = random.Random(arguments.seed)
    chosen = [command for command in COMMANDS if arguments.only in command[0]]
    names = ["llama-v3-seq.bin", "slot-lfm2.bin"]
    if long:
        names = sorted(path.name for path in arguments.data_dir.glob("*.bin") if not path.name.endswith("-buf.bin"))
    memory = pathlib.Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY
    with tempfile.TemporaryDirectory() as on_disk, tempfile.TemporaryDirectory(dir=memory if roomy else None) as in_memory:
        contents = {name: {"in": (arguments.data_dir / name).read_bytes()} for name in names}
        contents["llama-v3-seq.bin"]["longer"] = longer_file(arguments.data_dir, 1, 100)
        contents["some MB"] = {"in": longer_file(arguments.data_dir, 8, 1000), "longer": longer_file(arguments.data_dir, 8, 1400)}
        samples = {}
        for name in contents:
            for cold in (False, True) if name == "some MB" else (False,):
                full = name + ", cold" * cold
                samples[full] = make_sample(full, contents[name], cold)
        calls = collections.Counter(call for sample in samples.values() for calls in sample.calls.values() for call in calls)
        print("calls:", ", ".join(f"{n} {call}" for call, n in calls.most_common()))
        with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
            cases = [case for name in samples for case in every_call(name)]
            kills = [case for case in cases if case.fault in KILLS]
            faults = [case for case in cases if case.fault not in KILLS]
            print(f"seed {arguments.seed}", flush=True)
            counts = [
                run_all(pool, "kills at every call", attempt, lambda _: kills),
                run_all(pool, "kills at random", attempt, lambda n: random_cases(n, True), RANDOM),
                run_all(pool, "faults at every call", attempt, lambda _: faults),
                run_all(pool, "faults at random", attempt, lambda n: random_cases(n, False), RANDOM),
                run_all(pool, "cut and lost blocks", cut, blocks),
            ]
    lost = sum(wrong for _, wrong in counts)
    kills, faults, cuts = counts[0][0] + counts[1][0], counts[2][0] + counts[3][0], counts[4][0]
    print(f"{kills} kills, {faults} faults, {cuts} cuts; {lost} lost")
    sys.exit(lost > 0)
