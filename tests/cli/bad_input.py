"""Gives kvot what it must refuse: cut, changed and foreign files, full disks, closed pipes, wrong usage.

Usage: python bad_input.py KVOT_BINARY DATA_DIR

DATA_DIR holds small cache files that llama.cpp wrote. Set KVOT_SANITIZED for a binary with sanitizers: it needs more
address space and more time than is allowed otherwise.
"""

import concurrent.futures
import fcntl
import io
import json
import os
import pathlib
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

from sequence import Sequence

try:
    import xxhash
except ImportError:
    xxhash = None

SANITIZED = bool(os.environ.get("KVOT_SANITIZED"))
# A process with sanitizers takes long to start. There, damage.c does every cut and flip inside one process, and these
# try some of them from outside.
STRIDE = 23 if SANITIZED else 1
TIMEOUT = 120 if SANITIZED else 20
MEMORY = 2 << 30
DONE, FAILED, USAGE, BAD_FILE = 0, 1, 2, 3
CODECS = ("lossless", "ott")


def gguf(architecture="llama", heads=2, kv_heads=2, head_dim=32, version=3):
    """A GGUF model without tensor data."""

    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    values = [text("general.architecture") + struct.pack("<I", 8) + text(architecture)]
    for key, value in (
        ("block_count", 2),
        ("embedding_length", heads * head_dim),
        ("attention.head_count", heads),
        ("attention.key_length", head_dim),
        ("attention.value_length", head_dim),
    ):
        values.append(text(f"{architecture}.{key}") + struct.pack("<2I", 4, value))
    values.append(text("llama.attention.head_count_kv") + struct.pack("<IIQ2I", 9, 4, 2, kv_heads, kv_heads))
    values.append(text("llama.rope.freq_base") + struct.pack("<If", 6, 10000.0))
    values.append(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"))
    tensor = text("token_embd.weight") + struct.pack("<I2QIQ", 2, 64, 128, 0, 0)
    return b"GGUF" + struct.pack("<IQQ", version, 1, len(values)) + b"".join(values) + tensor


class Kvot:
    """A .kvot file, to be changed field by field (format/SPEC.md)."""

    # The index's fixed part, without its texts; then its tables: where their count is, and the fields of a record.
    FIXED = [(0, 8), (136, 8)] + [(at, 4) for at in range(144, 224, 4)]
    TABLES = (
        ("row set", 156, "4I"),
        ("position run", 160, "2I"),
        ("chunk", 164, "I"),
        ("view", 168, "4I"),
        ("view run", 172, "2I"),
        ("plane", 176, "2I6BH4I"),
        ("segment", 180, "2IQ"),
        ("stream", 184, "3Q4I3Q"),
    )

    def __init__(self, data):
        self.data = data
        self.index, self.index_bytes = struct.unpack_from("<2Q", data, len(data) - 64)
        self.fields = [(f"index byte {at}", self.index + at, size) for at, size in self.FIXED]
        at = self.index + 224
        for name, count_at, record in self.TABLES:
            count = struct.unpack_from("<I", data, self.index + count_at)[0]
            sizes = [struct.calcsize(field) for field in record_fields(record)]
            for i in {0, count - 1} if count else ():
                field_at = at + i * sum(sizes)
                for f, size in enumerate(sizes):
                    self.fields.append((f"{name} {i} field {f}", field_at, size))
                    field_at += size
            if name == "stream":
                records = struct.iter_unpack("<3Q4I3Q", data[at : at + count * 64])
                self.streams = [(record[0], record[3]) for record in records]  # offset, bytes
            at += count * sum(sizes) if name != "chunk" else (count + 1) // 2 * 8
        assert at == len(data) - 64

    def changed(self, at, size, value):
        """The file with one number of the index changed and all checksums right."""
        data = bytearray(self.data)
        data[at : at + size] = value.to_bytes(size, "little")
        end = len(data) - 64
        struct.pack_into("<Q", data, end + 16, xxhash.xxh3_64_intdigest(bytes(data[self.index : end])))
        struct.pack_into("<Q", data, end + 56, xxhash.xxh3_64_intdigest(bytes(data[end : end + 56])))
        return bytes(data)


def record_fields(record):
    """ "2IH" is "I", "I", "H"."""
    for count, letter in re.findall(r"(\d*)(\D)", record):
        yield from letter * int(count or 1)


def edge_values(size):
    values = {0, 1, (1 << (8 * size - 1)) - 1, (1 << (8 * size)) - 1}
    return sorted(values | {(1 << 31) - 1, (1 << 32) - 1} if size == 8 else values)


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __str__(self):
        return f"exit code {self.code}, {self.err.decode(errors='replace')!r}"


def run(*arguments, data=None, **options):
    """Runs kvot; `data` goes to its standard input. The code is None where it had to be stopped."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": TIMEOUT} | options
    if data is not None:
        options["input"] = data
    else:
        options.setdefault("stdin", subprocess.DEVNULL)
    try:
        done = subprocess.run([binary, *arguments], **options)
    except subprocess.TimeoutExpired:
        return Result(None, b"", b"still running")
    return Result(done.returncode, done.stdout, done.stderr)


class Group:
    """Counts checks, and prints one line at the end of a `with` block."""

    lock = threading.Lock()
    passed = failed = 0

    def __init__(self, name):
        self.name, self.good, self.bad, self.note = name, 0, [], ""

    def __enter__(self):
        self.start = time.monotonic()
        return self

    def __exit__(self, *exception):
        Group.passed += self.good
        Group.failed += len(self.bad)
        seconds = time.monotonic() - self.start
        print(f"{self.name}: {self.good} passed, {len(self.bad)} failed{self.note}, {seconds:.1f} s")
        for what in self.bad[:10]:
            print("  " + what)
        sys.stdout.flush()

    def check(self, good, what):
        with self.lock:
            if good:
                self.good += 1
            else:
                self.bad.append(what)
        return good

    def skip(self, why):
        self.note = f", skipped: {why}"

    def refused(self, result, codes, what, says=""):
        """Ended with one of these codes, and one line (two for wrong usage) that says so."""
        codes = codes if isinstance(codes, tuple) else (codes,)
        lines = 2 if result.code == USAGE else 1
        good = result.code in codes and result.err.startswith(b"kvot: ") and result.err.count(b"\n") == lines
        return self.check(good and says.encode() in result.err, f"{what}: {result}")

    def works(self, result, what):
        return self.check(result.code == DONE and result.err == b"", f"{what}: {result}")

    def leaves(self, directory, names, what):
        found = sorted(os.listdir(directory))
        return self.check(found == sorted(names), f"{what}: leaves {found}")


def each(function, items):
    """Calls function(directory, item) for all items, on a few threads, each time with an empty directory."""

    def call(item):
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            function(pathlib.Path(directory), item)

    with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count())) as pool:
        for _ in pool.map(call, items):
            pass


class Limit:
    """A resource limit for what is started inside a `with` block."""

    def __init__(self, what, value):
        self.what, self.value = what, value

    def __enter__(self):
        self.before = resource.getrlimit(self.what)
        resource.setrlimit(self.what, (self.value, self.before[1]))

    def __exit__(self, *exception):
        resource.setrlimit(self.what, self.before)


def limit_memory():
    """Sanitizers want more address space than any limit that says something."""
    return Limit(resource.RLIMIT_AS, resource.RLIM_INFINITY if SANITIZED else MEMORY)


def engine_file(name):
    return (data_dir / name).read_bytes()


def compressed(data, *options):
    """The .kvot file of an engine's file."""
    result = run("compress", "-", "-q", *options, data=data)
    assert result.code == DONE, result
    return result.out


def small_kvots():
    """(what, Kvot, step) of .kvot files of all sorts. Of streams in long ones, every fifth byte is enough."""
    for name in ("llama-one-v3-seq.bin", "lfm2-hybrid-iswa-v3-seq.bin", "slot-lfm2.bin"):
        for codec in CODECS:
            kvot = Kvot(compressed(engine_file(name), "--codec", codec))
            yield f"{name}, {codec}", kvot, 5 if len(kvot.data) > 4096 else 1


def round_trip(group, directory, data, what):
    """Refused, or compressed and restored bit for bit."""
    source, small, back = directory / "in", directory / "out", directory / "back"
    source.write_bytes(data)
    result = run("compress", "-q", "--codec", "lossless", "-T2", source, "-o", small)
    if result.code != DONE:
        group.refused(result, BAD_FILE, what)
        group.leaves(directory, ["in"], what)
        return
    result = run("restore", "-q", "-T2", small, "-o", back)
    if group.works(result, f"{what}, restore"):
        group.check(back.read_bytes() == data, f"{what}: other bytes come back")


# A plain sequence, a session, a hybrid with iSWA, and a slot with checkpoints.
SMALL = ("llama-v3-seq.bin", "llama-v11-ses.bin", "lfm2-hybrid-iswa-v3-seq.bin", "slot-lfm2.bin")


def cut_engine_files():
    with Group("engine files cut at every byte") as group, limit_memory():
        for name in SMALL:
            data = engine_file(name)
            each(lambda d, n: round_trip(group, d, data[:n], f"{name} cut at {n}"), range(0, len(data), STRIDE))


def cut_kvot_files():
    with Group(".kvot files cut at every byte") as group, limit_memory():
        for name, kvot, step in small_kvots():

            def cut(directory, n):
                what = f"{name}, cut at {n}"
                path = directory / "in"
                path.write_bytes(kvot.data[:n])
                group.refused(run("restore", "-q", path, "-o", directory / "out"), BAD_FILE, what)
                if n % 7 == 0:
                    group.refused(run("verify", path), BAD_FILE, what + ", verify")
                    group.refused(run("inspect", path), BAD_FILE, what + ", inspect")
                group.leaves(directory, ["in"], what)

            each(cut, [*range(0, kvot.index, step), *range(kvot.index, len(kvot.data))][::STRIDE])


def flip_bytes():
    with Group(".kvot files with one byte flipped") as group, limit_memory():
        for name, kvot, step in small_kvots():
            structure = [*range(64), *range(kvot.index, len(kvot.data))]
            # Between streams there are zeros, which nobody reads.
            streams = [at for offset, n in kvot.streams for at in range(offset, offset + n, step)]

            def flip(directory, item):
                at, mask = item
                path = directory / "in"
                path.write_bytes(kvot.data[:at] + bytes([kvot.data[at] ^ mask]) + kvot.data[at + 1 :])
                what = f"{name}, byte {at} xor {mask}"
                group.refused(run("verify", path), BAD_FILE, what + ", verify")
                if at % 7 == 0:
                    group.refused(run("restore", "-q", path, "-o", directory / "out"), BAD_FILE, what)
                    group.leaves(directory, ["in"], what)

            each(flip, [(at, mask) for at in structure for mask in (0xFF, 1)][::STRIDE])
            each(flip, [(at, 1 << at % 8) for at in streams][::STRIDE])


def change_index():
    with Group("index fields changed, checksums right") as group, limit_memory():
        if not xxhash:
            return group.skip("no module xxhash")
        for name, kvot, _ in small_kvots():

            def change(directory, item):
                field, at, size, value = item
                path = directory / "in"
                path.write_bytes(kvot.changed(at, size, value))
                restore = ("restore", "-q", "-f", "-o", directory / "out")
                for command in (("verify", "-q"), restore, ("inspect", "--json")):
                    result = run(*command, path)
                    what = f"{name}, {field} = {value}, {command[0]}"
                    if result.code == DONE:
                        group.works(result, what)
                    else:
                        group.refused(result, BAD_FILE, what)
                group.check(set(os.listdir(directory)) <= {"in", "out"}, f"{name}, {field} = {value}: leaves files")

            each(change, [(*field, value) for field in kvot.fields for value in edge_values(field[2])])


def change_engine_files():
    with Group("counts and lengths of engine files changed") as group, limit_memory():
        for name in ("llama-v3-seq.bin", "llama-vtrans-v3-seq.bin", "llama-one-v3-seq.bin"):
            data = engine_file(name)

            def change(directory, item):
                field, at, size, value = item
                changed = data[:at] + value.to_bytes(size, "little") + data[at + size :]
                round_trip(group, directory, changed, f"{name}, {field} = {value}")

            items = []
            for field, at in Sequence(data).at.items():
                sizes = (4, 8) if field.endswith("row_size") else (4,)
                items += [(field, at, size, value) for size in sizes for value in edge_values(size)]
            each(change, items)
        for name in sorted(path.name for path in data_dir.glob("*.bin")):
            data = engine_file(name)
            if struct.unpack_from("<I", data)[0] not in (0x6767736E, 0x67677371):
                continue
            # Every word of a small head, whatever it means.
            words = range(4, min(len(data) - 3, 120), 4)
            each(
                lambda d, item: round_trip(
                    group,
                    d,
                    data[: item[0]] + struct.pack("<I", item[1]) + data[item[0] + 4 :],
                    f"{name}, word at {item[0]} = {item[1]}",
                ),
                [(at, value) for at in words[:: 1 if name in SMALL and not SANITIZED else 9] for value in edge_values(4)],
            )


# Element type: bytes, mask of the exponent, patterns to put in: NaN, infinities, denormals, huge numbers.
SPECIAL = {
    "llama-v3-seq.bin": ("H", 0x7C00, (0x7E01, 0xFDAB, 0x7C01, 0x7C00, 0xFC00, 0x0001, 0x83FF, 0x7BFF, 0xFBFF)),
    "llama-bf16-v3-seq.bin": ("H", 0x7F80, (0x7FC1, 0xFF81, 0x7F80, 0xFF80, 0x0001, 0x807F, 0x7F7F, 0xFF7F)),
    "llama-f32-v3-seq.bin": (
        "I",
        0x7F800000,
        (0x7FC00001, 0xFF800001, 0x7F800000, 0xFF800000, 1, 0x807FFFFF, 0x7F7FFFFF, 0xFF7FFFFF),
    ),
}


def with_specials(name):
    """A file with special numbers in some rows of K and others of V."""
    letter, _, patterns = SPECIAL[name]
    sequence = Sequence(engine_file(name))
    sequence.repeat(300)
    for t, (type_, row, rows) in enumerate(sequence.tensors):
        rows = bytearray(rows)
        for i, pattern in enumerate(patterns):
            size = struct.calcsize(letter)
            for r in (0, 255) if i == 0 else (10 * i + t, 270 + i):
                struct.pack_into("<" + letter, rows, r * row + (5 * i + t) % (row // size) * size, pattern)
        sequence.tensors[t] = (type_, row, bytes(rows))
    return sequence


def special_numbers():
    with Group("NaN, infinities, denormals, huge numbers") as group:
        for name, (letter, mask, _) in SPECIAL.items():
            sequence = with_specials(name)
            data = sequence.pack()

            def finite(row):
                return all(number & mask != mask for (number,) in struct.iter_unpack("<" + letter, row))

            def one(directory, options):
                what = f"{name}, {' '.join(options)}"
                source, small, back = directory / "in", directory / "out", directory / "back"
                source.write_bytes(data)
                group.works(run("compress", "-q", *options, source, "-o", small), what)
                group.works(run("verify", "-q", small, "--against", source), what + ", verify")
                group.works(run("restore", "-q", small, "-o", back), what + ", restore")
                restored = Sequence(back.read_bytes())
                for (_, row, before), (_, _, after) in zip(sequence.tensors, restored.tensors):
                    for r in range(0, len(before), row):
                        a, b = before[r : r + row], after[r : r + row]
                        good = finite(b) if finite(a) else a == b
                        group.check(good, f"{what}: row {r // row} does not come back")
                for command in (("diff", source, small), ("inspect", small)):
                    result = run(*command, "--json")
                    group.check(result.code == DONE and is_json(result.out), f"{what}, {command[0]}: {result}")

            bits = [("--bits", bits) for bits in "2348"]
            outliers = [("--outliers", n) for n in ("0", "5", "256")]
            each(one, [*bits, *outliers, ("--codec", "lossless"), ("--group", "128", "--bits", "2")])


def is_json(text):
    def never(constant):
        raise ValueError(constant)

    try:
        json.loads(text, parse_constant=never)
    except ValueError:
        return False
    return True


def few_tokens():
    with Group("no tokens, one, fewer than a group") as group:
        names = [path.name for path in data_dir.glob("*.bin") if "-empty" in path.name or "-one-" in path.name]
        names += ["dream-nomem-v3-seq.bin", "dream-nomem-v11-ses.bin", "llama-v3-seq.bin", "llama-vtrans-v3-seq.bin"]

        def one(directory, item):
            name, options = item
            what = f"{name}, {' '.join(options)}"
            source, small, back = directory / "in", directory / "out", directory / "back"
            source.write_bytes(engine_file(name))
            group.works(run("compress", "-q", *options, source, "-o", small), what)
            group.works(run("verify", "-q", small, "--against", source), what + ", verify")
            group.works(run("restore", "-q", small, "-o", back), what + ", restore")
            same = back.read_bytes() == source.read_bytes()
            group.check(same or "lossless" not in options, f"{what}: other bytes come back")
            result = run("diff", "--json", source, small)
            group.check(result.code == DONE and is_json(result.out), f"{what}, diff: {result}")

        options = [("--codec", "lossless"), ("--bits", "2", "--group", "128"), ("--outliers", "256")]
        each(one, [(name, option) for name in names for option in options])


def foreign_files():
    with Group("files that are not ours") as group:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as torch:
            torch.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        data = engine_file("llama-v3-seq.bin")
        cases = (  # what it is, its bytes, the command, what the message names
            ("a pickle", b"\x80\x04}\x94.", ("compress",), "pickle"),
            ("an old pickle", b"\x80\x02}q\x00.", ("compress",), "pickle"),
            ("what torch.save writes", archive.getvalue(), ("compress",), "pickle"),
            ("a pickle", b"\x80\x04}\x94.", ("inspect",), "pickle"),
            ("a model", gguf(), ("compress",), "--model"),
            ("a .kvot file", compressed(data), ("compress",), ".kvot"),
            ("an engine's file", data, ("restore",), ".kvot"),
            ("an engine's file", data, ("verify",), ".kvot"),
            ("text", b"hello\n" * 99, ("compress",), ""),
            ("text", b"hello\n" * 99, ("inspect",), ""),
            ("text", b"hello\n" * 99, ("restore",), ""),
            ("zeros", bytes(4096), ("compress",), ""),
            ("nothing", b"", ("compress",), "empty"),
            ("nothing", b"", ("restore",), "empty"),
            ("nothing", b"", ("verify",), "empty"),
            ("nothing", b"", ("inspect",), "empty"),
        )

        def one(directory, case):
            what, content, command, says = case
            path = directory / "in.kvot"
            path.write_bytes(content)
            result = run(*command, path)
            group.refused(result, BAD_FILE, f"{what} given to {command[0]}", says)
            group.leaves(directory, ["in.kvot"], f"{what} given to {command[0]}")
            result = run(*command, "-", data=content)
            group.refused(result, BAD_FILE, f"{what} given to {command[0]} by a pipe", says)

        each(one, cases)
        for path in data_dir.glob("*-buf.bin"):  # states in memory, which no file of the engine is
            group.refused(run("inspect", path), BAD_FILE, path.name)


def models():
    with Group("models that do not fit or are damaged") as group:
        good = gguf()
        cases = [("its model", good, (DONE,))]
        cases += [(f"its model cut at {n}", good[:n], (BAD_FILE,)) for n in range(len(good))]
        cases += [
            ("another architecture", gguf("gemma3"), (FAILED,)),
            ("other sizes", gguf(head_dim=48, kv_heads=5), (FAILED,)),
            ("version 1", gguf(version=1), (BAD_FILE,)),
            ("version 4", gguf(version=4), (BAD_FILE,)),
            ("no model", b"not a model at all" * 9, (BAD_FILE,)),
            ("a cache", engine_file("llama-v11-ses.bin"), (BAD_FILE,)),
        ]

        def one(directory, case):
            what, content, codes = case
            model = directory / "model"
            model.write_bytes(content)
            arguments = ("-q", data_dir / "llama-v11-ses.bin", "-o", directory / "out", "--model", model)
            result = run("compress", *arguments)
            if DONE in codes:
                group.works(result, what)
            else:
                group.refused(result, codes, what)
                group.leaves(directory, ["model"], what)

        each(one, cases)
        for what, path in (("a model that is not there", scratch / "none"), ("a directory", scratch)):
            result = run("compress", data_dir / "llama-v11-ses.bin", "-o", scratch / "out", "--model", path)
            group.refused(result, FAILED, what)


def usage():
    with Group("wrong usage") as group:
        a = data_dir / "llama-v3-seq.bin"
        cases = (
            ["frobnicate"],
            ["--frobnicate"],
            [""],
            *([command] for command in ("compress", "restore", "inspect", "verify", "diff")),
            *([command, a, a] for command in ("compress", "restore", "inspect", "verify")),
            ["diff", a],
            ["diff", a, a, a],
            *(["compress", a, "--bits", n] for n in ("0", "1", "5", "9", "x", "4x", "", "4294967300", "-4")),
            *(["compress", a, "--group", n] for n in ("0", "16", "33", "256", "", "64.0")),
            *(["compress", a, f"--outliers={n}"] for n in ("-1", "257", "some", "")),
            *(["compress", a, "--codec", name] for name in ("", "zip", "OTT")),
            *(["compress", a, "-T", n] for n in ("0", "-1", "1025", "2x", "99999999999999999999")),
            *(["compress", a, option] for option in ("--bits", "-o", "--model", "-x", "--frobnicate", "--json=1")),
            ["verify", a, "--against"],
            ["verify", a, "--force"],
            ["inspect", a, "-o", "x"],
            ["restore", a],
            ["compress", "--json", a, "-o", "-"],
            ["restore", "--json", a, "-o", "-"],
            ["compress", "--json", "-"],
        )
        for case in cases:
            group.refused(run(*case), USAGE, " ".join(map(str, case)))
        for name in ("", "gpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:99999999999"):
            group.refused(run("compress", a, "--device", name), USAGE, f"--device {name!r}")
        for command in ("compress", "restore"):
            group.refused(run(command, a, "-o", "/dev/null", "--device", "cuda:999"), 4, f"{command} on no device")
        for command in (["compress", a, "-o", "/dev/null"], ["restore", a, "-o", "x"], ["verify", a], ["diff", a, a]):
            result = run(*command, env={**os.environ, "KVOT_CPU": "mmx"})
            group.refused(result, 4, f"{command[0]} at a level that is not there", says="KVOT_CPU=mmx")
        result = run()
        group.check(result.code == USAGE and b"Usage" in result.out + result.err, f"no arguments: {result}")


def places():
    """Inputs and outputs that cannot be opened, exist already, or are no plain files."""
    with Group("places to read and write") as group:
        original = engine_file("llama-v3-seq.bin")
        small = compressed(original)

        def one(directory, item):
            command, content, expected = item
            source, out = directory / "in.kvot", directory / "out"
            source.write_bytes(content)

            def fails(what, *arguments, left=("in.kvot",)):
                group.refused(run(command, "-q", *arguments), FAILED, f"{command}, {what}")
                group.leaves(directory, left, f"{command}, {what}")

            fails("a directory as input", directory, "-o", out)
            fails("no input", directory / "none", "-o", out)
            fails("a directory as output", source, "-o", directory)
            fails("a directory as output, -f", source, "-f", "-o", directory)
            fails("no such directory", source, "-o", directory / "none" / "out")
            fails("/proc", source, "-o", "/proc/kvot")
            fails("/sys", source, "-o", "/sys/kvot")
            fails("a file as directory", source, "-o", source / "out")
            fails("a full device", source, "-o", "/dev/full")
            group.works(run(command, "-q", source, "-o", "/dev/null"), f"{command} to /dev/null")
            out.write_bytes(b"old")
            fails("an existing output", source, "-o", out, left=["in.kvot", "out"])
            group.check(out.read_bytes() == b"old", f"{command}: changes an output without -f")
            link = directory / "link"
            link.symlink_to("out")
            fails("a link to an output", source, "-o", link, left=["in.kvot", "link", "out"])
            group.works(run(command, "-qf", source, "-o", link), f"{command} -f through a link")
            group.check(link.is_symlink() and out.read_bytes() == expected, f"{command} -f through a link")
            out.write_bytes(b"old")
            group.works(run(command, "-qf", source, "-o", out), f"{command} -f")
            group.check(out.read_bytes() == expected, f"{command} -f writes something else")
            result = run(command, "-q", source, "-f", "-o", source)
            group.works(result, f"{command} over its own input")
            group.check(source.read_bytes() == expected, f"{command} over its own input writes something else")
            fifo = directory / "fifo"
            os.mkfifo(fifo)
            source.write_bytes(content)
            with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
                group.works(run(command, "-q", source, "-o", fifo), f"{command} to a named pipe")
                group.check(reader.stdout.read() == expected, f"{command} to a named pipe writes something else")
            group.leaves(directory, ["fifo", "in.kvot", "link", "out"], command)

        restored = run("restore", "-", data=small).out
        each(one, [("compress", original, small), ("restore", small, restored)])

        # Names that are not UTF-8 cannot be JSON text as they are; the work is done all the same.
        directory = scratch / "names"
        directory.mkdir()
        name = os.fsencode(directory) + b"/\xff.bin"
        pathlib.Path(os.fsdecode(name)).write_bytes(original)
        result = run("compress", "--json", name)
        group.check(result.code == DONE and result.out.count(b"\n") > 1, f"a name that is not UTF-8, --json: {result}")


def full_disk():
    with Group("a full disk") as group:
        sequence = Sequence(engine_file("llama-f32-v3-seq.bin"))
        sequence.repeat(600)
        noise = random.Random(1)  # which does not become smaller
        sequence.tensors = [(type_, row, noise.randbytes(len(rows))) for type_, row, rows in sequence.tensors]
        original = sequence.pack()
        small = compressed(original, "--codec", "lossless")
        jobs = (("compress", original, "--codec", "lossless"), ("compress", original), ("restore", small))
        disk = scratch / "disk"
        disk.mkdir()

        def attempt(command, content, options, directory, why, **settings):
            source = scratch / "source"
            source.write_bytes(content)
            for old in (None, b"old"):
                what = f"{command} {' '.join(options)}, {why}, {'no' if old is None else 'an old'} output"
                if old is not None:
                    (directory / "out").write_bytes(old)
                result = run(command, "-qf", *options, source, "-o", directory / "out", **settings)
                group.refused(result, FAILED, what)
                group.leaves(directory, [] if old is None else ["out"], what)
                group.check(old is None or (directory / "out").read_bytes() == old, f"{what}: the old output is gone")
                for path in directory.iterdir():
                    path.unlink()

        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True)
        if mounted.returncode == 0:
            try:
                for command, content, *options in jobs[:1] + jobs[2:]:
                    attempt(command, content, options, disk, "a file system of 64 KiB")
                # What goes to a pipe, or comes from one, lies in a temporary file at first.
                settings = {"env": os.environ | {"TMPDIR": str(disk)}}
                result = run("compress", "-", data=original, **settings)
                group.refused(result, FAILED, "compress from a pipe, no room for a copy", "TMPDIR")
                result = run("restore", "-", data=small, **settings)
                group.refused(result, FAILED, "restore to a pipe, no room for a copy")
                group.leaves(disk, [], "pipes")
            finally:
                subprocess.run(["umount", disk], check=True)
        else:
            group.skip("a small file system cannot be mounted")

        limit = 16 << 10
        for command, content, *options in jobs:

            def start():
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

            attempt(command, content, options, disk, "a limit of 16 KiB a file", preexec_fn=start)


def pipes():
    with Group("pipes and threads") as group:
        sequence = Sequence(engine_file("llama-v3-seq.bin"))
        sequence.repeat(3000)
        inputs = [("3000 cells", sequence.pack()), *((name, engine_file(name)) for name in SMALL[2:])]

        def one(directory, item):
            (name, original), codec = item
            path = directory / "in"
            path.write_bytes(original)
            small = compressed(original, "--codec", codec, "-T1")
            (directory / "small").write_bytes(small)
            restored = run("restore", "-q", "-", "-T1", data=small).out
            if codec == "lossless":
                group.check(restored == original, f"{name}: other bytes come back")
            for threads in ("1", "2", "3", "8", "16"):
                what = f"{name}, {codec}, -T {threads}"
                options = ("-q", "-T", threads)
                for command, source, content, expected, more in (
                    ("compress", path, original, small, ("--codec", codec)),
                    ("restore", directory / "small", small, restored, ()),
                ):
                    result = run(command, *options, *more, source, "-o", directory / "out", "-f")
                    group.works(result, f"{command}, {what}")
                    group.check((directory / "out").read_bytes() == expected, f"{command}, {what}: other bytes")
                    result = run(command, *options, *more, "-", data=content)
                    group.works(result, f"{command}, {what}, pipes")
                    group.check(result.out == expected, f"{command}, {what}: other bytes through pipes")

        each(one, [(item, codec) for item in inputs for codec in CODECS])

        small = scratch / "piped.kvot"
        source = data_dir / "llama-v3-seq.bin"
        small.write_bytes(compressed(source.read_bytes()))
        commands = (
            ("compress", source, "-o", "-"),
            ("restore", small, "-o", "-"),
            ("inspect", source),
            ("inspect", small, "--json"),
            ("diff", source, small),
            ("diff", source, small, "--json"),
            ("verify", small, "--json"),
        )
        for command in commands:
            what = " ".join(map(str, command[:1] + command[2:]))
            read, write = os.pipe()
            os.close(read)
            group.refused(run(*command, "-q", stdout=write), FAILED, f"{what} to a closed pipe")
            os.close(write)
            with open("/dev/full", "wb") as full:
                group.refused(run(*command, "-q", stdout=full), FAILED, f"{what} to a full device")

        # Standard input and output go on being what they were.
        result = subprocess.run(["sh", "-c", '"$0" inspect -q "$1" >/dev/null; cat', binary, source],
                                input=b"not for kvot", capture_output=True)
        group.check(result.stdout == b"not for kvot", "takes from standard input what it was not given")
        read, write = os.pipe()
        before = fcntl.fcntl(write, fcntl.F_GETFL)
        run("restore", "-q", small, "-o", "-", stdout=write)
        os.write(write, b"more")
        os.set_blocking(read, False)
        written = os.read(read, 1 << 16)
        group.check(written.endswith(b"more") and len(written) == source.stat().st_size + 4, "closes standard output")
        group.check(fcntl.fcntl(write, fcntl.F_GETFL) == before, "changes the flags of standard output")
        os.close(read)
        os.close(write)
        directory = scratch / "closed"
        directory.mkdir()
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            out = directory / "out"
            line = f'"$0" compress -f "$1" -o "$2" {closed}'
            done = subprocess.run(["sh", "-c", line, binary, source, out], stderr=subprocess.DEVNULL, timeout=TIMEOUT)
            good = done.returncode == DONE and out.read_bytes() == small.read_bytes()
            group.check(good, f"compress {closed}: exit code {done.returncode}")
            group.leaves(directory, ["out"], f"compress {closed}")
        for command in ("compress", "restore", "verify"):
            result = subprocess.run(["sh", "-c", f'"$0" {command} - <&-', binary], capture_output=True, timeout=TIMEOUT)
            result = Result(result.returncode, result.stdout, result.stderr)
            group.refused(result, FAILED, f"{command} without standard input")
        result = run("compress", "-", data=b"x", env=os.environ | {"TMPDIR": "/nonexistent"})
        group.refused(result, FAILED, "no directory for temporary files", "TMPDIR")


def signals():
    with Group("signals") as group:
        directory = scratch / "signals"
        directory.mkdir()
        sequence = Sequence(engine_file("llama-v3-seq.bin"))
        sequence.widen(16)
        sequence.repeat((100 << 20) // sequence.cell_bytes() + 1)
        big = directory / "big"
        with open(big, "wb") as file:
            file.writelines(sequence.parts())
        small = directory / "small.kvot"
        group.works(run("compress", "-q", "--codec", "lossless", big, "-o", small, timeout=600), "compress")
        out = directory / "out"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            for command, source in (("compress", big), ("restore", small)):
                what = f"{command}, {number.name}"
                for old in (None, b"old"):
                    if old is not None:
                        out.write_bytes(old)
                    arguments = [binary, command, "-f", "-T1", source, "-o", out]
                    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
                    while process.poll() is None and not any(name.startswith(".") for name in os.listdir(directory)):
                        time.sleep(0.001)
                    process.send_signal(number)
                    err = process.communicate(timeout=600)[1]
                    group.refused(Result(process.returncode, b"", err), FAILED, what, "stopped")
                    left = ["big", "small.kvot"] + ([] if old is None else ["out"])
                    group.leaves(directory, left, what)
                    group.check(old is None or out.read_bytes() == old, f"{what}: the old output is gone")
                    out.unlink(missing_ok=True)
        # While it waits for a pipe there is no progress to stop at.
        for command in ("compress", "restore"):
            process = subprocess.Popen([binary, command, "-", "-o", out], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            process.stdin.write(b"x")
            process.stdin.flush()
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                code = None
                process.kill()
            process.communicate()
            group.check(code in (FAILED, -signal.SIGTERM), f"{command} waits for a pipe, SIGTERM: exit code {code}")
            group.leaves(directory, ["big", "small.kvot"], f"{command} waits for a pipe, SIGTERM")


GROUPS = (
    usage,
    foreign_files,
    models,
    places,
    few_tokens,
    special_numbers,
    pipes,
    full_disk,
    signals,
    change_engine_files,
    change_index,
    flip_bytes,
    cut_engine_files,
    cut_kvot_files,
)

if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    binary, data_dir = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
    wanted = sys.argv[3:]  # names of groups, for looking closer
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        for function in GROUPS:
            if not wanted or function.__name__ in wanted:
                function()
    print(f"{Group.passed} passed, {Group.failed} failed")
    sys.exit(Group.failed > 0)
