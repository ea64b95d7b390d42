"""Files of the world to contents and back: every sample comes back as it was, or the file byte for byte.

    bmp, ppm, wav, npy, tiff (uncompressed, one page)   byte for byte, whatever stands around the samples: `ranges`
    png   1 to 16 bits, palettes; chunks as they came   webp  lossless ones; profile, EXIF, XMP
    flac  8 and 16 bits; tags, pictures, seek tables    all others, and what cannot be read exactly: bytes

PNG, WebP and FLAC are written anew.  Their readers account for every byte: it is a sample, or kept, or follows from the
rest (lengths, checksums, how samples were compressed or interlaced), or the file is kept as it is.

What is kept beside the samples stands in about: "icc", "exif", "xmp" as they are in all formats; "palette", "alpha",
"depth" (of pictures with 1, 2 or 4 bits); "png", "webp", "flac" what only that format knows; "head", "gaps" and "tail",
the bytes around the samples where they are not what everyone writes.  Samples are what one sees, but for those of a
palette, which are its indices: see `shown`.  An orientation is kept and never applied.  NumPy and Pillow, no torch.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from types import MappingProxyType

from ardm.codec.index import MAX_ABOUT
from ardm.content import Content, Kind
from ardm.errors import ArdmError, out_of_memory
from ardm.formats import bmp, flac, npy, png, ppm, tiff, wav, webp
from ardm.formats.claims import Claim, claim
from ardm.formats.common import ALLOWED, MAX_SAMPLES, Kept, Read, guarded, image, kept, shown
from ardm.formats.npy import items, joined

__all__ = [
    "BYTE_FOR_BYTE",
    "ENDINGS",
    "MAX_SAMPLES",
    "PACKED",
    "Claim",
    "Gate",
    "Read",
    "claim",
    "items",
    "joined",
    "read",
    "render",
    "shown",
    "sniff",
]

ENDINGS: Mapping[str, str] = MappingProxyType(
    {
        ".png": "png", ".webp": "webp", ".bmp": "bmp", ".tif": "tiff", ".tiff": "tiff", ".ppm": "ppm", ".pgm": "ppm",
        ".pnm": "ppm", ".wav": "wav", ".flac": "flac", ".npy": "npy",
    }
)  # fmt: skip
"""Formats by the endings of names."""

PACKED = ("jpeg", "gif")
"""Formats that are known, and never read."""
Gate = Callable[[Claim, int], str]
"""From what a file claims and its size: why it is not read, or ""."""

_STARTS = (
    (rb"\x89PNG\r\n\x1a\n", "png"),
    (rb"RIFF....WEBP", "webp"),
    (rb"BM.{4}\0\0\0\0.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "bmp"),
    (rb"II[*+]\0|MM\0[*+]", "tiff"),
    (rb"P[1-7]\s\s*[#0-9W]|P[Ff]\s\s*[0-9]", "ppm"),
    (rb"(RIFF|RIFX|RF64)....WAVE", "wav"),
    (rb"fLaC", "flac"),
    (rb"\x93NUMPY", "npy"),
    (rb"\xff\xd8\xff", "jpeg"),
    (rb"GIF8[79]a", "gif"),
)
_MODULES = {"png": png, "webp": webp, "bmp": bmp, "tiff": tiff, "ppm": ppm, "wav": wav, "flac": flac, "npy": npy}
BYTE_FOR_BYTE = ("bmp", "ppm", "wav", "npy", "tiff")
"""Formats whose files come back as they were; of the others the samples, and all that is kept besides."""
_DEFAULT = {Kind.IMAGE: "png", Kind.AUDIO: "wav", Kind.ARRAY: "npy"}
_SOUNDS = ("wav", "flac")
_WORDS = {Kind.IMAGE: "a picture", Kind.AUDIO: "sound", Kind.ARRAY: "an array"}


def sniff(head: bytes) -> str:
    """The format of a file by its first 64 bytes: one that contents come in, "jpeg", "gif", or "" if none is known."""
    return next((name for start, name in _STARTS if re.match(start, head, re.DOTALL)), "")


def read(data: bytes, name: str = "", strip: bool = False, gate: Gate | None = None) -> Read:
    """A file as a content; strip: without what it carries besides samples.  Raises nothing for what the data are.

    name: of the file; where its ending says something else than its bytes, a note says so.
    gate: asked before anything is decoded; what it refuses is kept byte for byte.
    MemoryError is not what the data are, and is raised.
    """
    looks = sniff(data[:64])
    if looks in PACKED:
        return kept(data, f"{looks.upper()} pictures are already compressed")
    if not looks:
        said = next((format for ending, format in ENDINGS.items() if name.lower().endswith(ending)), "")
        return kept(data, f"not the {said.upper()} file that its name says") if said and data else _plain(data)
    claimed = None if gate is None else claim(BytesIO(data), looks)
    if gate is not None and claimed is not None and (refusal := gate(claimed, len(data))):
        return kept(data, f"{looks.upper()}: {refusal}")
    allowed = ALLOWED.set(MAX_SAMPLES if gate is None else _allowed(claimed, gate, len(data)))
    try:
        with guarded():
            found = _MODULES[looks].read(data, strip)
    except Kept as why:
        return kept(data, f"{looks.upper()}: {why}")
    finally:
        ALLOWED.reset(allowed)
    if sum(len(key) + len(value) + 16 for key, value in found.content.about.items()) > MAX_ABOUT:
        return kept(data, f"{looks.upper()}: it carries more than {MAX_ABOUT} bytes besides its samples")
    return found


def _allowed(claimed: Claim | None, gate: Gate, size: int) -> int:
    """Samples that a reader may allocate for a file of this size: those it claims, or, if it does not say, all that pass."""
    if claimed is None:
        return 0
    if not claimed.open:
        return claimed.samples
    widths = range(1, MAX_SAMPLES // claimed.channels + 1)
    passed = bisect_left(widths, True, key=lambda width: bool(gate(replace(claimed, width=width), size)))
    return passed * claimed.channels


def _plain(data: bytes) -> Read:
    return Read(Content.of_bytes(data))


def render(content: Content, format: str = "") -> bytes:
    """A content as a file; format: by default that in which it came, or PNG, WAV or .npy.

    Raises ArdmError where the format cannot hold it, saying why.
    """
    if content.kind == Kind.BYTES:
        if format in ("", content.origin):
            return content.samples.tobytes()
        raise ArdmError(f"these are plain bytes, which cannot be written as {format}")
    format = format or content.origin or _DEFAULT[content.kind]
    if format not in _MODULES:
        raise ArdmError(f"format must be one of {', '.join(_MODULES)}; got {format!r}")
    if content.kind == Kind.ARRAY and format != "npy":
        content = npy.picture(content)
    if format != "npy" and (content.kind == Kind.AUDIO) != (format in _SOUNDS):
        raise ArdmError(f"{format} cannot hold {_WORDS[content.kind]}")
    try:
        if "palette" in content.about and format not in ("png", content.origin):
            rest = {key: value for key, value in content.about.items() if key in ("icc", "exif", "xmp")}
            content = image(shown(content), "", rest)
        if content.origin == "tiff" and format != "tiff" and "head" in content.about:
            content = replace(content, about={**content.about, **tiff.carried(tiff.render(content))})
        return _MODULES[format].render(content)
    except ArdmError:
        raise
    except Exception as error:  # about blocks come from files that others made
        if out_of_memory(error):
            raise MemoryError from error
        raise ArdmError(f"this cannot be written as {format}: what it keeps besides samples is damaged") from error
