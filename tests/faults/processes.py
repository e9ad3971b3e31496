"""Several processes at one file: readers beside writers that replace it, some of which are killed; what is swept.

Usage: python processes.py KVOT_BINARY DATA_DIR [SECONDS]
"""

import fcntl
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time

from place import longer_file

FILE = "file.kvot"
TEMPORARY = re.compile(r"\.file\.kvot\.kvot-[a-z0-5]{6}")


def run(line, directory):
    done = subprocess.run([binary, *line.split()], cwd=directory, stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode, done.stdout, done.stderr


def leftovers(directory):
    return {name for name in os.listdir(directory) if TEMPORARY.fullmatch(name)}


def readers_and_writers(directory, seconds):
    """Every reader gets one of the two files whole; no writer takes away what another is writing."""
    inputs = {"short": longer_file(data_dir, 8, 300), "long": longer_file(data_dir, 8, 1000)}
    whole = {}
    for name, content in inputs.items():
        (directory / name).write_bytes(content)
        code, _, err = run(f"compress -qf --codec lossless {name} -o {FILE}", directory)
        assert code == 0, err
        whole[content] = name
    reads, writes, kills, seen, wrong = [], [], [], set(), []
    end = time.monotonic() + seconds

    def loop(step):
        while time.monotonic() < end and not wrong:
            problem = step()
            if problem:
                wrong.append(problem)

    def verify():
        code, _, err = run(f"verify -q -T1 {FILE}", directory)
        reads.append(1)
        return None if code == 0 else f"verify: {code}, {err}"

    def restore():
        code, out, err = run(f"restore -q -T1 {FILE} -o -", directory)
        reads.append(1)
        seen.add(whole.get(out))
        return None if code == 0 and out in whole else f"restore: {code}, {len(out)} bytes, {err}"

    def write(name):
        code, _, err = run(f"compress -qf -T1 --codec lossless {name} -o {FILE}", directory)
        writes.append(1)
        return None if code == 0 else f"compress: {code}, {err}"

    def killed():
        command = [binary, *f"compress -qf -T1 --codec lossless short -o {FILE}".split()]
        with subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL) as process:
            time.sleep(chance.uniform(0, 0.05))
            process.kill()
        kills.append(1)

    steps = [verify, restore, restore, lambda: write("short"), lambda: write("long"), killed]
    threads = [threading.Thread(target=loop, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{len(reads)} reads beside {len(writes)} replacements and {len(kills)} kills")
    if seen != set(inputs):
        wrong.append(f"readers saw only {seen}")
    for _ in range(50):  # what a killed process had open may stay so for a moment
        write("short")
        if not leftovers(directory):
            break
        time.sleep(0.1)
    if leftovers(directory):
        wrong.append(f"leftovers are not swept: {leftovers(directory)}")
    return wrong


def swept(directory):
    """What was left behind for the same name goes; what only looks like that stays."""
    (directory / "in").write_bytes((data_dir / "llama-v3-seq.bin").read_bytes())
    goes = {f".{FILE}.kvot-abcdef", f".{FILE}.kvot-012345"}
    stays = {f".{FILE}.kvot-abcde", f".{FILE}.kvot-abcdefg", f".{FILE}.kvot-abcdEf", f".{FILE}.kvot-abcde9",
             f"{FILE}.kvot-abcdef", ".other.kvot.kvot-abcdef"}
    for name in goes | stays:
        (directory / name).write_bytes(b"left")
    (directory / f".{FILE}.kvot-aaaaaa").mkdir()
    (directory / f".{FILE}.kvot-bbbbbb").symlink_to("in")
    os.mkfifo(directory / f".{FILE}.kvot-cccccc")
    stays |= {f".{FILE}.kvot-{letter * 6}" for letter in "abcd"}
    with open(directory / f".{FILE}.kvot-dddddd", "wb") as written:
        fcntl.flock(written, fcntl.LOCK_EX)
        for line in (f"compress -q in -o {FILE}", f"compress -qf in -o {FILE}"):
            code, _, err = run(line, directory)
            found = set(os.listdir(directory))
            if code != 0 or found != stays | {"in", FILE}:
                return [f"{line}: {code}, {err}, {found ^ (stays | {'in', FILE})}"]
    return []


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    binary, data_dir = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
    chance = random.Random(1)
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        wrong += swept(pathlib.Path(name))
    with tempfile.TemporaryDirectory() as name:
        wrong += readers_and_writers(pathlib.Path(name), float(sys.argv[3]) if len(sys.argv) > 3 else 10)
    for line in wrong:
        print("  " + line)
    sys.exit(len(wrong) > 0)
