"""Image codecs: PNG, oxipng, lossless WebP and JPEG XL."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from ardm.bench.codec import Codec, Decode, Encode, Setting
from ardm.bench.samples import channels, in_one, mosaic, pixels
from ardm.codec.header import Form
from ardm.content import Content, Samples

SLOW = 1 << 16
"""Pixels above which the highest effort of JPEG XL takes minutes and is left out."""


def _pictures(
    name: str, about: str, encode: Encode, decode: Decode, refuses: Callable[[Content], str], **more: Any
) -> Codec:
    def fits(content: Content) -> str:
        C, H, W = content.shape
        return refuses(content) if C <= 4 and H * W else f"holds no image of {W}x{H} pixels and {C} channels"

    return Codec(name, about, encode, decode, fits, together=in_one(name, encode, decode, mosaic, fits), **more)


def _saved(content: Content, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(content.samples)).save(buffer, **options)
    return buffer.getvalue()


def _opened(data: bytes, form: Form) -> Samples:
    with Image.open(io.BytesIO(data)) as image:
        if image.mode == "P":  # optimisers turn images of few colours into palettes
            image = image.convert("RGBA" if form.shape[0] in (2, 4) else "RGB")
        return channels(np.array(image).astype(form.dtype, copy=False), form.shape[0])


def _png_refuses(content: Content) -> str:
    return "Pillow writes no colours of 16 bits" if content.is_16bit and content.shape[0] > 1 else ""


def _png_framing(data: bytes) -> int:
    """All bytes outside the IDAT chunks."""
    at, held = 8, 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        held += length * (data[at + 4 : at + 8] == b"IDAT")
        at += 12 + length
    return len(data) - held


def _png_bytes(content: Content) -> bytes:
    return _saved(content, format="PNG", optimize=True)


def png(name: str, setting: Setting) -> Codec:
    """PNG by Pillow."""
    about = f"Pillow {version('pillow')}"
    return _pictures(name, about, _png_bytes, _opened, _png_refuses, framing=_png_framing)


def oxipng(name: str, setting: Setting) -> Codec:
    """PNG by oxipng, at its highest level."""
    import oxipng

    def encode(content: Content) -> bytes:
        return oxipng.optimize_from_memory(_png_bytes(content), level=6, strip=oxipng.StripChunks.all())

    about = f"pyoxipng {version('pyoxipng')}"
    return _pictures(name, about, encode, _opened, _png_refuses, framing=_png_framing)


def webp(name: str, setting: Setting) -> Codec:
    """Lossless WebP by Pillow, at its highest effort."""

    def encode(content: Content) -> bytes:
        return _saved(content, format="WEBP", lossless=True, quality=100, method=6, exact=True)

    def refuses(content: Content) -> str:
        if content.is_16bit:
            return "holds 8 bits per sample only"
        return "holds at most 16383x16383 pixels" if max(content.shape[1:]) > 16383 else ""

    def framing(data: bytes) -> int:
        at = data.index(b"VP8L")
        return len(data) - int.from_bytes(data[at + 4 : at + 8], "little")

    return _pictures(name, f"Pillow {version('pillow')}", encode, _opened, refuses, framing=framing)


def jpegxl(name: str, setting: Setting) -> Codec:
    """JPEG XL by imagecodecs; pillow-jxl-plugin, if installed, encodes 8 bits in slightly fewer bytes."""
    import imagecodecs

    effort, threads, about = int(name.rpartition("e")[2]), setting.threads, f"imagecodecs {version('imagecodecs')}"
    plugin = find_spec("pillow_jxl") is not None
    if plugin:
        import_module("pillow_jxl")  # registers the format with Pillow
        about += f" and pillow-jxl-plugin {version('pillow-jxl-plugin')}"

    def encode(content: Content) -> bytes:
        if plugin and not content.is_16bit:
            return _saved(content, format="JXL", lossless=True, effort=effort, num_threads=threads)
        x = pixels(content.samples)
        return bytes(imagecodecs.jpegxl_encode(x, lossless=True, effort=effort, numthreads=threads))

    def decode(data: bytes, form: Form) -> Samples:
        y = imagecodecs.jpegxl_decode(data, numthreads=threads)
        return channels(y.astype(form.dtype, copy=False), form.shape[0])

    def refuses(content: Content) -> str:
        large = effort > 9 and content.shape[1] * content.shape[2] > SLOW
        return "takes minutes on images this large" if large else ""

    about += f", {imagecodecs.jpegxl_version()}"
    return _pictures(name, about, encode, decode, refuses, framing=_jpegxl_framing)


def _jpegxl_framing(data: bytes) -> int:
    """The signature, and any boxes around the codestream."""
    return 2 if data[:1] == b"\xff" else data.index(b"jxlc") + 6
