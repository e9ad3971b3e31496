"""Restores parts of caches: the first tokens, some layers. Compares with the engine's file cut in Python.

Usage: python cut.py KVOT_BINARY DATA_DIR

Without loss, every part must be the expected file bit for bit, and the bytes read those of the streams that hold a row of
it; with loss, rows must be those of a whole restore. What cannot be cut must be refused, and damaged files too.
"""
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

import xxhash

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import decoder
import llama_file
from sequence import Sequence

USAGE, BAD_FILE = 2, 3
VERBATIM = 0xFFFFFFFF


def kvot(*arguments):
    return subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)


def must(*arguments):
    result = kvot(*arguments)
    if result.returncode != 0:
        raise RuntimeError(f"kvot {' '.join(map(str, arguments))}: {result.returncode} {result.stderr}")
    return result.stdout


def part_options(tokens, layers):
    options = ["--tokens", tokens] if tokens else []
    return options + (["--layers", f"{layers.start}:{layers.stop}"] if layers else [])


def needed_bytes(packed, kept):
    """How long header, index, footer, verbatim blocks and the streams with a row of a cell that is left are together, and
    the .kvot file with all other streams overwritten."""
    spoiled = bytearray(packed)
    footer = decoder.find_footer(packed)
    index = decoder.read_index(packed[footer.index_offset:-64], footer.index_offset)
    total = 64 + footer.index_bytes + 64 + sum(s.stored_bytes for s in index.streams[:index.n_verbatim])
    at, needed = 0, set()
    for segment in index.segments:
        if segment.plane != VERBATIM and at in kept:
            view = index.views[segment.view]
            rows = [r for run in view.runs for r in range(run.first, run.first + run.count)]
            needed |= {(segment.plane, rows[cell]) for cell in kept[at]}
        at += segment.bytes
    for number, plane in enumerate(index.planes):
        first = 0
        for stream, n in zip(plane.streams, index.rowsets[plane.rowset].chunks, strict=True):
            if any((number, row) in needed for row in range(first, first + n)):
                total += stream.stored_bytes
            else:
                spoiled[stream.offset:stream.offset + stream.stored_bytes] = b"\xa5" * stream.stored_bytes
            first += n
    return total, spoiled


class Tests:
    def __init__(self, folder):
        self.folder = folder
        self.passed = self.refused = self.failed = 0

    def check(self, good, what):
        self.passed += bool(good)
        if not good:
            self.failed += 1
            print("FAILED", what)

    def part(self, name, file, packed, tokens, layers, spoil=False):
        """One part of one file: as expected, or refused. `spoil`: also where all that it does not need is damaged."""
        options, out = part_options(tokens, layers), self.folder / "part"
        what = f"{name} {' '.join(map(str, options))}"
        try:
            expected, kept = llama_file.write(file, tokens, layers)
        except llama_file.Bad:
            expected = None
        result = kvot("restore", "-f", "--json", *options, packed, "-o", out)
        if expected is None:
            self.refused += result.returncode == USAGE
            self.check(result.returncode == USAGE and not out.exists(), f"{what}: {result.returncode} {result.stderr}")
            return
        if result.returncode != 0:
            self.check(False, f"{what}: {result.returncode} {result.stderr}")
            return
        said, restored = json.loads(result.stdout), out.read_bytes()
        out.unlink()
        self.check(restored == expected, f"{what}: other bytes")
        self.check(said["bytes_written"] == len(expected), f"{what}: bytes written {said}")
        needed, spoiled = needed_bytes(packed.read_bytes(), kept)
        self.check(said["bytes_read"] == needed, f"{what}: {said['bytes_read']} bytes read, not {needed}")
        if spoil:
            changed = self.folder / "spoiled"
            changed.write_bytes(spoiled)
            result = kvot("restore", "-q", *options, changed, "-o", out)
            good = result.returncode == 0 and out.read_bytes() == expected
            self.check(good, f"{what}: needs what it should not: {result.stderr}")
            out.unlink(missing_ok=True)
        if layers:  # kvot must be able to read it, whatever else can
            out.write_bytes(expected)
            again = kvot("inspect", "--json", out)
            self.check(again.returncode == 0, f"{what}: {again.stderr}")
            out.unlink()

    def file(self, path):
        packed = self.folder / "packed"
        must("compress", "-qf", "--codec", "lossless", path, "-o", packed)
        data = path.read_bytes()
        try:
            file = llama_file.read(data)
        except llama_file.Bad:  # DSV4
            for options in part_options(1, None), part_options(None, range(0, 1)):
                result = kvot("restore", "-q", *options, packed, "-o", self.folder / "part")
                self.check(result.returncode == USAGE and "DSV4" in result.stderr, f"{path.name}: {result.stderr}")
            return
        self.check(llama_file.write(file)[0] == data, f"{path.name}: cutting nothing off changes it")
        most, layers = llama_file.most_tokens(file), llama_file.most_layers(file)
        places = {1, 2, 3, 5, 8, most // 2, most - 1, most, most + 1}
        places |= {c["n_tokens"] + i for c in file["checkpoints"] for i in (-1, 0, 1)}
        for tokens in sorted(n for n in places if n > 0):
            self.part(path.name, file, packed, tokens, None)
        for first, end in {(0, 1), (layers - 1, layers), (0, layers), (1, 2), (0, layers + 1)}:
            if 0 <= first < end:
                self.part(path.name, file, packed, None, range(first, end))
        if layers > 0 and most > 1:
            self.part(path.name, file, packed, most - 1, range(layers - 1, layers))

    def chunks(self, source):
        """Files of several chunks: cells forward and backward, and V by channel."""
        raw, packed = self.folder / "raw", self.folder / "packed"
        sequence = Sequence(source["llama-v3-seq.bin"])
        sequence.repeat(700)
        for order in "forward", "backward", "by channel":
            data = b"".join(sequence.parts())
            file = llama_file.read(data)
            block = file["sections"][0]["streams"][0]
            n = len(block["cells"])
            if order == "backward":
                block["cells"].reverse()
                for tensor in block["tensors"]:
                    tensor["data"] = llama_file.rows_of(tensor, n, range(n - 1, -1, -1))
            if order == "by channel":
                block["v_trans"] = 1
                for tensor in (t for t in block["tensors"] if t["kind"] == "V"):
                    row, rows = tensor["row"], tensor["data"]
                    tensor["head"] = tensor["head"][:4] + struct.pack("<2I", 2, row // 2)
                    tensor["data"] = b"".join(rows[i * row + c:i * row + c + 2] for c in range(0, row, 2) for i in range(n))
                    tensor["element"] = 2
            data = llama_file.write(file)[0]
            raw.write_bytes(data)
            file = llama_file.read(data)
            must("compress", "-qf", "--codec", "lossless", raw, "-o", packed)
            for tokens in 1, 12, 255, 256, 257, 511, 512, 513, 699, 700, 701:
                self.part(order, file, packed, tokens, None, spoil=True)
                self.part(order, file, packed, tokens, range(1, 2), spoil=True)

    def lossy(self, path):
        """With loss, a part has the rows of a whole restore."""
        packed, out = self.folder / "packed", self.folder / "part"
        must("compress", "-qf", "--bits", "4", path, "-o", packed)
        must("restore", "-qf", packed, "-o", out)
        whole = llama_file.read(out.read_bytes())
        for tokens, layers in (5, None), (None, range(1, 2)), (4, range(0, 1)):
            must("restore", "-qf", *part_options(tokens, layers), packed, "-o", out)
            self.check(out.read_bytes() == llama_file.write(whole, tokens, layers)[0], f"lossy {path.name} {tokens}")
            piped = subprocess.run([binary, "restore", "-q", *map(str, part_options(tokens, layers)), "-"],
                                   input=packed.read_bytes(), capture_output=True)
            self.check(piped.stdout == out.read_bytes(), f"lossy {path.name} {tokens} through pipes")

    def words(self, source):
        """Token lists: one token more than cells, as --prompt-cache leaves them; images; old session files' outputs."""
        raw, packed = self.folder / "raw", self.folder / "packed"

        def parts_of(data, *tokens):
            raw.write_bytes(data)
            must("compress", "-qf", "--codec", "lossless", raw, "-o", packed)
            for n in tokens:
                self.part("tokens", llama_file.read(data), packed, n, None)

        file = llama_file.read(source["llama-v4-seq.bin"])
        n = llama_file.most_tokens(file)
        plain = list(range(100, 100 + n))
        for words in plain, [*plain, 7], plain[:3], [], [-1, 1, n, *plain, 0]:
            parts_of(llama_file.write({**file, "words": words})[0], 2, n - 1, n)
        for words in [-1, 1, n, *plain, 1, 5, 5], [-1, 2, n, *plain, 0]:
            raw.write_bytes(llama_file.write({**file, "words": words})[0])
            must("compress", "-qf", "--codec", "lossless", raw, "-o", packed)
            result = kvot("restore", "-q", "--tokens", 2, packed, "-o", self.folder / "part")
            self.check(result.returncode == USAGE and "images" in result.stderr, f"images: {result.stderr}")
        session = llama_file.read(source["llama-v10-ses.bin"])
        old = {**session, "version": 9}
        outputs = struct.pack("<IiQ3fQ", 1, 0, 3, 1.0, 2.0, 3.0, 0)
        whole = llama_file.write({**old, "architecture": old["architecture"] + outputs})[0]
        raw.write_bytes(whole)
        must("compress", "-qf", "--codec", "lossless", raw, "-o", packed)
        nothing = {**old, "architecture": old["architecture"] + bytes(20)}
        for tokens in 3, llama_file.most_tokens(old):
            must("restore", "-qf", "--tokens", tokens, packed, "-o", raw)
            cut = tokens < llama_file.most_tokens(old)
            self.check(raw.read_bytes() == (llama_file.write(nothing, tokens)[0] if cut else whole), "old outputs")

    def really_read(self, source):
        """What the system was asked for, against what is said."""
        if not shutil.which("strace"):
            print("no strace: what is read was not looked at")
            return
        raw, packed, log = self.folder / "raw", self.folder / "packed", self.folder / "log"
        sequence = Sequence(source["llama-v3-seq.bin"])
        sequence.widen(8)
        sequence.repeat(3000)
        raw.write_bytes(b"".join(sequence.parts()))
        must("compress", "-qf", raw, "-o", packed)
        for options in part_options(300, None), part_options(None, range(1, 2)):
            for old in self.folder.glob("log*"):
                old.unlink()
            packed.read_bytes()  # into the page cache: what io_uring reads strace does not show
            command = ["strace", "-ff", "-y", "-o", log, "-e", "trace=read,pread64,preadv,preadv2", binary,
                       "restore", "-f", "--json", *map(str, options), packed, "-o", raw]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode != 0:
                print("no tracing here: what is read was not looked at")
                return
            said = json.loads(result.stdout)["bytes_read"]
            calls = []
            for each in self.folder.glob("log*"):  # one for each thread
                calls += re.findall(rf"read[^(]*\(\d+<{re.escape(str(packed))}>.* = (\d+)", each.read_text())
            asked = sum(map(int, calls))
            blocks = 3 * 4096 * len(calls)  # each read begins and ends with a block, and may have one between streams
            self.check(said <= asked <= said + blocks, f"{asked} bytes were read, not {said}")
            self.check(said < packed.stat().st_size * 0.6, f"{said} bytes read of {packed.stat().st_size}")

    def damaged(self, source):
        """Every byte of a small file changed, with and without checksums that fit: restored or refused, never worse."""
        raw, packed, out = self.folder / "raw", self.folder / "packed", self.folder / "part"
        raw.write_bytes(source["slot-gemma3.bin"])
        must("compress", "-qf", "--codec", "lossless", raw, "-o", packed)
        data = packed.read_bytes()
        footer = decoder.find_footer(data)
        file = llama_file.read(source["slot-gemma3.bin"])
        right = [llama_file.write(file, *part)[0] for part in self.PARTS]
        for i, at in enumerate(range(0, len(data), 61)):
            changed = bytearray(data)
            changed[at] ^= 1 << i % 8
            self.refuse(changed, out, right, f"byte {at} changed")
        for at in range(0, footer.index_bytes, 5):
            changed = bytearray(data)
            changed[footer.index_offset + at] ^= 1 << at % 8
            struct.pack_into("<Q", changed, len(data) - 64 + 16,
                             xxhash.xxh3_64_intdigest(bytes(changed[footer.index_offset:-64])))
            struct.pack_into("<Q", changed, len(data) - 8, xxhash.xxh3_64_intdigest(bytes(changed[-64:-8])))
            self.refuse(changed, out, None, f"byte {at} of the index changed")

    PARTS = (28, None), (None, range(0, 1))

    def refuse(self, data, out, right, what):
        """A part may not need what was changed: then it must be `right`, if that is known."""
        packed = self.folder / "damaged"
        packed.write_bytes(data)
        for i, part in enumerate(self.PARTS):
            result = kvot("restore", "-q", *part_options(*part), packed, "-o", out)
            if result.returncode == 0:
                good = right is None or out.read_bytes() == right[i]
                out.unlink()
            else:
                good = result.returncode == BAD_FILE or (right is None and result.returncode in (1, USAGE))
            self.check(good and not out.exists(), f"{what}: {result.returncode} {result.stderr}")

    def usage(self, path):
        packed, out = self.folder / "packed", self.folder / "part"
        must("compress", "-qf", path, "-o", packed)
        for options in (["--tokens", "0"], ["--tokens", "-1"], ["--tokens", "x"], ["--tokens", "99999"],
                        ["--tokens", "99999999999999999999"], ["--layers", "1"], ["--layers", "1:1"],
                        ["--layers", "2:1"], ["--layers", ":1"], ["--layers", "0:99"], ["--layers", "-1:1"]):
            result = kvot("restore", *options, packed, "-o", out)
            self.check(result.returncode == USAGE and not out.exists(), f"{options}: {result.returncode}")
        result = kvot("restore", "--tokens", "99999", packed, "-o", out)
        most = llama_file.most_tokens(llama_file.read(path.read_bytes()))
        self.check(f" {most} tokens" in result.stderr, result.stderr)


def main():
    data = pathlib.Path(sys.argv[2])
    source = {path.name: path.read_bytes() for path in data.glob("*.bin")}
    with tempfile.TemporaryDirectory() as name:
        tests = Tests(pathlib.Path(name))
        for path in sorted(data.glob("*.bin")):
            tests.file(path)
        tests.chunks(source)
        for name in "llama-v4-seq.bin", "llama-vtrans-v11-ses.bin":
            tests.lossy(data / name)
        tests.words(source)
        tests.really_read(source)
        tests.damaged(source)
        tests.usage(data / "llama-v4-seq.bin")
    print(f"{tests.passed} passed, of which {tests.refused} were refused, {tests.failed} failed")
    return tests.failed > 0 or tests.passed == 0 or tests.refused == 0


binary = os.path.abspath(sys.argv[1])
if __name__ == "__main__":
    sys.exit(main())
