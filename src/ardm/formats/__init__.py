"""Files of other formats to contents and back: every sample comes back, or the whole file byte for byte.

Formats that are `byte_for_byte` keep every byte around the samples (`ranges`).  PNG, WebP and FLAC files are encoded
again.  Their readers account for every byte: it is a sample, or metadata that is kept, or follows from the rest (lengths,
checksums, the choices of the compressor, interlacing).  Any other file is kept byte for byte.

about holds the metadata kept beside the samples: "icc", "exif" and "xmp" unchanged, for all formats; "palette", "alpha"
and "depth" (images of 1, 2 or 4 bits); "png", "webp" and "flac" for that format alone; "head", "gaps" and "tail" for
bytes around the samples that differ from a freshly written file.  Samples are displayed values, except palette indices
(`displayed`).
EXIF orientation is kept and never applied.  NumPy and Pillow; no PyTorch.

A new format is one module here, which defines FORMAT, and its name at the end of `content.ORIGINS`; see docs/extend.md.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from io import BytesIO
from types import MappingProxyType
from typing import BinaryIO

from ardm.codec.index import MAX_ABOUT
from ardm.content import ORIGINS, Content, Kind
from ardm.errors import ArdmError, out_of_memory
from ardm.formats import npy, tiff
from ardm.formats.claims import Claim, claim_at
from ardm.formats.common import MAX_SAMPLES, FileFormat, KeepBytes, Read, displayed, guarded, image, kept
from ardm.formats.npy import items, joined

__all__ = [
    "BYTE_FOR_BYTE",
    "ENDINGS",
    "FORMATS",
    "MAX_SAMPLES",
    "PACKED",
    "Claim",
    "FileFormat",
    "Gate",
    "KeepBytes",
    "Read",
    "claim",
    "displayed",
    "items",
    "joined",
    "read",
    "render",
    "sniff",
]

FORMATS: Mapping[str, FileFormat] = MappingProxyType(
    {name: import_module(f"ardm.formats.{name}").FORMAT for name in ORIGINS if name}
)
"""All formats by name."""
ENDINGS: Mapping[str, str] = MappingProxyType(
    {end: format.name for format in FORMATS.values() for end in format.endings}
)
"""Names of formats by the endings of file names."""
BYTE_FOR_BYTE = tuple(name for name, format in FORMATS.items() if format.byte_for_byte)
"""Formats whose files come back unchanged; of the others the samples and all metadata come back."""
PACKED = ("jpeg", "gif")
"""Formats that are recognised but never decoded."""
Gate = Callable[[Claim, int], str]
"""Decides from a file's claim and size whether to decode it: the reason not to, or ""."""

_STARTS = {
    **{name: format.start for name, format in FORMATS.items()},
    "jpeg": rb"\xff\xd8\xff",
    "gif": rb"GIF8[79]a",
}
_DEFAULT = {Kind.IMAGE: "png", Kind.AUDIO: "wav", Kind.ARRAY: "npy"}
_WORDS = {Kind.IMAGE: "an image", Kind.AUDIO: "sound", Kind.ARRAY: "an array"}


def sniff(head: bytes) -> str:
    """Recognise a format by the first 64 bytes of a file: a key of FORMATS, "jpeg", "gif", or "" if unknown."""
    return next((name for name, start in _STARTS.items() if re.match(start, head, re.DOTALL)), "")


def claim(file: BinaryIO, format: str, end: int | None = None) -> Claim | None:
    """The size that a file of this format claims in its header; None if the header does not say.

    end: the length of the file, if `file` holds only its beginning.  The position of `file` is restored.
    """
    return claim_at(file, FORMATS[format].claim, end) if format in FORMATS else None


def read(data: bytes, name: str = "", strip: bool = False, gate: Gate | None = None) -> Read:
    """Turn a file into a content; strip: drop all but the samples.  Any bytes will do: a file that is not decoded is
    kept.

    name: of the file; a note warns if its ending contradicts its bytes.
    gate: called before anything is decoded; a file that it refuses is kept byte for byte.
    Raises nothing but MemoryError.
    """
    looks = sniff(data[:64])
    if looks in PACKED:
        return kept(data, f"{looks.upper()} images are already compressed")
    if not looks:
        expected = next((format for ending, format in ENDINGS.items() if name.lower().endswith(ending)), "")
        if expected and data:
            return kept(data, f"not the {expected.upper()} file that its name says")
        return Read(Content.of_bytes(data))
    claimed = None if gate is None else claim(BytesIO(data), looks)
    if gate is not None and claimed is not None and (refusal := gate(claimed, len(data))):
        return kept(data, f"{looks.upper()}: {refusal}")
    most = MAX_SAMPLES if gate is None else _most(claimed, gate, len(data))
    try:
        with guarded():
            found = FORMATS[looks].read(data, strip, most)
    except KeepBytes as why:
        return kept(data, f"{looks.upper()}: {why}")
    if sum(len(key) + len(value) + 16 for key, value in found.content.about.items()) > MAX_ABOUT:
        return kept(data, f"{looks.upper()}: it has more than {MAX_ABOUT} bytes besides its samples")
    return found


def _most(claimed: Claim | None, gate: Gate, size: int) -> int:
    """Samples that a reader may allocate: those claimed, or if the claim is open, as many as the gate accepts."""
    if claimed is None:
        return 0
    if not claimed.open:
        return claimed.samples
    widths = range(1, MAX_SAMPLES // claimed.channels + 1)
    passed = bisect_left(widths, True, key=lambda width: bool(gate(replace(claimed, width=width), size)))
    return passed * claimed.channels


def render(content: Content, format: str = "") -> bytes:
    """Turn a content into a file; format: by default the one it came in, or PNG, WAV or .npy.

    Raises ArdmError, with the reason, if the format cannot hold it.
    """
    if content.kind == Kind.BYTES:
        if format in ("", content.origin):
            return content.samples.tobytes()
        raise ArdmError(f"these are plain bytes, which cannot be written as {format}")
    format = format or content.origin or _DEFAULT[content.kind]
    if format not in FORMATS:
        raise ArdmError(f"format must be one of {', '.join(FORMATS)}; got {format!r}")
    if content.kind == Kind.ARRAY != FORMATS[format].kind:
        content = npy.as_image(content)
    if FORMATS[format].kind not in (Kind.ARRAY, content.kind):
        raise ArdmError(f"{format} cannot hold {_WORDS[content.kind]}")
    try:
        return FORMATS[format].render(_translated(content, format))
    except ArdmError:
        raise
    except Exception as error:  # the about blocks may come from untrusted files
        if out_of_memory(error):
            raise MemoryError from error
        raise ArdmError(f"this cannot be written as {format}: the metadata it keeps is damaged") from error


def _translated(content: Content, format: str) -> Content:
    """Expand a palette, and take profile and XMP out of a TIFF, for formats that cannot hold them as they are."""
    if "palette" in content.about and format not in ("png", content.origin):
        rest = {key: value for key, value in content.about.items() if key in ("icc", "exif", "xmp")}
        content = image(displayed(content), "", rest)
    if content.origin == "tiff" and format != "tiff" and "head" in content.about:
        content = replace(content, about={**content.about, **tiff.carried(tiff.FORMAT.render(content))})
    return content
