"""Appends longer states of a conversation to a .kvot file, and interrupts that in every way.

Usage: python append.py KVOT_BINARY DATA_DIR

DATA_DIR holds small cache files that llama.cpp wrote. A longer conversation is made by repeating one's rows, and its
earlier states by cutting that."""

import fcntl
import json
import os
import pathlib
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

import bad_input
from bad_input import BAD_FILE, DONE, FAILED, USAGE, Group, Limit, gguf, run

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import decoder

SHORT, MIDDLE, LONG = 600, 760, 900
SETTINGS = (["--codec", "lossless"], [], ["--bits", "2", "--group", "128"], ["--bits", "3", "--outliers", "0"])
SOURCES = ("llama-v3-seq.bin", "llama-vtrans-v3-seq.bin", "llama-f32-v3-seq.bin", "llama-q8_0-v3-seq.bin")
KILLS = 60


class State:
    """A sequence file of llama.cpp with one stream and one attention cache, to be cut to its first tokens."""

    def __init__(self, data):
        self.magic, self.version, n = struct.unpack_from("<3I", data)
        words = struct.unpack_from(f"<{n}i", data, 12)
        self.listed = words[:2] == (-1, 1)  # as a server has it: -1, 1, number of tokens, tokens, number of media
        self.tokens = words[3 : 3 + words[2]] if self.listed else words
        at = 12 + 4 * n + 8
        self.cells = []
        for _ in range(struct.unpack_from("<I", data, at - 4)[0]):
            size = 8 + 4 * struct.unpack_from("<I", data, at + 4)[0]
            self.cells.append(data[at : at + size])
            at += size
        self.layers = data[at : at + (16 if self.version == 4 else 8)]
        transposed, n_layers = struct.unpack_from("<2I", data, at)
        at += len(self.layers)
        self.tensors = []  # what stands before the rows, how many runs of cells they are, the rows
        for i in range(2 * n_layers):
            _, size, channels = struct.unpack_from("<iII", data, at)
            runs = channels if transposed and i >= n_layers else 1
            end = at + 12 + len(self.cells) * size * runs
            self.tensors.append((data[at : at + 12], runs, data[at + 12 : end]))
            at = end
        assert at == len(data)

    def cut(self, n):
        """The file as it was after `n` tokens."""
        words = (-1, 1, n, *self.tokens[:n], 0) if self.listed else self.tokens[:n]
        parts = [struct.pack(f"<3I{len(words)}i2I", self.magic, self.version, len(words), *words, 1, n)]
        parts += [*self.cells[:n], self.layers]
        for before, runs, rows in self.tensors:
            run_bytes = len(rows) // runs
            kept = run_bytes // len(self.cells) * n
            parts += [before, *(rows[r * run_bytes : r * run_bytes + kept] for r in range(runs))]
        return b"".join(parts)


    def repeat(self, n):
        """The same rows again and again, at new positions, until there are `n`."""
        had = len(self.cells)
        times = n // had + 1
        self.tokens = (self.tokens * times)[:n]
        self.cells = [struct.pack("<i", i) + self.cells[i % had][4:] for i in range(n)]
        for i, (before, runs, rows) in enumerate(self.tensors):
            step = len(rows) // runs
            longer = [(rows[at : at + step] * times)[: step // had * n] for at in range(0, len(rows), step)]
            self.tensors[i] = (before, runs, b"".join(longer))


def longer(data_dir, name, cells=LONG):
    state = State((data_dir / name).read_bytes())
    state.repeat(cells)
    return state


class Folder:
    """A directory with files of one conversation."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def __getitem__(self, name):
        return (self.path / name).read_bytes()

    def __setitem__(self, name, data):
        (self.path / name).write_bytes(data)

    def run(self, *arguments, **options):
        return run(*arguments, cwd=self.path, **options)

    def compress(self, data, *options):
        """A .kvot file of these bytes."""
        self["in"] = data
        result = self.run("compress", "-qf", *options, "in", "-o", "out")
        assert result.code == DONE, result
        return self["out"]

    def restore(self, data):
        """What a .kvot file restores to, or None where it is refused as damaged."""
        self["in"] = data
        result = self.run("restore", "-qf", "in", "-o", "out")
        return None if result.code == BAD_FILE else self["out"] if result.code == DONE else result

    def append(self, old, data, *options):
        """The .kvot file `old` after appending, and what --json says. `written`: when it was written before."""
        self["grown.kvot"], self["in"] = old, data
        self.written = os.stat(self.path / "grown.kvot").st_mtime_ns
        result = self.run("compress", "--json", "--append", "grown.kvot", *options, "in")
        assert result.code == DONE, result
        return self["grown.kvot"], json.loads(result.out)


def planes(folder, data):
    """What inspect says of each plane, but for its stored size."""
    folder["in"] = data
    found = json.loads(folder.run("inspect", "--json", "in").out)["planes"]
    return [{k: v for k, v in plane.items() if k != "stored_bytes"} for plane in found]


def grown_files(folder, data_dir):
    with Group("grown conversations") as group:
        for name in SOURCES:
            state = longer(data_dir, name)
            for options in SETTINGS:
                what = f"{name} {options}"
                file = folder.compress(state.cut(SHORT), *options)
                for cells in (MIDDLE, LONG):
                    old, data = file, state.cut(cells)
                    file, said = folder.append(old, data)
                    fresh = folder.compress(data, *options)
                    group.check(file.startswith(old), f"{what}: old bytes moved")
                    n = len(state.tensors)
                    kept = 2 * n  # SHORT and MIDDLE have two whole chunks of 256
                    group.check((said["kept_chunks"], said["new_chunks"]) == (kept, (cells // 256 + 1) * n - kept),
                                f"{what}, {cells}: {said}")
                    group.check(said["written_bytes"] == len(file) - len(old), f"{what}: {said}, {len(file)}")
                    group.check(len(file) - len(old) < len(fresh), f"{what}: more was written than a new file has")
                    decoded, _, _ = decoder.decode(file, strict=True)
                    group.check(decoded == folder.restore(file) == folder.restore(fresh), f"{what}: another restore")
                    group.check("lossless" not in options or decoded == data, f"{what}: not the same bytes come back")
                    group.check(planes(folder, file) == planes(folder, fresh), f"{what}: inspect says something else")
                    folder["in"], folder["grown.kvot"] = data, file
                    group.works(folder.run("verify", "-q", "grown.kvot", "--against", "in"), f"{what}: verify")


def same_files(folder, data_dir):
    """Every kind of file, with itself appended: nothing is new."""
    with Group("every file appended to itself") as group:
        for path in sorted(data_dir.glob("*.bin")):
            data = path.read_bytes()
            for options in SETTINGS[:2]:
                old = folder.compress(data, *options)
                file, said = folder.append(old, data)
                group.check(file == old and said["new_chunks"] == said["written_bytes"] == 0, f"{path.name}: {said}")
                group.check(said["stored_bytes"] == len(old), f"{path.name}: {said}, not {len(old)}")
                group.check(folder.written == os.stat(folder.path / "grown.kvot").st_mtime_ns, f"{path.name}: written to")
                decoded, _, index = decoder.decode(file, strict=True)
                streams = sum(len(plane.streams) for plane in index.planes)
                group.check(said["kept_chunks"] == streams, f"{path.name}: {said}, not {streams}")
                group.check(decoded == folder.restore(old), f"{path.name}: restores to something else")


def changed_rows(folder, data_dir):
    with Group("rows are compared, not only tokens") as group:
        state = longer(data_dir, "llama-v3-seq.bin")
        data = bytearray(state.cut(LONG))
        data[data.index(state.tensors[0][2][:1000]) + 700] ^= 1  # one value of layer 0, K
        for options in SETTINGS[:2]:
            old = folder.compress(state.cut(SHORT), *options)
            file, said = folder.append(old, data)
            group.check(said["kept_chunks"] == 2 * len(state.tensors) - 2, f"K and V of a chunk are new: {said}")
            group.check(folder.restore(file) == folder.restore(folder.compress(data, *options)), f"{options}: restore")
        # What an interrupted append has left is cut off also where there is nothing new.
        old = folder.compress(state.cut(SHORT))
        group.check(folder.append(old + bytes(9999), state.cut(SHORT))[0] == old, "what is left behind is cut off")
        # A cache that was restored and gone on with is not quantized a second time.
        old = folder.compress(state.cut(512))
        restored = State(folder.restore(old))
        restored.tokens, restored.cells = state.tokens, state.cells
        restored.tensors = [(before, 1, rows + all_rows[len(rows) :])
                            for (before, _, rows), (_, _, all_rows) in zip(restored.tensors, state.tensors)]
        data = restored.cut(LONG)
        file, said = folder.append(old, data)
        group.check(said["kept_chunks"] == 2 * len(state.tensors), f"restored chunks are kept: {said}")
        folder["in"], folder["grown.kvot"] = data, file
        group.works(folder.run("verify", "-q", "grown.kvot", "--against", "in"), "restored and gone on: verify")
        group.check(planes(folder, file)[0]["relative_rms_error"] > 0, "the loss of the first compression is kept")


def old_streams_are_not_read(folder, data_dir):
    with Group("old streams are not read") as group:
        state = longer(data_dir, "llama-v3-seq.bin")
        old = bytearray(folder.compress(state.cut(SHORT)))
        _, _, index = decoder.decode(bytes(old))
        for plane in index.planes:
            for stream in plane.streams:
                end = stream.offset + stream.stored_bytes
                old[stream.offset : end] = bytes(b ^ 0xFF for b in old[stream.offset : end])
        file, said = folder.append(bytes(old), state.cut(LONG))
        group.check(said["kept_chunks"] == 2 * len(state.tensors), f"{said}")
        group.check(folder.restore(file) is None, "a kept stream that is damaged is found")


def interrupted(folder, data_dir):
    """Every end that an append may have come to, the old state is what counts; then the next append goes through."""
    with Group("interrupted appends") as group:
        state = longer(data_dir, "llama-v3-seq.bin")
        short, long = state.cut(SHORT), state.cut(LONG)
        old = folder.compress(short)
        new, _ = folder.append(old, long)
        before, after = folder.restore(old), folder.restore(new)
        index_at = struct.unpack_from("<Q", new, len(new) - 64)[0]
        noise = random.Random(1).randbytes(len(new))
        start = -(-len(old) // 4096) * 4096
        cases = {f"cut at {n}": new[:n] for n in range(len(old), len(new), 512)}
        cases |= {f"noise to {n}": new[:start] + noise[start:n] for n in range(start, len(new), 4096)}
        cases["no footer"] = new[:-64]
        cases["zeros for a footer"] = new[:-64] + bytes(64)
        cases["half a footer"] = new[:-64] + new[-64:-32] + bytes(32)
        cases["zeros to the footer"] = old + bytes(len(new) - len(old) - 32) + new[-32:]
        cases |= {f"footer byte {i}": new[: i - 64] + bytes([new[i - 64] ^ 1]) + new[len(new) + i - 63 :] for i in range(64)}
        for what, data in cases.items():
            group.check(folder.restore(data) == before, f"{what}: not the old state")
            decoded, _, _ = decoder.decode(data, strict=True)
            group.check(decoded == before, f"{what}: not the old state to the decoder")
            result = folder.run("verify", "in")
            says = f"{len(data) - len(old)} bytes behind the end of the cache are left from an interrupted append".encode()
            group.check(result.code == DONE and (says in result.err) == (len(data) > len(old)), f"{what}: {result}")
        for what in ("cut at", "noise to", "zeros"):
            data = next(data for name, data in reversed(cases.items()) if name.startswith(what))
            group.check(folder.append(data, long)[0] == new, f"{what}: the next append")
        folder["in"] = cases["no footer"]
        said = json.loads(folder.run("inspect", "--json", "in").out)
        group.check(said["leftover_bytes"] == len(new) - 64 - len(old), "inspect says what is left over")
        group.check(said["stored_bytes"] == len(old), "inspect says how long the cache is")
        folder["in"] = new
        said = json.loads(folder.run("inspect", "--json", "in").out)
        decoded, _, index = decoder.decode(new)
        used = sum(stream.stored_bytes for stream in index.streams) + len(new) - index_at + 64
        group.check(said["unused_bytes"] == len(new) - used, "inspect says how much is not used")
        group.check(decoded == after == folder.restore(folder.compress(long)), "the new state")
        # Twice as long, and cut inside of the second append: the first one counts.
        again, _ = folder.append(folder.append(old, state.cut(MIDDLE))[0], long)
        group.check(folder.restore(again[:-65]) == folder.restore(folder.compress(state.cut(MIDDLE))), "the first of two")

        damaged = {f"cut at {n}": new[:n] for n in range(0, len(old), 512)}
        damaged |= {f"old footer byte {i}": old[: i - 64] + bytes([old[i - 64] ^ 1]) + old[len(old) + i - 63 :] for i in range(64)}
        damaged["a byte behind an old file"] = old + b"\n"
        damaged["a damaged index"] = new[:index_at] + b"\1" + new[index_at + 1 :]
        damaged["a damaged stream that was kept"] = new[:20000] + bytes([new[20000] ^ 1]) + new[20001:]
        for what, data in damaged.items():
            group.check(folder.restore(data) is None, f"{what}: not refused")
            group.refused(folder.run("verify", "-q", "in"), BAD_FILE, f"{what}: verify")


def killed(folder, data_dir):
    with Group("killed appends") as group:
        state = longer(data_dir, "llama-f32-v3-seq.bin", 20000)
        old, long = folder.compress(state.cut(19000)), state.cut(20000)
        start = time.monotonic()
        new, _ = folder.append(old, long)
        seconds = time.monotonic() - start
        states = {folder.restore(old): "old", folder.restore(new): "new"}
        folder["long"], ends, chance = long, {"old": 0, "new": 0}, random.Random(2)
        for i in range(KILLS):
            folder["grown.kvot"] = old
            with start_append(folder, "long") as process:
                time.sleep(chance.uniform(0, seconds))
                process.send_signal(signal.SIGKILL if i % 3 else signal.SIGTERM)
            end = folder["grown.kvot"]
            state_now = states.get(folder.restore(end), "neither")
            if group.check(state_now in ends and end.startswith(old), f"after a kill: {state_now} state"):
                ends[state_now] += 1
            group.check(i % 3 or end in (old, new), "after SIGTERM the file is as long as it was, or complete")
            group.check(state_now == "new" or folder.append(end, long)[0] == new, "the append after a kill")
        group.note = f", {ends['old']} old and {ends['new']} new states"


def start_append(folder, name):
    return subprocess.Popen([bad_input.binary, "compress", "-q", "--append", "grown.kvot", name], cwd=folder.path,
                            stderr=subprocess.DEVNULL)


def read_meanwhile(folder, data_dir):
    """Readers of a file that grows, with some of the appends killed: each sees one of its states, whole."""
    with Group("readers of a growing file") as group:
        state = longer(data_dir, "llama-f32-v3-seq.bin", 8000)
        sizes = range(5000, 8001, 100)
        states = {folder.restore(folder.compress(state.cut(n))): n for n in sizes}
        stop, seen, strange = threading.Event(), [], []

        def read(number):
            while not stop.is_set():
                result = folder.run("restore", "-qf", "grown.kvot", "-o", f"read{number}")
                found = states.get(folder[f"read{number}"]) if result.code == DONE else None
                (seen if found else strange).append(found or str(result))

        folder["grown.kvot"] = folder.compress(state.cut(sizes[0]))
        readers = [threading.Thread(target=read, args=(n,)) for n in range(2)]
        for reader in readers:
            reader.start()
        chance = random.Random(3)
        for n in sizes[1:]:
            folder["longer"] = state.cut(n)
            with start_append(folder, "longer") as process:
                if n % 200:
                    time.sleep(chance.uniform(0, 0.03))
                    process.kill()
        stop.set()
        for reader in readers:
            reader.join()
        group.check(not strange, f"{len(strange)} strange reads: {strange[:3]}")
        group.check(len(set(seen)) > 3, f"{len(seen)} reads saw {len(set(seen))} states")
        group.note = f", {len(seen)} reads saw {len(set(seen))} states"


def refusals(folder, data_dir):
    with Group("refusals") as group:
        state = longer(data_dir, "llama-v3-seq.bin")
        old = folder.compress(state.cut(SHORT))
        long = state.cut(LONG)
        other = bytearray(long)
        struct.pack_into("<i", other, 12 + 4 * (SHORT - 1), 999)  # the last of the old tokens
        bf16 = longer(data_dir, "llama-bf16-v3-seq.bin")
        bf16.tokens = state.tokens
        fixed = folder.compress(state.cut(SHORT), "--outliers", "3")
        folder["model"], folder["other"], folder["gemma"] = gguf(), gguf(heads=4), gguf("gemma3")
        of_model = folder.compress(state.cut(SHORT), "--model", "model")
        slot = (data_dir / "slot-lfm2.bin").read_bytes()

        def refused(what, code, says, file, data, *options):
            folder["grown.kvot"], folder["in"] = file, data
            result = folder.run("compress", "--append", "grown.kvot", *options, "in")
            good = result.code == code and result.err.startswith(b"kvot: ") and says.encode() in result.err
            group.check(good, f"{what}: {result}")
            group.check(folder["grown.kvot"] == file, f"{what}: the file was changed")

        refused("another token", FAILED, "do not begin", old, other)
        refused("fewer tokens", FAILED, "fewer tokens", old, state.cut(SHORT - 1))
        refused("another type", FAILED, "other layers", old, bf16.cut(LONG))
        refused("another model", FAILED, "", old, slot)
        refused("a fixed number of outliers", USAGE, "cannot be appended to", fixed, long)
        refused("a .kvot file", BAD_FILE, "is a .kvot file", old, old)
        refused("no cache", BAD_FILE, "not a cache", old, b"something else")
        refused("to an engine's file", BAD_FILE, "not a .kvot file", state.cut(SHORT), long)
        refused("to something else", BAD_FILE, "", b"something else", long)
        refused("to a damaged file", BAD_FILE, "damaged", old[:-1], long)
        refused("to a file with damaged tokens", BAD_FILE, "", old[:70] + bytes([old[70] ^ 1]) + old[71:], long)
        refused("another model's file", FAILED, "another model", of_model, long, "--model", "other")
        refused("another architecture", FAILED, "another model", of_model, long, "--model", "gemma")
        refused("a model, but the file does not say which", FAILED, "does not say", old, long, "--model", "model")
        for option in (["--codec", "ott"], ["--bits", "4"], ["--group", "64"], ["--outliers", "auto"], ["-f"],
                       ["-o", "out"]):
            refused(f"with {option}", USAGE, "--append", old, long, *option)
        for room in (1, 4096, 20000, 60000):  # the disk is full
            folder["grown.kvot"], folder["in"] = old, long
            with Limit(resource.RLIMIT_FSIZE, len(old) + room):
                result = folder.run("compress", "--append", "grown.kvot", "in")
            group.refused(result, FAILED, f"room for {room} bytes", "cannot write")
            group.check(folder["grown.kvot"] == old, f"room for {room} bytes: the file was changed")
        with open(folder.path / "grown.kvot") as locked:
            fcntl.flock(locked, fcntl.LOCK_EX)
            refused("two appends", FAILED, "another append", old, long)
        for name, code in (("missing", FAILED), ("-", USAGE), (".", FAILED), ("/dev/null", FAILED)):
            result = folder.run("compress", "--append", name, "in")
            group.check(result.code == code and result.err.startswith(b"kvot: "), f"--append {name}: {result}")
        file, said = folder.append(of_model, long, "--model", "model")
        group.check(file == folder.append(of_model, long)[0] and said["kept_chunks"] > 0, "with and without the model")
        group.check({p["heads"] for p in planes(folder, file)} == {2}, "heads are those of the file")
        folder["in"] = file
        group.check(json.loads(folder.run("inspect", "--json", "in").out)["model"] is not None, "the model stays known")


def main():
    bad_input.binary = os.path.abspath(sys.argv[1])
    data_dir = pathlib.Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Folder(name)
        for test in (grown_files, same_files, changed_rows, old_streams_are_not_read, interrupted, killed, read_meanwhile,
                     refusals):
            test(folder, data_dir)
    print(f"{Group.passed} passed, {Group.failed} failed")
    return Group.failed > 0 or Group.passed == 0


if __name__ == "__main__":
    sys.exit(main())
