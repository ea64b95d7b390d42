"""A decoder written from docs/format.md alone, without the library: what is stored, in frames and archives."""

import lzma
import re
import struct
import zlib
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "format.md").read_text(encoding="utf-8")
ORIGINS = ["", *re.findall(r"\d+\s(\w+)", PAGE.split("The origin is the file format")[1].split("Later ones")[0])[1:]]


class Bytes:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        assert self.at + n <= len(self.data)
        self.at += n
        return self.data[self.at - n : self.at]

    def byte(self):
        return self.take(1)[0]

    def v(self):
        value = shift = 0
        while (byte := self.byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift


def v(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + v(n >> 7)


def crc8(data):
    state = 0
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state << 1 ^ 7) & 255 if state & 128 else state << 1
    return state


def unpack_lzma(data, distance=0):
    chain = [{"id": lzma.FILTER_DELTA, "dist": distance}] if distance else []
    return lzma.decompress(data, lzma.FORMAT_RAW, filters=[*chain, {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 22}])


def read_form(file):
    start, flags = file.at, file.byte()
    assert flags & 128, "what a model codes is not read here"
    check = file.byte() if flags & 64 else 4
    byte = file.byte()
    form = {
        "flags": flags,
        "check": check,
        "kind": flags & 3,
        "C": byte & 15,
        "origin": ORIGINS[byte >> 4],
        "size": 2 if flags & 16 else 1,
    }
    form["layout"] = file.take(file.v()).decode() if form["kind"] == 3 else ""
    form["rate"] = file.v() if form["kind"] == 2 else 0
    form["H"] = file.v() if form["kind"] in (1, 3) else 1
    form["W"] = file.v()
    form["span"] = file.byte() if flags & 32 else None
    form["bytes"] = file.data[start : file.at]
    return form


def read_about(file):
    start, entries = file.at, {}
    inner = Bytes(zlib.decompress(file.take(file.v()), -15))
    while inner.at < len(inner.data):
        name = inner.take(inner.v()).decode()
        entries[name] = inner.take(inner.v())
    return file.data[start : file.at], entries


def read_lengths(file, n):
    least, width = file.v(), file.byte()
    bits = int.from_bytes(file.take(-(-n * width // 8)), "little")
    return [least + (bits >> width * k & (1 << width) - 1) for k in range(n)]


def unfilter(code, d, h, w, before, bits):
    """Rows of differences to rows of samples."""
    mask = (1 << bits) - 1
    x = [row[:] for row in d]
    for _ in range(2 if code & 7 == 4 else 1):
        for i in range(h):
            for j in range(w):
                left, up = (x[i][j - 1] if j else 0), (x[i - 1][j] if i else 0)
                corner = x[i - 1][j - 1] if i and j else 0
                subtracted = {
                    0: 0,
                    1: left if j else up,
                    2: up if i else left,
                    3: left + up - corner,
                    4: left if j else up,
                }
                x[i][j] = x[i][j] + subtracted[code & 7] & mask
    if code & 8:
        x = [[a + b & mask for a, b in zip(*rows, strict=True)] for rows in zip(x, before, strict=True)]
    return x


def read_piece(file, form, h, w):
    """The samples (C, h, w) as bytes, and the position of their check."""
    C, size, method = form["C"], form["size"], file.v()
    raw = C * h * w * size
    if method == 1:
        return file.take(raw)
    if method == 2:
        return zlib.decompress(file.take(file.v()), -15)
    if method == 3:
        return b"".join(file.take(size) * (h * w) for _ in range(C))
    if method == 4:
        distance = file.byte()
        return unpack_lzma(file.take(file.v()), distance)
    assert method == 5
    codes = file.take(C)
    left, planes = unpack_lzma(file.take(file.v())), []
    for k in range(C):
        parts = left[k * h * w * size : (k + 1) * h * w * size]
        r = [sum(parts[b * h * w + i] << 8 * b for b in range(size)) for i in range(h * w)]
        d = [n >> 1 if n % 2 == 0 else -(n + 1 >> 1) for n in r]
        rows = [d[i * w : (i + 1) * w] for i in range(h)]
        if codes[k] & 7 == 0:
            rows = [[n % (1 << 8 * size) for n in row] for row in rows]
        planes.append(unfilter(codes[k], rows, h, w, planes[-1] if planes else None, 8 * size))
    return b"".join(n.to_bytes(size, "little") for plane in planes for row in plane for n in row)


def read_body(file, form, about, item, length):
    """The samples of a content as bytes in the order (C, H, W); the body has `length` bytes."""
    H, W, C, size = form["H"], form["W"], form["C"], form["size"]
    end = file.at + length
    boxes, lengths = [(0, 0, H, W)], [length]
    if form["span"] is not None:
        side = 1 << form["span"]
        h, w = (side, side) if H > 1 else (1, side)
        boxes = [(y, x, min(h, H - y), min(w, W - x)) for y in range(0, H, h) for x in range(0, W, w)]
        start = file.at
        lengths = read_lengths(file, len(boxes))
        assert struct.pack("<I", zlib.crc32(file.data[start : file.at])) == file.take(4)
    out = bytearray(C * H * W * size)
    for region, ((y, x, h, w), length) in enumerate(zip(boxes, lengths, strict=True)):
        start = file.at
        samples = read_piece(file, form, h, w)
        assert len(samples) == C * h * w * size
        before = form["bytes"] + about + struct.pack("<QQ", item, region) + file.data[start : file.at]
        assert struct.pack("<I", zlib.crc32(before + samples))[: form["check"]] == file.take(form["check"])
        assert file.at == start + length
        for c in range(C):
            for i in range(h):
                at = ((c * H + y + i) * W + x) * size
                out[at : at + w * size] = samples[(c * h + i) * w * size : (c * h + i + 1) * w * size]
    if form["span"] is not None:
        assert struct.pack("<I", zlib.crc32(out))[: form["check"]] == file.take(form["check"])
    assert file.at == end
    return bytes(out)


def read(data):
    """(names, [(form, about, samples)]) of a file in which nothing is coded by a model; of lines, (b"" or their text, …)."""
    file = Bytes(data)
    start = file.take(2)
    if start == b"\xad\xd1":
        form = read_form(file)
        assert crc8(data[: file.at]) == file.byte()
        block, about = read_about(file) if form["flags"] & 4 else (b"", {})
        single = form["kind"] == 0 and form["span"] is None
        length = file.v() if single else len(data) - file.at
        return None, [(form, about, read_body(file, form, block, 0, length))]
    assert start == b"\xad\xa1"
    flags, n = file.byte(), file.v()
    form = read_form(file) if flags & 1 else None
    assert crc8(data[: file.at]) == file.byte()
    shared = read_about(file) if form and form["flags"] & 4 else (b"", {})
    lengths, names, forms = read_lengths(file, n), None, [form] * n
    if flags & 2 or not form:
        directory = zlib.decompress(file.take(file.v()), -15)
        if flags & 2:
            *names, directory = directory.split(b"\0", n)
        if not form:
            inner = Bytes(directory)
            forms = [read_form(inner) for _ in range(n)]
    assert struct.pack("<I", zlib.crc32(data[: file.at])) == file.take(4)
    items = []
    for item, (one, length) in enumerate(zip(forms, lengths, strict=True)):
        start = file.at
        block, about = read_about(file) if not form and one["flags"] & 4 else shared
        items.append((one, about, read_body(file, one, block, item, start + length - file.at)))
    assert file.at == len(data)
    if flags & 16:
        assert not flags & 2
        assert all((form["kind"], form["origin"], form["flags"] & 4) == (0, "", 0) for form, _, _ in items)
        text = b"".join(samples + (b"\r\n" if flags & 32 else b"\n") for _, _, samples in items)
        return text[: -1 - (flags >> 5 & 1)] if flags & 64 else text, items
    return names and [name.decode() for name in names], items
