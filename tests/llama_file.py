"""llama.cpp's session and sequence files taken apart and put together again, whole or in part. Knows the engine's format
and nothing of kvot.

A file is {session, version, words, architecture, sections, checkpoints}; a section {kind, streams} of blocks; a block
{cells, tensors, ...}; a cell (position, sequence ids, bytes); a tensor {at, head, row, element, layer, data}.
"""
import struct

SESSION, SEQUENCE, BUFFER, APPENDIX = 0x6767736E, 0x67677371, 0xAF143CD8, b"SCKP"
# ggml types: elements and bytes of a block.
TYPES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 20: (32, 18), 30: (1, 2)}


class Bad(Exception):
    """No such file, or no part of it as asked for."""


def number(data, at, form="<I"):
    if at + struct.calcsize(form) > len(data):
        raise Bad("the end")
    return struct.unpack_from(form, data, at)[0]


def read_cells(data, at, n, ext):
    cells = []
    for _ in range(n):
        position, n_ids = number(data, at, "<i"), number(data, at + 4)
        end = at + 8 + ext + 4 * n_ids
        if position < 0 or n_ids > 256 or end > len(data):
            raise Bad("a cell")
        ids = struct.unpack_from(f"<{n_ids}I", data, at + 8 + ext)
        if any(i >= 256 for i in ids):
            raise Bad("a sequence")
        cells.append((position, ids, data[at:end]))
        at = end
    return cells, at


def read_tensor(data, at, n, layer, kind):
    """A tensor of `n` cells: rows; "V by channel"; or rows of a type that is not told."""
    head, element = 12, None
    if kind == "untyped":
        head, row = 8, number(data, at, "<Q")
        if row == 0:
            raise Bad("a row")
    else:
        block = TYPES.get(number(data, at, "<i"))
        if not block:
            raise Bad("a type")
        if kind == "V by channel":
            element, row = number(data, at + 4), number(data, at + 4) * number(data, at + 8)
            if element != block[1] or block[0] != 1:
                raise Bad("an element")
        else:
            row = number(data, at + 4, "<Q")
        if row % block[1]:
            raise Bad("a row")
    start, end = at + head, at + head + n * row
    if end > len(data):
        raise Bad("rows")
    tensor = {"at": start, "head": data[at:start], "row": row, "element": element, "layer": layer, "kind": kind[0],
              "data": data[start:end]}
    return tensor, end


def some_tensors(data, at, n, kinds, most):
    """Every number of tensors, the most first, and where they end."""
    tensors, ends = [], [at]
    while len(tensors) < most:
        for kind in kinds:
            try:
                tensor, end = read_tensor(data, ends[-1], n, len(tensors), kind)
                break
            except Bad:
                tensor = None
        if not tensor:
            break
        tensors.append(tensor)
        ends.append(end)
    for k in range(len(tensors), -1, -1):
        yield tensors[:k], ends[k]


def streams(data, at, left, ext, rotations):
    if left == 0:
        yield [], at
        return
    try:
        n = number(data, at)
        block = {"n_layers": 0, "cells": [], "tensors": [], "middle": b""}
        at += 4
        if n > 0:
            block["cells"], at = read_cells(data, at, n, ext)
            v_trans, n_layers = number(data, at), number(data, at + 4)
            block["v_trans"], block["n_layers"], block["middle"] = v_trans, n_layers, b""
            if v_trans > 1 or n_layers > 4096:
                return
            at += 8
            if rotations:
                block["middle"] = data[at:at + 8]
                at += 8
            keys = []
            for layer in range(n_layers):
                tensor, at = read_tensor(data, at, n, layer, "K")
                keys.append(tensor)
    except Bad:
        return
    if n == 0:
        for rest, end in streams(data, at, left - 1, ext, rotations):
            yield [block, *rest], end
        return
    for values, at in some_tensors(data, at, n, ["V by channel" if v_trans else "V"], n_layers):
        for rest, end in streams(data, at, left - 1, ext, rotations):
            yield [{**block, "tensors": keys + values}, *rest], end


def recurrent(data, at, kinds, times):
    try:
        n = number(data, at)
        cells, at = read_cells(data, at + 4, n, 0)
        s_trans, n_layers = number(data, at), number(data, at + 4)
    except Bad:
        return
    if s_trans != 0 or not 0 < n_layers <= 4096:
        return
    for tensors, end in some_tensors(data, at + 8, n, kinds, times * n_layers):
        half = len(tensors) // 2 if len(tensors) % 2 == 0 else len(tensors)
        tensors = [{**t, "layer": t["layer"] % half} for t in tensors]
        yield [{"cells": cells, "v_trans": 0, "n_layers": n_layers, "middle": b"", "tensors": tensors}], end


def sections(data, at, end, dialect):
    """Every way to read what lies from `at` to the end or an appendix."""
    n_streams, rotations = dialect
    if at == end or data[at:at + 4] == APPENDIX:
        yield [], at
        return
    if at > end:
        return
    for ext in (0, 8, 12):
        n = number(data, at) if n_streams and at + 4 <= end else 1
        if 0 < n <= 256:
            for blocks, after in streams(data, at + 4 * n_streams, n, ext, rotations):
                for rest, stop in sections(data, after, end, dialect):
                    yield [{"kind": "attention", "counted": n_streams, "streams": blocks}, *rest], stop
    for kinds, times in ((["state"], 2), (["state", "untyped"], 3)):
        for blocks, after in recurrent(data, at, kinds, times):
            for rest, stop in sections(data, after, end, dialect):
                yield [{"kind": "recurrent", "counted": False, "streams": blocks}, *rest], stop


def read_state(data, at, end, dialect):
    """The sections of a checkpoint's blob, or None."""
    if end - at < 8 or number(data, at) != BUFFER:
        return None
    found = next(sections(data[:end], at + 8, end, dialect), None)
    return found[0] if found else None


def read(data):
    magic, version, n = struct.unpack_from("<3I", data)
    file = {"session": magic == SESSION, "version": version, "architecture": b"", "checkpoints": []}
    file["words"] = list(struct.unpack_from(f"<{n}i", data, 12))
    at = 12 + 4 * n
    if file["session"]:
        end = at + 4 + number(data, at)
        file["architecture"] = data[at:end]
        at = end
    dialect = (True, version >= (11 if file["session"] else 4))
    found = next(sections(data, at, len(data), dialect), None)
    if not found:
        raise Bad("nothing fits")
    file["sections"], at = found
    if at == len(data):
        return file
    _, one, count = struct.unpack_from("<3I", data, at)
    at += 12
    for _ in range(count):
        n_tokens, first, last = struct.unpack_from("<qii", data, at)
        start, blobs = at, []
        at += 16
        for _ in range(3):
            end = at + 8 + number(data, at, "<Q")
            blobs.append((data[at + 8:end], read_state(data, at + 8, end, dialect)))
            at = end
        file["checkpoints"].append({"n_tokens": n_tokens, "last": last, "data": data[start:at], "blobs": blobs})
    return file


def why_not(section, tokens):
    """Whether the engine lacks something of a section to go on after `tokens`."""
    for block in section["streams"]:
        positions = {}
        for position, ids, _ in block["cells"]:
            for i in ids or (None,):
                positions.setdefault(i, []).append(position)
        for each in positions.values():
            if max(each) < tokens:
                continue
            if section["kind"] == "recurrent" or sorted(p for p in each if p < tokens) != list(range(tokens)):
                return True
    return False


def rows_of(tensor, n_cells, cells):
    row, element, data = tensor["row"], tensor["element"], tensor["data"]
    if not element:
        return b"".join(data[i * row:(i + 1) * row] for i in cells)
    channels = range(0, n_cells * row, n_cells * element)
    return b"".join(data[c + i * element:c + (i + 1) * element] for c in channels for i in cells)


def write_section(section, tokens, layers, kept):
    """The bytes of a section. Adds to `kept` where a tensor was and which of its cells are left."""
    out = [struct.pack("<I", len(section["streams"]))] if section["counted"] else []
    for block in section["streams"]:
        cells = [i for i, (position, _, _) in enumerate(block["cells"]) if position < tokens]
        out.append(struct.pack("<I", len(cells)))
        if not cells and section["kind"] == "attention":
            continue
        tensors = [t for t in block["tensors"] if t["layer"] in layers]
        n_layers = sum(t["kind"] == "K" for t in tensors) if section["kind"] == "attention" else block["n_layers"]
        out += [block["cells"][i][2] for i in cells]
        out += [struct.pack("<2I", block["v_trans"], n_layers), block["middle"]]
        for tensor in tensors:
            out += [tensor["head"], rows_of(tensor, len(block["cells"]), cells)]
            kept[tensor["at"]] = sorted({*kept.get(tensor["at"], ()), *cells})
    return b"".join(out)


def most_tokens(file):
    return max((p + 1 for s in file["sections"] for b in s["streams"] for p, _, _ in b["cells"]), default=0)


def most_layers(file):
    blocks = [block for section in file["sections"] for block in section["streams"] if block["cells"]]
    return max((tensor["layer"] + 1 for block in blocks for tensor in block["tensors"]), default=0)


def write(file, tokens=None, layers=None):
    """The file again, or its part, and {where a tensor was: its cells that are left}. Raises Bad."""
    n, kept, everything = most_tokens(file), {}, range(1 << 31)
    if (tokens or 0) > n or (layers and layers.stop > most_layers(file)):
        raise Bad("more than there is")
    limit, wanted = tokens or 1 << 31, layers or everything
    words, main = file["words"], file["sections"]
    blob = words[:1] == [-1] and len(words) >= 3
    ids = words[3:3 + words[2]] if blob else words
    if len(ids) > limit or n > limit:
        if blob and words[3 + words[2]:] != [0]:
            raise Bad("images")
        words = [-1, 1, len(ids[:limit]), *ids[:limit], 0] if blob else ids[:limit]
    lacking = [i for i, section in enumerate(main) if why_not(section, limit)]
    states = [c["blobs"][0][1] for c in file["checkpoints"]]
    state = next((main[len(main) - len(s):] for s in states if s), [])
    if lacking:
        for checkpoint, state in zip(file["checkpoints"], states):
            late = checkpoint["n_tokens"] >= limit and checkpoint["last"] == checkpoint["n_tokens"] - 1
            if late and state and min(lacking) >= len(main) - len(state):
                if not any(why_not(section, limit) for section in state):
                    break
        else:
            raise Bad("nothing to go on from")
    main = main[:len(main) - len(state)]
    out = [struct.pack("<3I", SESSION if file["session"] else SEQUENCE, file["version"], len(words)),
           struct.pack(f"<{len(words)}i", *words), file["architecture"]]
    out += [write_section(section, limit, wanted, kept) for section in main]
    state_bytes = b"".join(write_section(section, limit, wanted, kept) for section in state)
    out.append(state_bytes)
    left = [c for c in file["checkpoints"] if c["n_tokens"] <= limit and not layers]
    # The server goes on from sliding windows only by way of a checkpoint, so there must be one for what is left.
    new = (limit < n and not layers and states and state and not any(c["n_tokens"] == limit for c in left)
           and not any(blob for c in file["checkpoints"] for blob, _ in c["blobs"][1:]))
    if left or new:
        out += [APPENDIX, struct.pack("<2I", 1, len(left) + new), *(c["data"] for c in left)]
        for _, sections in (blob for c in left for blob in c["blobs"]):
            for section in sections or []:
                write_section(section, 1 << 31, everything, kept)
    if new:
        head = file["checkpoints"][0]["blobs"][0][0][:8]
        out += [struct.pack("<qiiQ", limit, 0, limit - 1, 8 + len(state_bytes)), head, state_bytes, bytes(16)]
    return b"".join(out), kept
