"""PGM and PPM, binary, of 8 or 16 bits: header and samples; byte for byte."""

from __future__ import annotations

import re

import numpy as np

from ardm.content import Content
from ardm.errors import ArdmError
from ardm.formats.kit import Kept, Read, admit, image, pixels, planes

_SPACE = rb"(?:\s|#[^\n]*\n)"
_HEAD = re.compile(
    rb"P([56])%b+(\d{1,9})%b+(\d{1,9})%b+(\d{1,5})\s" % ((_SPACE,) * 3)
)  # the last: one white space, after which samples begin


def _canonical(channels: int, height: int, width: int, wide: bool) -> bytes:
    return b"P%d\n%d %d\n%d\n" % (6 if channels == 3 else 5, width, height, 65535 if wide else 255)


def read(data: bytes, strip: bool) -> Read:
    """A picture; strip drops comments and what follows the samples."""
    match = _HEAD.match(data[: 1 << 16])
    if data[1:2] not in b"56":
        raise Kept("only P5 and P6 are read")
    if not match:
        raise Kept("its header cannot be read")
    kind, width, height, top = (int(group) for group in match.groups())
    if top not in (255, 65535):
        raise Kept(f"its samples go up to {top}; only 255 and 65535 are read")
    channels, size = (3 if kind == 6 else 1), (1 if top == 255 else 2)
    admit(channels, height, width)
    begin, end = match.end(), match.end() + channels * height * width * size
    if end > len(data):
        raise Kept("it ends early")
    x = np.frombuffer(data, "u1" if size == 1 else ">u2", channels * height * width, begin)
    head, about = data[:begin], {}
    if head != _canonical(channels, height, width, size == 2):
        about["head"] = head
    if end < len(data):
        about["tail"] = data[end:]
    dropped = {"head": "header as it was", "tail": "bytes after the samples"}
    samples = planes(x.reshape((height, width, 3) if channels == 3 else (height, width)))
    content = image(samples.astype("<u2" if size == 2 else "u1"), "ppm", {} if strip else about)
    return Read(content, (), tuple(dropped[key] for key in about) if strip else ())


def render(content: Content) -> bytes:
    """The file; ArdmError for other than one or three planes."""
    channels, height, width = content.shape
    if channels not in (1, 3):
        raise ArdmError(f"ppm holds grey or RGB, without alpha; the picture has {channels} planes")
    about = content.about if content.origin == "ppm" else {}
    head = about.get("head", _canonical(channels, height, width, content.wide))
    samples = pixels(content.samples).astype(">u2" if content.wide else "u1").tobytes()
    return b"".join((head, samples, about.get("tail", b"")))
