"""Damage to files of every format that is read: what comes back is the file, or what an independent reader sees in it.

    python tests/fuzz_inputs.py --count 100000 --seed 1

A case passes if the file comes back byte for byte; or, of formats that are written anew, if a reader that shares no code
with ours finds the same samples in the file, in the content and in the file that is written, and every byte of the first
is a sample, or stands in the last too, or follows from the rest.
"""

import argparse
import io
import random
import struct
import sys
import warnings
import zlib
from contextlib import suppress

import numpy as np
import soundfile
from PIL import Image

from ardm import formats
from ardm.content import Kind
from ardm.files.load import parse
from ardm.files.options import FileOptions
from ardm.formats import displayed


class DisagreeError(Exception):
    """An independent reader finds something else."""


# --- independent readers ----------------------------------------------------------------------------------------------

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def rows_of(raw, height, row, pixel):
    """Rows of bytes of a PNG without their filters, one byte at a time, as in the standard; and the bytes left."""
    above, out = bytearray(row), []
    for _ in range(height):
        kind, line = raw[0], bytearray(raw[1 : 1 + row])
        if kind > 4 or len(line) < row:
            raise DisagreeError("no such filter, or too few rows")
        raw = raw[1 + row :]
        for k in range(row):
            a, b = (line[k - pixel] if k >= pixel else 0), above[k]
            c = above[k - pixel] if k >= pixel else 0
            p = a + b - c
            near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            line[k] = (line[k] + (0, a, b, (a + b) // 2, near)[kind]) % 256
        out.append(bytes(line))
        above = line
    return out, raw


def png(data):
    """Displayed values (H, W, C), and everything else: chunks in their places, profiles unpacked, and the rest."""
    at, chunks = 8, []
    while not chunks or chunks[-1][0] != b"IEND":
        size, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + size]
        if len(data) < at + 12 + size or data[at + 8 + size : at + 12 + size] != struct.pack(
            ">I", zlib.crc32(name + body)
        ):
            raise DisagreeError("a chunk is damaged")
        chunks.append((name, body))
        at += 12 + size
    width, height, depth, colour, *zero, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    unpacker = zlib.decompressobj()
    raw = unpacker.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    if chunks[0][0] != b"IHDR" or any(zero) or not unpacker.eof or unpacker.unused_data:
        raise DisagreeError("no such PNG")
    x = np.zeros((height, width, channels), int)
    for y0, x0, dy, dx in ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = x[y0::dy, x0::dx]
        if part.size:
            n = part.shape[1] * channels
            rows, raw = rows_of(raw, len(part), (n * depth + 7) // 8, max(1, channels * depth // 8))
            bits = np.unpackbits(
                np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1), axis=1, count=n * depth
            )
            part[:] = (bits.reshape(len(rows), n, depth) @ (1 << np.arange(depth)[::-1])).reshape(part.shape)
    if raw:
        raise DisagreeError("more rows than there are")
    if colour == 3:
        table = np.frombuffer(dict(chunks)[b"PLTE"], np.uint8).reshape(-1, 3)
        x = table[x[..., 0]].astype(int)
    elif depth < 8:
        x = x * 255 // ((1 << depth) - 1)
    rest, seen = [(depth, colour)], False
    for name, body in chunks[1:]:
        if name == b"IDAT":
            rest += [] if seen else [(name, b"")]
            seen = True
        elif name == b"iCCP":
            profile, _, packed = body.partition(b"\0")
            with suppress(zlib.error):
                body = profile + b"\0" + packed[:1] + zlib.decompress(packed[1:])
            rest.append((name, body))
        else:
            rest.append((name, body))
    return x, (rest, data[at:])


def webp(data):
    """Numbers (H, W, C), and all chunks but the picture and the header that says which there are; no byte between them."""
    with Image.open(io.BytesIO(data)) as picture:
        x = np.asarray(picture).astype(int)
    at, rest, end = 12, [], 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data) or data[end:] not in (b"", b"\0"):
        raise DisagreeError("something follows the file")
    while at < end:
        name, size = struct.unpack_from("<4sI", data, at)
        if at + 8 + size > end or data[at + 8 + size : at + 8 + size + size % 2].strip(b"\0"):
            raise DisagreeError("chunks do not fill the file")
        if name not in (b"VP8L", b"VP8X"):
            rest.append((name, data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return x, sorted(rest)


def flac(data, length):
    """Samples (L, C) of all frames, and the metadata blocks but the first and seeks.

    libFLAC believes the header, but notices where it says more than there is: so it is asked for `length`, and for more.
    """
    at, last, rest, first = 4, False, [], b""
    while not last:
        kind, size = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
        body = data[at + 4 : at + 4 + size]
        first = first or body
        rest += [(kind & 127, body)] if kind & 127 not in (0, 3) else []
        at, last = at + 4 + size, kind > 127
    total = int.from_bytes(first[13:18], "big") & (1 << 36) - 1
    if total not in (0, length):
        raise DisagreeError("the header says another number of samples")

    def decoded(count):
        field = (first[13] >> 4 << 36 | count).to_bytes(5, "big")
        with soundfile.SoundFile(io.BytesIO(b"fLaC\x80\0\0\x22" + first[:13] + field + bytes(16) + data[at:])) as file:
            return file.read(count, dtype="int32", always_2d=True)

    x = decoded(length)
    try:
        more = len(decoded(length + 1))
    except soundfile.LibsndfileError:
        more = 0
    if len(x) != length or more > length:
        raise DisagreeError("there are more samples, or fewer")
    return x >> 32 - ((int.from_bytes(first[12:14], "big") >> 4 & 31) + 1), rest


READERS = {"png": png, "webp": webp, "flac": flac}


def passes(data):
    """How a file passes ("bytes", "exact" or "agrees"), or ""; raises the errors of an independent reader."""
    found = parse(data, FileOptions())
    content = found.content
    if content.kind == Kind.BYTES:
        return "bytes" if content.samples.tobytes() == data else ""
    again = formats.render(content)
    if again == data:
        return "exact"
    if content.origin not in READERS:
        return ""
    more = (content.shape[2],) if content.kind == Kind.AUDIO else ()
    (x, rest), (y, after) = (READERS[content.origin](file, *more) for file in (data, again))
    if content.kind == Kind.AUDIO:
        mine = content.samples[:, 0].T.astype(int) - (1 << 8 * content.samples.itemsize - 1)
    else:
        seen = displayed(content)[: x.shape[2]] if "palette" in content.about else displayed(content)
        mine = np.broadcast_to(seen.transpose(1, 2, 0), x.shape)
    return "agrees" if np.array_equal(x, y) and rest == after and np.array_equal(mine, x) else ""


# --- damage -----------------------------------------------------------------------------------------------------------


def mended(data, rng):
    """Sometimes correct the lengths and checksums around chunks, so that a parser accepts them."""
    if data[:4] == b"RIFF" and len(data) > 8 and rng.random() < 0.5:
        return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    return bytes(checked(data)) if data[:4] == b"\x89PNG" and rng.random() < 0.7 else data


def checked(data):
    """A PNG with the checksums of its chunks corrected."""
    at, file = 8, bytearray(data)
    while at + 12 <= len(file):
        size = struct.unpack_from(">I", file, at)[0]
        if at + 12 + size > len(file):
            break
        struct.pack_into(">I", file, at + 8 + size, zlib.crc32(file[at + 4 : at + 8 + size]))
        at += 12 + size
    return file


def damaged(data, others, rng):
    """A file with some damage."""
    file = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        at, size = rng.randrange(len(file)), rng.choice([1, 1, 2, 4, 8, 12, 30])
        if rng.random() < 0.6:
            at = rng.randrange(min(len(file), 120))
        way = rng.randrange(9)
        if way < 3:
            file[at] = rng.choice([0, 1, 127, 128, 255, file[at] ^ 1 << rng.randrange(8), (file[at] + 1) % 256])
        elif way == 3:
            number = rng.choice([0, 1, 255, 65535, 1 << 31, (1 << 32) - 1, len(file), rng.randrange(1 << 16)])
            file[at : at + 4] = struct.pack(rng.choice("<>") + "I", number)[: len(file) - at]
        elif way == 4:
            file[at:at] = bytes(rng.randrange(256) for _ in range(size))
        elif way == 5:
            del file[at : at + size]
        elif way == 6:
            file[at:at] = file[at : at + size]
        elif way == 7:
            file += rng.choice([bytes(size), b"tail", rng.choice(others), bytes(file[:size])])
        else:
            del file[rng.randrange(len(file)) :]
        if not file:
            file = bytearray(b"\0")
    return mended(bytes(file), rng)


def run(samples, count, seed):
    """Damage files (by format) `count` times; returns how they passed, and those that did not."""
    rng, ways, failed = random.Random(seed), {}, []
    names = sorted(samples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(count):
            name = names[k % len(names)]
            data = damaged(rng.choice(samples[name]), samples[name], rng)
            try:
                way = passes(data)
            except Exception as error:  # the independent reader refuses what ours takes, or ours fails
                way, why = "", repr(error)
            else:
                why = "another reader finds something else"
            ways[name, way] = ways.get((name, way), 0) + 1
            if not way:
                failed.append((k, name, why, data))
    return ways, failed


def main():
    sys.path.insert(0, "tests")
    from file_samples import SAMPLES

    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ways, failed = run({n: f for n, f in SAMPLES.items() if n not in ("jpeg", "gif")}, options.count, options.seed)
    for (name, way), number in sorted(ways.items()):
        print(f"{name:5} {way or 'FAILED':7} {number}")
    for k, name, why, data in failed[:20]:
        print(k, name, why, data)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
