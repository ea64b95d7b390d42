"""Makes the golden files.  What is in this folder must be read for ever: files are only ever added, with a new name.

python tests/golden/make.py           # adds what is missing, and touches nothing else
python tests/golden/make.py --anew    # before the first release alone: all of them again, with their models

Both renew the golden frequencies of bundled models that the reference no longer reproduces.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from ardm.codec import archive, decode, encode  # noqa: E402
from ardm.content import Content, Kind, Lines  # noqa: E402
from ardm.exact.model import NAME, load  # noqa: E402
from bundles import coder, exact, liked, smooth  # noqa: E402
from waves import wave_model, wave_program  # noqa: E402

WAVES = HERE / "waves"
MODEL = {"components": 3}


def fingerprint(content):
    """SHA-256 of everything that a content is."""
    c = content
    about = sorted((name, value.hex()) for name, value in c.about.items())
    head = json.dumps([int(c.kind), c.origin, list(c.shape), c.samples.dtype.str, c.rate, c.layout, about])
    return hashlib.sha256(head.encode() + c.samples.tobytes()).hexdigest()


def contents():
    """One of everything that format 1 holds: name → content."""
    kind = tuple(MODEL.items())
    rgb = liked(kind, 24, 20).numpy()
    t = np.arange(3000)
    tone = (9000 * np.sin(t / 9) + 3000 * np.sin(t / 31)).astype(np.int64)
    text = (b"It is a truth universally acknowledged, that a single man in possession of a good fortune, " * 9)[:700]
    y, x = np.mgrid[:40, :30]
    return {
        "good-image-coded": Content(Kind.IMAGE, rgb, "png", {"icc": b"a profile", "text": b"k\0v"}),
        "good-image-alpha": Content(Kind.IMAGE, np.concatenate([rgb, np.full((1, 24, 20), 255, "u1")]), "webp"),
        "good-image-part-coded": Content(
            Kind.IMAGE,
            np.concatenate([rgb, (np.hypot(y[:24, :20] - 9, x[:24, :20] - 9) < 8).astype("u1")[None] * 255]),
        ),
        "good-image-grey": Content(Kind.IMAGE, liked(kind, 24, 20, 1).numpy()[:1], "bmp"),
        "good-image-filtered": Content(Kind.IMAGE, smooth(3, 40, 30).numpy(), "tiff"),
        "good-image-16": Content(Kind.IMAGE, (x * 40 + y * 55 + x * y)[None].astype("<u2"), "png"),
        "good-image-1x1": Content(Kind.IMAGE, np.array([[[1]], [[2]], [[3]]], "u1"), "ppm"),
        "good-image-flat": Content(Kind.IMAGE, np.full((3, 90, 80), 7, "u1"), "png"),
        "good-image-regions": Content(Kind.IMAGE, smooth(1, 30, 1500).numpy(), "png"),
        "good-text": Content.of_bytes(text),
        "good-empty": Content.of_bytes(b""),
        "good-noise": Content.of_bytes(np.random.default_rng(0).integers(0, 256, 99, np.uint8).tobytes()),
        "good-audio-16": Content(
            Kind.AUDIO, (np.stack([tone, tone // 2])[:, None] + 32768).astype("<u2"), "wav", {"tail": b"LIST"}, 8000
        ),
        "good-audio-8": Content(Kind.AUDIO, (tone // 256 + 128)[None, None].astype("u1"), "wav", rate=11025),
        "good-audio-aiff": Content(Kind.AUDIO, (tone[None, None, :200] + 32768).astype("<u2"), "aiff", rate=22050),
        "good-array": Content(Kind.ARRAY, np.arange(96, dtype="u1")[None, None], "npy", layout="<i4 2,3,4 C"),
    }


def made():
    """name → bytes of every file."""
    files, coding = {}, coder(**MODEL)
    everything = contents()
    for name, content in everything.items():
        files[name] = encode.compress(content, coding)[0]
    kind = tuple(MODEL.items())
    tiles = [Content(Kind.IMAGE, liked(kind, 16, 16, seed).numpy(), "png") for seed in range(5)]
    files["good-archive-tiles"] = archive.compress_archive(tiles, None, coding)[0]
    mixed = [everything[name] for name in ("good-image-coded", "good-text", "good-audio-8", "good-image-1x1")]
    files["good-archive-mixed"] = archive.compress_archive(mixed, ["a/b.png", "t.txt", "ü.wav", "p.ppm"], coding)[0]
    files["good-two-frames"] = files["good-text"] + files["good-noise"]
    for check in (16, 8, 0):
        files[f"good-check-{check}"] = encode.compress(everything["good-image-coded"], coding, check=check)[0]
    files["good-archive-check-8"] = archive.compress_archive(mixed, None, coding, check=8)[0]
    woven = {f"good-wave-{name}": content for name, content in wave_contents().items()}
    files |= {name: encode.compress(content, waves())[0] for name, content in woven.items()}
    rows = [Content.of_bytes(row) for row in (b"first", b"", b"third\r", b"\xff\0", b"last")]
    files["good-archive-lines"] = archive.compress_archive(rows, lines=Lines(b"\r\n", False))[0]
    files["good-wave-archive"] = archive.compress_archive(list(woven.values()), None, waves())[0]
    return files


def waves():
    """The coder of the tiny model along wavefronts."""
    from ardm.codec import registry

    return registry.coder(WAVES, backend="numpy", threads=1)


def wave_contents():
    """Pictures that this model likes: name → content."""
    from ardm.codec.sampling import Chance

    def drawn(height, width, planes, seed):
        walker = waves().walker((3, height, width), planes, (height, width))
        return walker.decode([Chance(seed)])[0, :planes].astype("u1")

    return {
        "square": Content(Kind.IMAGE, drawn(12, 12, 3, 1), "png"),
        "grey": Content(Kind.IMAGE, drawn(9, 14, 1, 2), "bmp"),
        "about": Content(Kind.IMAGE, drawn(8, 11, 3, 3), "png", {"icc": b"a profile"}),
    }


def bundled():
    """name → bytes of every file made by a bundled model."""
    from ardm.codec.selection import Engine
    from test_bundled import crop
    from test_bundled_lines import CONTENTS

    files = {}
    for name, about in json.loads((HERE / "bundled.json").read_text()).items():
        picture = Content(Kind.IMAGE, crop(about["picture"], *about["crop"]), "png")
        files[name] = encode.compress(picture, Engine(level=about["level"]).coder(picture))[0]
    for name, content in CONTENTS.items():
        files[f"lines-{name}"] = encode.compress(content, Engine().coder(content))[0]
    return files


def renew():
    """Write the golden frequencies of bundled models whose arithmetic has changed."""
    from ardm.exact.model import fingerprint as golden
    from ardm.exact.reference import Reference

    for path in sorted((HERE.parents[1] / "src" / "ardm" / "assets").glob(f"*/{NAME}")):
        model = load(path)
        found = golden(model, Reference(model.program))
        if found != model.golden:
            replace(model, golden=found).save(path)


def changed(data, at, value):
    """One byte replaced."""
    return data[:at] + bytes([value]) + data[at + 1 :]


def sealed(header):
    """A header with its check."""
    from ardm.codec.binary import crc8

    return header + bytes([crc8(header)])


def broken(files):
    """name → (bytes, what is said of them)."""
    coded, text, tiles = files["good-image-coded"], files["good-text"], files["good-archive-tiles"]
    middle, long = len(coded) - 40, b"\xff\xff\xff\xff\x0f"
    return {
        "bad-magic": (changed(coded, 0, 0xA5), "not"),
        "bad-header-check": (changed(coded, 4, coded[4] ^ 1), "damaged"),
        "bad-stream": (changed(coded, middle, coded[middle] ^ 16), "damaged|truncated"),
        "bad-truncated": (coded[:-9], "damaged|truncated"),
        "bad-extended": (coded + b"\0", "damaged|truncated"),
        "bad-stored": (changed(text, len(text) - 20, text[-20] ^ 1), "damaged"),
        "bad-archive-index": (changed(tiles, 30, tiles[30] ^ 8), "damaged"),
        "bad-claims-too-much": (
            sealed(b"\xad\xd1\x81\x01" + long + long) + b"\x03" + bytes(5),
            "above the limit",
        ),
        "bad-long-integer": (sealed(b"\xad\xd1\x80\x01\x80\x00") + b"\x05" + bytes(5), "damaged"),
        "bad-long-form": (sealed(b"\xad\xd1\x1a\x03\x03\x12\x34") + bytes(9), "damaged"),
        "unsupported-version": (changed(text, 1, 0xD2), "format 2"),
        "unsupported-flag": (sealed(b"\xad\xa1\x08\x01\x01") + b"\x0a" + bytes(10), "lacks"),
        "unsupported-check": (sealed(b"\xad\xd1\xc0\x08\x01\x05") + b"\x0a" + bytes(10), "lacks"),
        "unsupported-origin": (sealed(b"\xad\xd1\x81\xf1\x05\x05") + bytes(30), "lacks"),
        "unsupported-method": (sealed(b"\xad\xd1\x80\x01\x05") + b"\x0a\x0e" + bytes(9), "lacks"),
    }


def clear():
    """Remove all golden files, and the models that made them."""
    for path in [*HERE.glob("*.ardm"), HERE / "golden.json", HERE / NAME, WAVES / NAME]:
        path.unlink(missing_ok=True)


def make_models():
    """Write the tiny models that are missing."""
    from ardm.exact.model import fingerprint as golden
    from ardm.exact.reference import Reference

    if not (HERE / NAME).is_file():
        exact(**MODEL).save(HERE / NAME)
    if not (WAVES / NAME).is_file():
        WAVES.mkdir(exist_ok=True)
        model = wave_model(wave_program(seed=1))
        replace(model, golden=golden(model, Reference(model.program))).save(WAVES / NAME)


def main():
    """Write what is missing."""
    if "--anew" in sys.argv:
        clear()
    index = HERE / "golden.json"
    known = json.loads(index.read_text()) if index.is_file() else {}
    make_models()
    renew()
    for name, data in bundled().items():
        if not (HERE / f"{name}.ardm").exists():
            (HERE / f"{name}.ardm").write_bytes(data)
    files = made()
    for name, data in files.items():
        path = HERE / f"{name}.ardm"
        if path.exists():
            continue
        path.write_bytes(data)
        found = decoded(data)
        known[name] = {"sha256": hashlib.sha256(data).hexdigest(), "contents": [fingerprint(c) for c in found]}
    for name, (data, said) in broken(files).items():
        path = HERE / f"{name}.ardm"
        if not path.exists():
            path.write_bytes(data)
            known[name] = {"sha256": hashlib.sha256(data).hexdigest(), "said": said}
    index.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def decoded(data, backend="float32"):
    """Everything in a file."""
    from ardm.codec import registry

    models = registry.maker(backend, "cpu", 1, [HERE, WAVES])
    if data[1] >> 4 == 0xA:
        return list(archive.open_archive(data).items(models))
    return list(decode.frames(data, models))


if __name__ == "__main__":
    main()
