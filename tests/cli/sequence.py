"""Small sequence files of llama.cpp, made larger.

Usage: python sequence.py IN OUT TIMES

Writes IN's cells, with their K and V, TIMES times over, at positions that go on: for benchmarks, which want real rows and more of them.
"""

import struct
import sys


class Sequence:
    """A llama.cpp sequence file of one stream and one attention cache, taken apart and put together again."""

    def __init__(self, data):
        self.at = {}  # where some fields are, by name
        self.magic, self.version, n_tokens = struct.unpack_from("<3I", data)
        self.at["n_tok"] = 8
        self.tokens = list(struct.unpack_from(f"<{n_tokens}i", data, 12))
        self.tail = None  # words behind the tokens of a list that begins with -1, 1 and their number
        if self.tokens[:2] == [-1, 1]:
            n = self.tokens[2]
            self.tokens, self.tail = self.tokens[3 : 3 + n], self.tokens[3 + n :]
        at = 12 + 4 * n_tokens
        self.at["n_stream"], self.at["cell_count"] = at, at + 4
        n_cells = struct.unpack_from("<2I", data, at)[1]
        at += 8
        self.at["n_seq_id"] = at + 4
        self.cells = []  # sequence ids of each cell; positions count from 0
        for _ in range(n_cells):
            n = struct.unpack_from("<2I", data, at)[1]
            self.cells.append(data[at + 8 : at + 8 + 4 * n])
            at += 8 + 4 * n
        self.at["v_trans"], self.at["n_layer"] = at, at + 4
        self.v_trans, self.n_layers = struct.unpack_from("<2I", data, at)
        at += 8
        self.rotations = data[at : at + 8] if self.version >= 4 else b""
        at += len(self.rotations)
        self.tensors = []  # (type, row bytes or (element bytes, channels), bytes of all rows), K of all layers, then V
        for i in range(2 * self.n_layers):
            kind = "V" if i >= self.n_layers else "K"
            self.at.setdefault(kind + " type", at)
            self.at.setdefault(kind + " row_size", at + 4)
            if kind == "V" and self.v_trans:
                type_, element, channels = struct.unpack_from("<iII", data, at)
                size, row = (element, channels), element * channels
            else:
                type_, row = struct.unpack_from("<iQ", data, at)
                size = row
            at += 12
            self.tensors.append((type_, size, data[at : at + n_cells * row]))
            at += n_cells * row
        assert at == len(data) and self.pack() == data

    def parts(self):
        """The file's bytes, in pieces."""
        words = self.tokens
        if self.tail is not None:
            words = [-1, 1, len(self.tokens), *self.tokens, *self.tail]
        yield struct.pack(f"<3I{len(words)}i", self.magic, self.version, len(words), *words)
        yield struct.pack("<2I", 1, len(self.cells))
        yield b"".join(struct.pack("<iI", p, len(ids) // 4) + ids for p, ids in enumerate(self.cells))
        yield struct.pack("<2I", self.v_trans, self.n_layers) + self.rotations
        for type_, size, rows in self.tensors:
            yield struct.pack("<iII", type_, *size) if isinstance(size, tuple) else struct.pack("<iQ", type_, size)
            yield rows

    def pack(self):
        return b"".join(self.parts())

    def widen(self, times):
        """Every row `times` as long. Only for files whose V is not transposed."""
        for i, (type_, row, rows) in enumerate(self.tensors):
            wide = b"".join(rows[r : r + row] * times for r in range(0, len(rows), row))
            self.tensors[i] = (type_, row * times, wide)

    def cell_bytes(self):
        return sum(row for _, row, _ in self.tensors)

    def repeat(self, n_cells):
        """The same rows again and again, at new positions, until there are `n_cells`."""
        had = len(self.cells)
        times = n_cells // had + 1
        self.cells = (self.cells * times)[:n_cells]
        self.tokens = (self.tokens * times)[:n_cells]
        self.tensors = [(type_, row, (rows * times)[: n_cells * row]) for type_, row, rows in self.tensors]


def main():
    with open(sys.argv[1], "rb") as file:
        sequence = Sequence(file.read())
    sequence.repeat(len(sequence.cells) * int(sys.argv[3]))
    with open(sys.argv[2], "wb") as file:
        file.writelines(sequence.parts())


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main()
