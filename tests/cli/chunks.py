"""Shows that a chunk's bytes depend on its own tokens only: a longer state of the same conversation has the same chunks.

Usage: python chunks.py KVOT_BINARY DATA_DIR

Makes sequence files of 600 and 900 cells that begin alike, and compares their streams chunk by chunk."""

import os
import pathlib
import subprocess
import sys
import tempfile

from sequence import Sequence

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import decoder

SHORT, LONG = 600, 900
WHOLE_CHUNKS = SHORT // 256
SETTINGS = (["--codec", "lossless"], [], ["--bits", "2", "--group", "128"], ["--bits", "3", "--group", "32"])


def chunks(kvot, source, cells, options, directory):
    """The streams of every plane: a list of the bytes of its chunks."""
    sequence = Sequence(source)
    sequence.repeat(cells)
    raw, packed = directory / "raw", directory / "packed"
    raw.write_bytes(b"".join(sequence.parts()))
    subprocess.run([kvot, "compress", "-qf", *options, raw, "-o", packed], check=True)
    data = packed.read_bytes()
    _, _, index = decoder.decode(data)
    streams = [data[s.offset:s.offset + s.stored_bytes] for s in index.streams[index.n_verbatim:]]
    n = len(streams) // index.n_planes
    return [streams[p * n:(p + 1) * n] for p in range(index.n_planes)]


def main():
    kvot, source = sys.argv[1], (pathlib.Path(sys.argv[2]) / "llama-v3-seq.bin").read_bytes()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as name:
        for options in SETTINGS:
            short, long = (chunks(kvot, source, n, options, pathlib.Path(name)) for n in (SHORT, LONG))
            for a, b in zip(short, long, strict=True):
                good = a[:WHOLE_CHUNKS] == b[:WHOLE_CHUNKS] and a[WHOLE_CHUNKS] != b[WHOLE_CHUNKS]
                passed, failed = passed + good, failed + (not good)
    print(f"{passed} passed, {failed} failed")
    return failed > 0 or passed == 0


sys.exit(main())
