"""Classical lossless codecs behind one small contract, to compare ours with.

    for codec in classical(items):          a Codec, or an Absent with the reason why it is missing
        codec.compress(items)               sizes and seconds; every item is decoded and compared

Every codec gets the same samples in memory and nothing else.  Image codecs write files that hold their size.  Codecs
of bytes get the shape (and the rate of a sound) when they decode, which saves them a few bytes per item.  They get
images pixel by pixel as in a PPM file (LZMA plane by plane, which suits it better), and sounds as in a WAV file.
Codecs that need training get other items, which the caller provides; `Codec.shared` counts the bytes that a decoder then
needs, and no size includes them.

The libraries are optional (the extra "bench" names them) and imported lazily.  NumPy, no PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from ardm.bench import general, pictures, sound
from ardm.bench.codec import Absent, Codec, Make, Setting, missing
from ardm.bench.samples import raw
from ardm.content import Content, Kind


def classical(
    items: Sequence[Content],
    training: Sequence[Content] = (),
    threads: int = 1,
    names: Collection[str] = (),
    bare: bool = False,
) -> list[Codec | Absent]:
    """The codecs that suit the items, which are all of one kind.

    training: items that are not measured (see `others`), for zstd's dictionaries and PPMd's prime.
    names: those wanted; all by default.  bare: zstd's frames without their magic number.
    """
    setting = Setting([raw(item) for item in training], threads, bare)
    wanted = [codec for codec in _CODECS if not names or codec[0] in names]
    return [_made(name, make, remedy, setting) for name, fits, make, remedy in wanted if all(map(fits, items))]


def others(training: Sequence[Content], measured: Sequence[Content]) -> list[Content]:
    """The training items that are not among the measured ones."""
    seen = {_key(item) for item in measured}
    return [item for item in training if _key(item) not in seen]


def cut(content: Content, size: int) -> list[Content]:
    """Cut bytes into items of `size` bytes (the last may be shorter); other kinds, and size 0, stay whole."""
    if content.kind != Kind.BYTES or not size:
        return [content]
    starts = range(0, content.shape[2], size)
    return [replace(content, samples=content.samples[..., s : s + size], origin="") for s in starts]


def _key(item: Content) -> tuple[Any, ...]:
    return (item.kind, item.shape, item.is_16bit, item.samples.tobytes())


def _made(name: str, make: Make, remedy: str, setting: Setting) -> Codec | Absent:
    try:
        return make(name, setting)
    except (ImportError, OSError):  # OSError: the package is there, its shared library is not
        return Absent(name, missing(remedy))


def _any(content: Content) -> bool:
    return True


def _is_picture(content: Content) -> bool:
    return content.kind == Kind.IMAGE or (content.kind == Kind.ARRAY and content.shape[1] > 1)


def _is_bytes(content: Content) -> bool:
    return content.kind == Kind.BYTES or (content.kind == Kind.ARRAY and content.shape[1] == 1)


def _is_sound(content: Content) -> bool:
    return content.kind == Kind.AUDIO


_CODECS: tuple[tuple[str, Callable[[Content], bool], Make, str], ...] = (
    ("PNG", _is_picture, pictures.png, "pip install pillow"),
    ("oxipng", _is_picture, pictures.oxipng, "pip install pyoxipng"),
    ("WebP lossless", _is_picture, pictures.webp, "pip install pillow"),
    ("JPEG XL e7", _is_picture, pictures.jpegxl, "pip install imagecodecs"),
    ("JPEG XL e9", _is_picture, pictures.jpegxl, "pip install imagecodecs"),
    ("JPEG XL e10", _is_picture, pictures.jpegxl, "pip install imagecodecs"),
    ("FLAC -8", _is_sound, sound.flac, "pip install soundfile"),
    ("FLAC -8ep", _is_sound, sound.flac_tool, sound.PROGRAM),
    ("PPMd", _is_bytes, general.ppmd, "pip install pyppmd"),
    ("PPMd, primed", _is_bytes, general.ppmd_primed, "pip install pyppmd"),
    ("brotli -11", _any, general.brotli, "pip install brotli"),
    ("zstd -22", _any, general.zstd, "pip install zstandard"),
    ("zstd -22, trained", _any, general.zstd_trained, "pip install zstandard"),
    ("zstd -22, prefixed", _any, general.zstd_prefixed, "pip install zstandard"),
    ("xz -9e", _any, general.xz, "Python with lzma"),
    ("raw LZMA", _any, general.raw_lzma, "Python with lzma"),
)
"""Name, whether it suits a content, what makes it, and how to install what it needs."""
