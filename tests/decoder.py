#!/usr/bin/env python3
"""A slow and simple decoder of .kvot files, written from format/SPEC.md alone and in its order.

    decoder.py FILE.kvot OUT      write the source again
    decoder.py --check FILE.kvot  decode and check everything, print a summary

Exit codes: 0 good, 1 a file cannot be read or written, 2 wrong usage, 3 not a good .kvot file.
Needs numpy and xxhash, and zstandard or the command zstd.
"""
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import xxhash

try:
    import zstandard
except ImportError:
    zstandard = None

MIB = 1 << 20
K, V, STATE = 0, 1, 2
CHANNEL_MAJOR = 1
LOSSLESS_CODEC, OTT_CODEC = 0, 1
LOSSLESS_STREAM, OTT_STREAM = 1, 2
F32, F16, BF16 = 1, 2, 3
VERBATIM = 0xFFFFFFFF


class NotGood(Exception):
    """The file breaks a rule of the format."""


def need(condition, rule):
    if not condition:
        raise NotGood(rule)


def align(n, step):
    return -(-n // step) * step


# ---- Conventions

def checksum(data):
    return xxhash.xxh3_64_intdigest(data)


def text(field, name):
    need(field.endswith(b"\0"), f"{name} does not end in NUL")
    value, _, padding = field.partition(b"\0")
    need(not any(padding), f"{name} is not padded with NUL")
    need(all(0x20 <= byte <= 0x7E for byte in value), f"{name} is not printable ASCII")
    return value.decode()


def layout(fields):
    """A record without padding. V8 is eight raw bytes, 8u4 eight numbers."""
    formats, names = zip(*(field.split() for field in fields.split(",")))
    return np.dtype({"names": names, "formats": formats}).newbyteorder("<")


def records(data, offset, record, count=1):
    """The records at this offset, their fields as Python values. The caller has made sure that they are there."""
    rows = np.frombuffer(data, record, count, offset).tolist()
    return [SimpleNamespace(**dict(zip(record.names, row))) for row in rows]


# ---- The whole file: header, streams, index, footer

HEADER = layout("V8 magic, u4 version, u4 header_bytes, u8 incompatible, u8 compatible, V24 writer, u8 checksum")
FOOTER = layout("u8 index_offset, u8 index_bytes, u8 index_checksum, u8 file_bytes, 2u8 reserved, V8 magic,"
                "u8 checksum")
END_MAGIC = b"KVOTEND\n"


def read_header(data):
    need(data[:8] == b"\x89KVOT\r\n\x1a", "not a .kvot file")
    need(len(data) >= 128, "shorter than a header and a footer")
    header, = records(data, 0, HEADER)
    need(header.version == 0, f"version {header.version} is not known")
    need(header.header_bytes == 64, "wrong length of the header")
    need(header.checksum == checksum(data[:56]), "wrong checksum of the header")
    need(header.incompatible == 0, "it has features that are not known")
    header.writer = text(header.writer, "writer")
    return header


def read_footer(data, end):
    """The footer of the file if it ended here."""
    footer, = records(data, end - 64, FOOTER)
    need(footer.magic == END_MAGIC, "no footer: the file is cut off or damaged")
    need(footer.checksum == checksum(data[end - 64:end - 8]), "wrong checksum of the footer")
    need(footer.file_bytes == end, "wrong length of the file")
    need(footer.index_offset % 64 == 0 and footer.index_offset >= 64, "wrong offset of the index")
    need(footer.index_offset + footer.index_bytes + 64 == end, "the index does not end at the footer")
    need(not any(footer.reserved), "a reserved field of the footer is not zero")
    return footer


def earlier_footer(data, end):
    """The last footer that ends before `end`, where there is one."""
    while (at := data.rfind(END_MAGIC, 64 + 48, end - 9)) >= 0:
        end = at + 16
        try:
            if end % 8 == 0:
                return read_footer(data, end)
        except NotGood:
            pass


def find_footer(data):
    """The footer that counts: the last one. Behind it may be what an interrupted append left."""
    try:
        return read_footer(data, len(data))
    except NotGood:
        footer = earlier_footer(data, len(data))
        if footer is None:
            raise
    need(not any(data[footer.file_bytes:align(footer.file_bytes, 4096)]), "bytes behind the footer are not zero")
    return footer


# ---- Index

INDEX = layout("u8 source_bytes, V16 engine, V64 variant, V32 architecture, V16 model, u8 tokens_offset, u4 n_tokens,"
               "u4 rope_channels, f4 rope_base, u4 n_rowsets, u4 n_position_runs, u4 n_chunks, u4 n_views,"
               "u4 n_view_runs, u4 n_planes, u4 n_segments, u4 n_streams, u4 n_verbatim, 8u4 reserved")
TABLES = {
    "rowsets": layout("u4 n_rows, u4 n_position_runs, u4 n_chunks, u4 n_planes"),
    "position_runs": layout("u4 first, u4 count"),
    "chunks": layout("u4 rows"),
    "views": layout("u4 rowset, u4 n_cells, u4 n_runs, u4 reserved"),
    "view_runs": layout("u4 first, u4 count"),
    "planes": layout("u4 rowset, u4 layer, u1 kind, u1 type, u1 layout, u1 codec, u1 bits, u1 rule, u2 group,"
                     "u4 row_bytes, u4 heads, u4 exact_rows, u4 reserved"),
    "segments": layout("u4 plane, u4 view, u8 bytes"),
    "streams": layout("u8 offset, u8 stored_checksum, u8 decoded_checksum, u4 stored_bytes, u4 decoded_bytes, u4 type,"
                      "u4 reserved, f8 error, f8 energy, f8 worst"),
}

# Element types: name, elements in a block, bytes of a block, leading bytes
TYPES = [("opaque", 1, 1, 0), ("f32", 1, 4, 4), ("f16", 1, 2, 2), ("bf16", 1, 2, 2), ("q4_0", 32, 18, 2),
         ("q4_1", 32, 20, 4), ("q5_0", 32, 22, 2), ("q5_1", 32, 24, 4), ("q8_0", 32, 34, 2), ("iq4_nl", 32, 18, 2)]


def read_index(data, index_offset):
    need(len(data) >= INDEX.itemsize, "the index is too short")
    index, = records(data, 0, INDEX)
    need(not any(index.reserved), "a reserved field of the index is not zero")
    for name in ("engine", "variant", "architecture"):
        setattr(index, name, text(getattr(index, name), name))
    offset = INDEX.itemsize
    for name, record in TABLES.items():
        count = getattr(index, "n_" + name)
        end = offset + count * record.itemsize
        need(align(end, 8) <= len(data), f"the index ends inside of {name}")
        setattr(index, name, records(data, offset, record, count))
        offset = align(end, 8)
        need(not any(data[end:offset]), "the padding of chunks is not zero")
    need(offset == len(data), "the index is longer than its tables")
    need(index.n_tokens == 0 or index.tokens_offset + 4 * index.n_tokens <= index.source_bytes,
         "the tokens are not in the source")
    check_rowsets(index)
    check_views(index)
    check_planes(index)
    check_segments(index)
    check_streams(index, index_offset)
    return index


def take(table, count, what):
    need(count <= len(table), f"row sets and views have more {what} than there are")
    taken, table[:count] = table[:count], []
    return taken


def check_rowsets(index):
    positions, chunks, planes = list(index.position_runs), list(index.chunks), list(index.planes)
    for number, rowset in enumerate(index.rowsets):
        need(all(vars(rowset).values()), "a count of a row set is zero")
        runs = take(positions, rowset.n_position_runs, "position runs")
        need(all(run.count for run in runs), "a run is empty")
        need(sum(run.count for run in runs) == rowset.n_rows, "position runs do not add up to the rows")
        need(all(run.first + run.count <= 1 << 31 for run in runs), "a position is not below 2^31")
        rowset.chunks = [chunk.rows for chunk in take(chunks, rowset.n_chunks, "chunks")]
        need(all(1 <= rows <= 256 for rows in rowset.chunks), "a chunk does not have 1 to 256 rows")
        need(sum(rowset.chunks) == rowset.n_rows, "chunks do not add up to the rows")
        rowset.planes = take(planes, rowset.n_planes, "planes")
        need(all(plane.rowset == number for plane in rowset.planes), "planes are not in the order of their row sets")
        layers = [plane.layer for plane in rowset.planes]
        need(layers == sorted(layers), "layers fall within a row set")
    need(not positions and not chunks and not planes, "position runs, chunks or planes without a row set")


def check_views(index):
    runs = list(index.view_runs)
    order = [view.rowset for view in index.views]
    need(order == sorted(order), "views are not in the order of their row sets")
    need(set(order) == set(range(len(index.rowsets))), "a row set without a view, or a view without a row set")
    seen = [np.zeros(rowset.n_rows, bool) for rowset in index.rowsets]
    for view in index.views:
        need(view.reserved == 0, "a reserved field of a view is not zero")
        view.runs = take(runs, view.n_runs, "view runs")
        need(view.n_cells > 0, "a view is empty")
        need(sum(run.count for run in view.runs) == view.n_cells, "view runs do not add up to the cells")
        for run in view.runs:
            need(run.count > 0, "a run is empty")
            need(run.first + run.count <= len(seen[view.rowset]), "a view shows a row that is not there")
            seen[view.rowset][run.first:run.first + run.count] = True
    need(not runs, "view runs without a view")
    need(all(rows.all() for rows in seen), "a row is in no view")


def check_planes(index):
    for plane in index.planes:
        need(plane.kind <= STATE and plane.type < len(TYPES) and plane.layout <= 1 and plane.codec <= 1,
             "kind, element type, layout or codec of a plane is not known")
        need(plane.reserved == 0, "a reserved field of a plane is not zero")
        _, block_elements, block_bytes, _ = TYPES[plane.type]
        need(1 <= plane.row_bytes <= 16 * MIB, "a row is not 1 byte to 16 MiB long")
        need(plane.row_bytes % block_bytes == 0, "a row is not a number of blocks")
        plane.channels = plane.row_bytes // block_bytes * block_elements
        need(plane.heads >= 1 and plane.channels % plane.heads == 0, "a row cannot be cut into its heads")
        need(plane.layout != CHANNEL_MAJOR or block_elements == 1, "a channel-major plane has blocks")
        if plane.codec == OTT_CODEC:
            need(plane.type in (F32, F16, BF16) and plane.kind in (K, V), "a plane that must not use ott does")
            need(plane.bits in (2, 3, 4, 8) and plane.group in (32, 64, 128), "wrong bits or group length")
            need(plane.rule == 1 or (plane.rule == 0 and plane.exact_rows == 0), "wrong outlier rule")
        else:
            need(not (plane.bits or plane.rule or plane.group or plane.exact_rows), "a lossless plane has ott settings")


def check_segments(index):
    shown = set()
    for segment in index.segments:
        need(segment.bytes > 0, "a segment is empty")
        if segment.plane == VERBATIM:
            need(segment.view == 0, "a verbatim segment with a view")
            continue
        need(segment.plane < len(index.planes) and segment.view < len(index.views), "a segment of no plane or view")
        plane, view = index.planes[segment.plane], index.views[segment.view]
        need(plane.rowset == view.rowset, "a segment with a view of another row set")
        need(segment.bytes == view.n_cells * plane.row_bytes, "wrong length of a segment")
        need((segment.plane, segment.view) not in shown, "a plane occurs twice with a view")
        shown.add((segment.plane, segment.view))
    need(len(shown) == sum(index.rowsets[view.rowset].n_planes for view in index.views), "a plane lacks a view")
    need(sum(segment.bytes for segment in index.segments) == index.source_bytes, "segments do not add up to the source")


def check_streams(index, index_offset):
    """Also gives the index its verbatim streams, and each plane its own."""
    streams = list(index.streams)
    left = sum(segment.bytes for segment in index.segments if segment.plane == VERBATIM)
    need(index.n_verbatim == align(left, MIB) // MIB, "wrong number of verbatim blocks")
    index.verbatim = take(streams, index.n_verbatim, "streams")
    for stream in index.verbatim:
        need(stream.type == LOSSLESS_STREAM and stream.decoded_bytes == min(left, MIB), "wrong verbatim block")
        left -= stream.decoded_bytes
    for plane in index.planes:
        chunks = index.rowsets[plane.rowset].chunks
        plane.streams = take(streams, len(chunks), "streams")
        for stream, rows in zip(plane.streams, chunks):
            need(stream.type == (OTT_STREAM if plane.codec == OTT_CODEC else LOSSLESS_STREAM), "wrong type of a stream")
            need(stream.decoded_bytes == rows * plane.row_bytes <= 16 * MIB, "wrong length of a decoded stream")
    need(not streams, "streams without a plane")
    for stream in index.streams:
        need(stream.reserved == 0, "a reserved field of a stream is not zero")
        loss = (stream.error, stream.energy, stream.worst)
        need(all(0 <= x < np.inf for x in loss) and (stream.type == OTT_STREAM or not any(loss)),
             "a stream has an impossible loss")
        need(stream.offset % 64 == 0, "a stream does not start on a multiple of 64")
        need(64 <= stream.offset and stream.offset + stream.stored_bytes <= index_offset, "a stream is out of place")


def check_places(data, index, index_offset):
    """Streams are apart, what is between them is zero, and extents are aligned. A reader does not need this.

    Where something was appended, bytes between streams may be dead, and an extent may begin with one that is."""
    appended = earlier_footer(data, index_offset + 1) is not None
    end = 64
    extent = 0
    for stream in sorted(index.streams, key=lambda stream: stream.offset):
        need(end <= stream.offset, "streams overlap")
        need(appended or not any(data[end:stream.offset]), "a gap is not zero")
        if not appended and stream.offset - extent >= MIB:
            need(stream.offset % 4096 == 0, "an extent does not start on a multiple of 4096")
            extent = stream.offset
        end = stream.offset + stream.stored_bytes
    need(appended or not any(data[end:index_offset]), "a gap is not zero")


# ---- Lossless streams

def unzstd(frame, size):
    """One zstd frame that decompresses to `size` bytes. Fed in pieces, so that a wrong one is noticed early."""
    if zstandard is None:
        result = subprocess.run(["zstd", "-d", "-c", "-q"], input=frame, capture_output=True)
        need(result.returncode == 0 and len(result.stdout) == size, "a zstd frame is damaged")
        return result.stdout
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    part = bytearray()
    try:
        for at in range(0, len(frame), 4096):
            need(not decompressor.eof, "bytes after a zstd frame")
            part += decompressor.decompress(frame[at:at + 4096])
            need(len(part) <= size, "a zstd frame is too long")
    except zstandard.ZstdError:
        raise NotGood("a zstd frame is damaged") from None
    need(decompressor.eof and not decompressor.unused_data and len(part) == size, "a zstd frame is damaged")
    return bytes(part)


def decode_lossless(data, size, element_type):
    _, _, block, leading = TYPES[element_type]
    blocks = size // block
    widths = [1] * leading + ([block - leading] if block > leading else [])
    out = np.empty((blocks, block), np.uint8)
    need(len(data) >= 4 * len(widths), "a lossless stream is too short")
    lengths = np.frombuffer(data, "<u4", len(widths)).tolist()
    at, column = 4 * len(widths), 0
    for width, length in zip(widths, lengths):
        stored_as_it_is, length = length >> 31, length & 0x7FFFFFFF
        part = data[at:at + length]
        need(len(part) == length, "a lossless stream is too short")
        if not stored_as_it_is:
            part = unzstd(part, blocks * width)
        need(len(part) == blocks * width, "a part has the wrong length")
        out[:, column:column + width] = np.frombuffer(part, np.uint8).reshape(blocks, width)
        at, column = at + length, column + width
    need(at == len(data), "a lossless stream is too long")
    return out.tobytes()


# ---- ott streams

STORED_AS = {F32: "<f4", F16: "<f2", BF16: "<u2"}


def to_f32(elements, element_type):
    if element_type == BF16:
        return (elements.astype(np.uint32) << 16).view(np.float32)
    return elements.astype(np.float32)


def from_f32(x, element_type):
    """Rounds to the type, to nearest even."""
    if element_type == BF16:
        word = x.view(np.uint32)
        return ((word + 0x7FFF + (word >> 16 & 1)) >> 16).astype("<u2")
    if element_type == F16:
        return np.clip(x, -65504, 65504).astype("<f2")
    return x.astype("<f4")


class Parts:
    """The parts of an ott stream, one after the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def align(self):
        end = align(self.at, 16)
        gap = self.data[self.at:end]
        need(len(gap) == end - self.at, "an ott stream is too short")
        need(not any(gap), "a gap in an ott stream is not zero")
        self.at = end

    def take(self, dtype, count):
        end = self.at + count * np.dtype(dtype).itemsize
        need(end <= len(self.data), "an ott stream is too short")
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at = end
        return values

    def take_bits(self, rows, channels, bits):
        """A number of so many bits for each channel, each row in whole bytes."""
        packed = self.take(np.uint8, rows * (align(channels * bits, 8) // 8)).reshape(rows, -1)
        each = np.unpackbits(packed, axis=1, count=channels * bits, bitorder="little").reshape(rows, channels, bits)
        return sum(each[:, :, i] << i for i in range(bits))


def decode_ott(data, rows, plane):
    heads, channels = plane.heads, plane.channels
    head_dim = channels // heads
    element = STORED_AS[plane.type]
    parts = Parts(data)

    counts = parts.take("<u2", heads).astype(int)
    numbers = parts.take("<u2", counts.sum()).astype(int)
    head_of = np.repeat(np.arange(heads), counts)
    need(np.all(numbers < rows), "an exact row is not in the chunk")
    need(np.all((np.diff(numbers) > 0) | (np.diff(head_of) > 0)), "exact rows do not rise")
    parts.align()
    exact = parts.take(element, len(numbers) * head_dim).reshape(-1, head_dim)

    # The shape of the groups, and the group that each row and channel is in
    if plane.kind == K:
        shape = (align(rows, plane.group) // plane.group, channels)
        place = (np.arange(rows) // plane.group, slice(None))
    else:
        shape = (rows, heads, align(head_dim, plane.group) // plane.group)
        place = (slice(None), slice(None), np.arange(head_dim) // plane.group)
    n_groups = int(np.prod(shape))
    parts.align()
    scales = to_f32(parts.take(element, n_groups), plane.type).reshape(shape)[place].reshape(rows, channels)
    parts.align()
    minima = to_f32(parts.take(element, n_groups), plane.type).reshape(shape)[place].reshape(rows, channels)

    need(np.all(np.isfinite(scales)) and np.all(np.isfinite(minima)), "a scale or a minimum is not finite")

    parts.align()
    codes = parts.take_bits(rows, channels, 2 if plane.bits == 3 else plane.bits)
    parts.align()
    if plane.bits == 3:
        codes = codes | parts.take_bits(rows, channels, 1) << 2
    need(parts.at == len(data), "an ott stream is too long")

    with np.errstate(all="ignore"):
        x = codes.astype(np.float32) * scales
        out = from_f32(x + minima, plane.type)
    out.reshape(rows, heads, head_dim)[numbers, head_of] = exact
    return out.tobytes()


# ---- The source

VERBATIM_BYTES = SimpleNamespace(type=0, row_bytes=1)


def decode_stream(data, stream, plane):
    stored = data[stream.offset:stream.offset + stream.stored_bytes]
    need(checksum(stored) == stream.stored_checksum, "wrong checksum of a stream")
    if stream.type == OTT_STREAM:
        decoded = decode_ott(stored, stream.decoded_bytes // plane.row_bytes, plane)
    else:
        decoded = decode_lossless(stored, stream.decoded_bytes, plane.type)
    need(checksum(decoded) == stream.decoded_checksum, "wrong checksum of a decoded stream")
    return decoded


def decode_rows(data, streams, plane):
    decoded = b"".join(decode_stream(data, stream, plane) for stream in streams)
    return np.frombuffer(decoded, np.uint8).reshape(-1, plane.row_bytes)


def show(plane, view):
    """The plane's rows for the cells of the view, in the plane's layout."""
    cells = np.concatenate([plane.rows[run.first:run.first + run.count] for run in view.runs])
    if plane.layout == CHANNEL_MAJOR:
        cells = cells.reshape(view.n_cells, plane.channels, -1).transpose(1, 0, 2)
    return cells.tobytes()


def decode(data, strict=False):
    """The source that is in the bytes of a .kvot file, the header and the index. Raises NotGood.

    If strict, what a reader does not need is checked too."""
    header = read_header(data)
    footer = find_footer(data)
    data = data[:footer.file_bytes]
    index_data = data[footer.index_offset:-64]
    need(checksum(index_data) == footer.index_checksum, "wrong checksum of the index")
    index = read_index(index_data, footer.index_offset)
    if strict:
        check_places(data, index, footer.index_offset)
    verbatim = decode_rows(data, index.verbatim, VERBATIM_BYTES)
    for plane in index.planes:
        plane.rows = decode_rows(data, plane.streams, plane)
    source, at = [], 0
    for segment in index.segments:
        if segment.plane == VERBATIM:
            source.append(verbatim[at:at + segment.bytes].tobytes())
            at += segment.bytes
        else:
            source.append(show(index.planes[segment.plane], index.views[segment.view]))
    return b"".join(source), header, index


def summary(data, header, index):
    types = sorted({TYPES[plane.type][0] for plane in index.planes})
    quantized = sum(plane.codec == OTT_CODEC for plane in index.planes)
    print(f"written by {header.writer}; {len(data)} bytes hold {index.source_bytes} bytes of {index.engine}")
    print(f"{index.variant}; architecture {index.architecture or 'unknown'}, {index.n_tokens} tokens")
    print(f"{index.n_rowsets} row sets, {index.n_views} views, {index.n_planes} planes ({' '.join(types)}; "
          f"{quantized} quantized), {index.n_segments} segments, {index.n_streams} streams: all good")


def main(arguments):
    if len(arguments) != 2 or arguments[1].startswith("--"):
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    check = arguments[0] == "--check"
    name = arguments[1] if check else arguments[0]
    try:
        with open(name, "rb") as file:
            data = file.read()
        source, header, index = decode(data, strict=check)
        if check:
            summary(data, header, index)
        else:
            with open(arguments[1], "wb") as file:
                file.write(source)
    except (NotGood, MemoryError) as error:
        print(f"{name}: {str(error) or 'needs too much memory'}", file=sys.stderr)
        return 3
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
