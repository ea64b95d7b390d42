"""Classical lossless codecs behind one small protocol: what a learned one has to be compared with.

    for codec in classical(items):          a Codec, or an Absent that says why it is none
        codec.compress(items)               sizes and seconds; every item has been decoded and compared

Every codec gets the same samples in memory and nothing else.  Those for pictures write a file that says its size; those
for bytes are told it, as they are told the rate of a sound: that favours them by some bytes an item, and is left so.
Pictures are given to them pixel by pixel as in a PPM file (to LZMA plane by plane, which suits it better), sounds as in
a WAV file.  What must be trained is trained on other items, which the caller gives; how many bytes of that the decoder
has to have is `Codec.shared`, and no part of the sizes.

Read me first: the libraries are optional (the extra "bench" names them), and are imported where they are used.

NumPy, no torch.
"""

from __future__ import annotations

import io
import lzma
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ardm.codec.header import Form
from ardm.content import Content, Kind, Samples
from ardm.errors import ArdmError

PROGRAM = "the program flac"
"""What the highest effort of FLAC needs."""
UNTRAINED = "needs other files to train on: --train FOLDER or --split"
"""What is said of a codec that must be trained, when there is nothing to train it on."""
DICTIONARY = 112_640
"""Bytes of a trained dictionary of zstd, its own default."""
TRAINING = 1 << 25
"""Bytes that it is trained on, about, of which every second, third, … piece is taken if there are more."""
PREFIX = 1 << 23
"""Bytes of other items that zstd looks back into, at most."""
PRIME = 1 << 21
"""Bytes of other items that PPMd reads before each item, at most."""
SLOW = 1 << 16
"""Pixels of a picture beyond which the highest effort of JPEG XL takes minutes, and is left out."""

Encode: TypeAlias = Callable[[Content], bytes]
Decode: TypeAlias = Callable[[bytes, Form], Samples]
Make: TypeAlias = "Callable[[str, Setting], Codec | Absent]"


class Changed(ArdmError):  # noqa: N818
    """What a codec gave back is not what it was given."""


@dataclass(frozen=True)
class Coding:
    """What coding some items, each alone, came to; all of them were decoded and compared.

    sizes: bytes of each.  framing: bytes, in all, of what frames the coded samples: signatures, headers, lengths.
    encoding, decoding: wall-clock seconds in all.
    """

    sizes: tuple[int, ...]
    framing: int
    encoding: float
    decoding: float


def _all(content: Content) -> str:
    return ""


def _frameless(data: bytes) -> int:
    return 0


def _apart(items: Sequence[Content]) -> Coding | None:
    return None


@dataclass(frozen=True)
class Codec:
    """A way to code contents.  The form of what it decodes is known to it: kind, shape, type, rate.

    version: of the libraries, for the record.  refuses: why it cannot hold a content, empty if it can.
    framing: how many of a file's bytes frame it.  together: all items in one file, decoded and compared, or None where
    they do not go into one.  calls: network calls, of a learned codec.
    shared: bytes that both sides have to have before: a dictionary, a text that was read before, the weights of a model.
    outside: another program does the work, whose memory is not seen from here.
    """

    name: str
    version: str
    encode: Encode
    decode: Decode
    refuses: Callable[[Content], str] = _all
    framing: Callable[[bytes], int] = _frameless
    together: Callable[[Sequence[Content]], Coding | None] = _apart
    calls: int = 0
    shared: int = 0
    outside: bool = False

    def compress(self, items: Sequence[Content], done: Callable[[], object] = lambda: None) -> Coding:
        """Code each item alone, decode it, compare; `done` is called after each.  Raises Changed."""
        sizes, framing, encoding, decoding = [], 0, 0.0, 0.0
        for item in items:
            began = time.perf_counter()
            data = self.encode(item)
            middle = time.perf_counter()
            back = self.decode(data, Form.of(item))
            decoding += time.perf_counter() - middle
            encoding += middle - began
            same(self.name, item.samples, back)
            sizes.append(len(data))
            framing += self.framing(data)
            done()
        return Coding(tuple(sizes), framing, encoding, decoding)


@dataclass(frozen=True)
class Absent:
    """A codec that cannot be measured here, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Setting:
    """What codecs are made for.  training: the bytes of other items.  threads: those that a codec may use."""

    training: Sequence[bytes] = ()
    threads: int = 1


def classical(items: Sequence[Content], training: Sequence[Content] = (), threads: int = 1) -> list[Codec | Absent]:
    """The codecs that fit the items, all of one kind.

    training: items that are not among those to be measured (see `others`); zstd's dictionaries and PPMd's prime come
    from them.
    """
    setting = Setting([raw(item) for item in training], threads)
    return [_made(name, make, remedy, setting) for name, fits, make, remedy in _CODECS if all(map(fits, items))]


def others(training: Sequence[Content], measured: Sequence[Content]) -> list[Content]:
    """What of the training items is not among the measured."""
    seen = {_key(item) for item in measured}
    return [item for item in training if _key(item) not in seen]


def cut(content: Content, size: int) -> list[Content]:
    """Bytes as items of `size` bytes, the last of which may be shorter; anything else, and size 0, as it is."""
    if content.kind != Kind.BYTES or not size:
        return [content]
    starts = range(0, content.shape[2], size)
    return [replace(content, samples=content.samples[..., s : s + size], origin="") for s in starts]


def same(name: str, given: Samples, back: Samples) -> None:
    """Raise Changed unless what came back is what was given, to the shape and type."""
    if back.dtype != given.dtype or not np.array_equal(given, back):
        raise Changed(f"{name} gave back other samples than it was given: its sizes mean nothing; please report this")


def _key(item: Content) -> tuple[Any, ...]:
    return (item.kind, item.shape, item.wide, item.samples.tobytes())


def missing(remedy: str) -> str:
    """What is said of a codec that is not here."""
    return f"not installed ({remedy})"


def _made(name: str, make: Make, remedy: str, setting: Setting) -> Codec | Absent:
    try:
        return make(name, setting)
    except (ImportError, OSError):  # the latter: a package whose own library is not there
        return Absent(name, missing(remedy))


# --- samples as those codecs like them --------------------------------------------------------------------------------


def raw(content: Content) -> bytes:
    """The samples as raw files hold them: pixels (H, W, C), sound (L, C) with 16 bits signed, else as they are."""
    x = content.samples
    if content.kind == Kind.AUDIO:
        return signed(x).tobytes() if content.wide else x[:, 0].T.tobytes()
    return bytes(x.transpose(1, 2, 0).tobytes())


def unraw(data: bytes, form: Form) -> Samples:
    """The inverse of raw."""
    C, H, W = form.shape
    flat = np.frombuffer(data, form.dtype)
    if form.kind == Kind.AUDIO and form.wide:
        flat = flat ^ np.uint16(1 << 15)
    return np.ascontiguousarray(flat.reshape(H, W, C).transpose(2, 0, 1))


def _planes(content: Content) -> bytes:
    return content.samples.tobytes() if content.kind != Kind.AUDIO else raw(content)


def _unplanes(data: bytes, form: Form) -> Samples:
    if form.kind == Kind.AUDIO:
        return unraw(data, form)
    return np.frombuffer(data, form.dtype).reshape(form.shape)


def signed(x: Samples) -> NDArray[np.int16]:
    """Sound (C, 1, L) of 16 bits, or of 8 as the upper half of 16, as (L, C) int16."""
    wide = x if x.itemsize == 2 else x.astype("<u2") << 8
    return np.ascontiguousarray((wide ^ np.uint16(1 << 15)).astype("<u2").view("<i2")[:, 0].T)


def unsigned(y: NDArray[Any], form: Form) -> Samples:
    """The inverse of signed."""
    x = (np.ascontiguousarray(y, "<i2").view("<u2") ^ np.uint16(1 << 15)).T[:, None]
    return np.ascontiguousarray(x if form.wide else (x >> 8).astype(np.uint8))


def pixels(x: Samples) -> Samples:
    """(C, H, W) as (H, W), or (H, W, C) for more than one channel."""
    return x[0] if len(x) == 1 else np.ascontiguousarray(x.transpose(1, 2, 0))


def channels(y: Samples, number: int) -> Samples:
    """The inverse of pixels; some formats make colours of grey, or grey of colours, and leave an opaque alpha out."""
    x = y[None] if y.ndim == 2 else y.transpose(2, 0, 1)
    if number >= 3 and len(x) <= 2:
        x = np.concatenate([x[[0, 0, 0]], x[1:]])
    if number <= 2 and len(x) >= 3:
        x = x[[0]] if number == 1 else x[[0, -1]] if len(x) == 4 else x[:1]
    if number in (2, 4) and len(x) == number - 1:
        x = np.concatenate([x, np.full_like(x[:1], np.iinfo(x.dtype).max)])
    return np.ascontiguousarray(x)


# --- several items as one ---------------------------------------------------------------------------------------------


def _in_one(
    name: str,
    encode: Encode,
    decode: Decode,
    join: Callable[[Sequence[Content]], Content | None],
    refuses: Callable[[Content], str] = _all,
) -> Callable[[Sequence[Content]], Coding | None]:
    """What `Codec.together` is, where items are joined to one content."""

    def together(items: Sequence[Content]) -> Coding | None:
        whole = join(items)
        return None if whole is None or refuses(whole) else Codec(name, "", encode, decode).compress([whole])

    return together


def _chain(items: Sequence[Content]) -> Content:
    """The bytes of all items, one after the other."""
    return Content.of_bytes(b"".join(map(raw, items)))


def _mosaic(items: Sequence[Content]) -> Content | None:
    """Pictures of one size, row by row in a near-square sheet, the last row filled with zeros."""
    if len({(item.shape, item.wide) for item in items}) > 1:
        return None
    C, H, W = items[0].shape
    across = int(np.ceil(len(items) ** 0.5))
    sheet = np.zeros((C, H * -(-len(items) // across), W * across), items[0].samples.dtype)
    for i, item in enumerate(items):
        y, x = i // across * H, i % across * W
        sheet[:, y : y + H, x : x + W] = item.samples
    return Content(Kind.IMAGE, sheet)


def _reel(items: Sequence[Content]) -> Content | None:
    """Sounds of one rate, one after the other."""
    if len({(item.shape[0], item.wide, item.rate) for item in items}) > 1:
        return None
    return replace(items[0], samples=np.concatenate([item.samples for item in items], axis=2), about={})


# --- pictures ---------------------------------------------------------------------------------------------------------


def _pictures(
    name: str, about: str, encode: Encode, decode: Decode, refuses: Callable[[Content], str], **more: Any
) -> Codec:
    def fits(content: Content) -> str:
        C, H, W = content.shape
        return refuses(content) if C <= 4 and H * W else f"holds no pictures of {W}x{H} pixels and {C} channels"

    return Codec(name, about, encode, decode, fits, together=_in_one(name, encode, decode, _mosaic, fits), **more)


def _saved(content: Content, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(content.samples)).save(buffer, **options)
    return buffer.getvalue()


def _opened(data: bytes, form: Form) -> Samples:
    with Image.open(io.BytesIO(data)) as image:
        if image.mode == "P":  # what optimisers make of pictures of few colours
            image = image.convert("RGBA" if form.shape[0] in (2, 4) else "RGB")
        return channels(np.array(image).astype(form.dtype, copy=False), form.shape[0])


def _png_refuses(content: Content) -> str:
    return "Pillow writes no colours of 16 bits" if content.wide and content.shape[0] > 1 else ""


def _png_framing(data: bytes) -> int:
    """All but what the IDAT chunks hold."""
    at, held = 8, 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        held += length * (data[at + 4 : at + 8] == b"IDAT")
        at += 12 + length
    return len(data) - held


def _png_bytes(content: Content) -> bytes:
    return _saved(content, format="PNG", optimize=True)


def _png(name: str, setting: Setting) -> Codec:
    about = f"Pillow {version('pillow')}"
    return _pictures(name, about, _png_bytes, _opened, _png_refuses, framing=_png_framing)


def _oxipng(name: str, setting: Setting) -> Codec:
    import oxipng

    def encode(content: Content) -> bytes:
        return oxipng.optimize_from_memory(_png_bytes(content), level=6, strip=oxipng.StripChunks.all())

    about = f"pyoxipng {version('pyoxipng')}"
    return _pictures(name, about, encode, _opened, _png_refuses, framing=_png_framing)


def _webp(name: str, setting: Setting) -> Codec:
    def encode(content: Content) -> bytes:
        return _saved(content, format="WEBP", lossless=True, quality=100, method=6, exact=True)

    def refuses(content: Content) -> str:
        if content.wide:
            return "holds 8 bits a sample only"
        return "holds at most 16383x16383 pixels" if max(content.shape[1:]) > 16383 else ""

    def framing(data: bytes) -> int:
        at = data.index(b"VP8L")
        return len(data) - int.from_bytes(data[at + 4 : at + 8], "little")

    return _pictures(name, f"Pillow {version('pillow')}", encode, _opened, refuses, framing=framing)


def _jpegxl(name: str, setting: Setting) -> Codec:
    """By imagecodecs; where pillow-jxl-plugin is installed it encodes what has 8 bits, in slightly fewer bytes."""
    import imagecodecs

    effort, threads, about = int(name.rpartition("e")[2]), setting.threads, f"imagecodecs {version('imagecodecs')}"
    plugin = find_spec("pillow_jxl") is not None
    if plugin:
        import_module("pillow_jxl")  # tells Pillow of the format
        about += f" and pillow-jxl-plugin {version('pillow-jxl-plugin')}"

    def encode(content: Content) -> bytes:
        if plugin and not content.wide:
            return _saved(content, format="JXL", lossless=True, effort=effort, num_threads=threads)
        x = pixels(content.samples)
        return bytes(imagecodecs.jpegxl_encode(x, lossless=True, effort=effort, numthreads=threads))

    def decode(data: bytes, form: Form) -> Samples:
        y = imagecodecs.jpegxl_decode(data, numthreads=threads)
        return channels(y.astype(form.dtype, copy=False), form.shape[0])

    def refuses(content: Content) -> str:
        large = effort > 9 and content.shape[1] * content.shape[2] > SLOW
        return "takes minutes on pictures this large" if large else ""

    about += f", {imagecodecs.jpegxl_version()}"
    return _pictures(name, about, encode, decode, refuses, framing=_jpegxl_framing)


def _jpegxl_framing(data: bytes) -> int:
    """The signature, and the boxes around the codestream if there are any."""
    return 2 if data[:1] == b"\xff" else data.index(b"jxlc") + 6


# --- bytes ------------------------------------------------------------------------------------------------------------


def _bytes(
    name: str,
    about: str,
    squeeze: Callable[[bytes], bytes],
    expand: Callable[[bytes, int], bytes],
    framing: Callable[[bytes], int] = _frameless,
    planes: bool = False,
    shared: int = 0,
) -> Codec:
    """A codec of bytes; expand is told how many there were.  planes: it takes pictures plane by plane."""
    ravel, unravel = (_planes, _unplanes) if planes else (raw, unraw)

    def encode(content: Content) -> bytes:
        return squeeze(ravel(content))

    def decode(data: bytes, form: Form) -> Samples:
        return unravel(expand(data, form.raw_bytes), form)

    together = _in_one(name, encode, decode, _chain)
    return Codec(name, about, encode, decode, framing=framing, together=together, shared=shared)


def _zstd(name: str, setting: Setting) -> Codec:
    return _zstd_with(name, None)


def _zstd_trained(name: str, setting: Setting) -> Codec | Absent:
    import zstandard

    samples: list[Any] = [s[at : at + (1 << 17)] for s in setting.training for at in range(0, len(s), 1 << 17)]
    if not samples:
        return Absent(name, UNTRAINED)
    try:
        trained = zstandard.train_dictionary(DICTIONARY, samples[:: 1 + sum(map(len, samples)) // TRAINING], level=22)
    except zstandard.ZstdError as error:
        return Absent(name, f"there is too little to train on ({error})")
    return _zstd_with(name, trained)


def _zstd_prefixed(name: str, setting: Setting) -> Codec | Absent:
    import zstandard

    prefix = b"".join(setting.training)[-PREFIX:]
    if not prefix:
        return Absent(name, UNTRAINED)
    return _zstd_with(name, zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT))


def _zstd_with(name: str, dictionary: Any) -> Codec:
    import zstandard

    plain: dict[str, Any] = {"level": 22, "write_content_size": False, "write_dict_id": False}
    packer = zstandard.ZstdCompressor(dict_data=dictionary, **plain)
    unpacker = zstandard.ZstdDecompressor(dict_data=dictionary)

    def expand(data: bytes, length: int) -> bytes:
        return unpacker.decompressobj().decompress(data)

    about = f"zstandard {version('zstandard')}, zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))}"
    shared = len(dictionary.as_bytes()) if dictionary else 0
    return _bytes(name, about, packer.compress, expand, zstandard.frame_header_size, shared=shared)


def _brotli(name: str, setting: Setting) -> Codec:
    import brotli

    def squeeze(data: bytes) -> bytes:
        return bytes(brotli.compress(data, quality=11, lgwin=24))

    return _bytes(name, f"brotli {version('brotli')}", squeeze, lambda data, length: brotli.decompress(data))


def _lzma_filters(length: int, code: int = lzma.FILTER_LZMA2, **more: int) -> list[dict[str, Any]]:
    """The highest preset with a dictionary that is no larger than it can be of use, which saves most of the time."""
    size = max(4096, 1 << max(0, length - 1).bit_length())
    return [{"id": code, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": min(size, 1 << 26), **more}]


def _xz(name: str, setting: Setting) -> Codec:
    def squeeze(data: bytes) -> bytes:
        return lzma.compress(data, check=lzma.CHECK_NONE, filters=_lzma_filters(len(data)))

    def framing(data: bytes) -> int:
        """Header, block header, index and footer, by the numbers in them (xz file format, 2.1 and 3.1)."""
        block = 4 * (data[12] + 1) if data[12] else 0
        return 12 + block + 4 * (int.from_bytes(data[-8:-4], "little") + 1) + 12

    return _bytes(
        name, f"liblzma of Python {platform.python_version()}", squeeze, lambda d, n: lzma.decompress(d), framing
    )


def _raw_lzma(name: str, setting: Setting) -> Codec:
    tuned = {"lc": 4, "lp": 0, "pb": 0}

    def squeeze(data: bytes) -> bytes:
        return lzma.compress(data, lzma.FORMAT_RAW, filters=_lzma_filters(len(data), **tuned))

    def expand(data: bytes, length: int) -> bytes:
        return lzma.decompress(data, lzma.FORMAT_RAW, filters=_lzma_filters(length, **tuned))

    return _bytes(name, f"liblzma of Python {platform.python_version()}", squeeze, expand, planes=True)


def _ppmd(name: str, setting: Setting) -> Codec:
    return _ppmd_after(name, b"")


def _ppmd_primed(name: str, setting: Setting) -> Codec | Absent:
    import pyppmd  # noqa: F401  (that it is missing matters more than that there is nothing to train on)

    prime = b"".join(setting.training)[-PRIME:]
    return _ppmd_after(name, prime) if prime else Absent(name, UNTRAINED)


def _ppmd_after(name: str, prime: bytes, order: int = 8, memory: int = 1 << 26) -> Codec:
    """PPMd (variant H) that has read `prime`; what it wrote for that is known to the decoder, and costs nothing."""
    import pyppmd

    known = pyppmd.Ppmd7Encoder(order, memory).encode(prime) if prime else b""

    def squeeze(data: bytes) -> bytes:
        coder = pyppmd.Ppmd7Encoder(order, memory)
        start = coder.encode(prime) if prime else b""
        if start != known:
            raise Changed(f"{name} is not the same twice")
        return bytes(coder.encode(data) + coder.flush()) if data else b""

    def expand(data: bytes, length: int) -> bytes:
        if not length:
            return b""
        return bytes(pyppmd.Ppmd7Decoder(order, memory).decode(known + data, len(prime) + length)[len(prime) :])

    return _bytes(name, f"pyppmd {version('pyppmd')}", squeeze, expand, shared=len(prime))


# --- sound ------------------------------------------------------------------------------------------------------------


def _flac_refuses(content: Content) -> str:
    C, _, L = content.shape
    if C > 8 or not L or not 1 <= content.rate <= 655_350:
        return "holds 1 to 8 channels of at least one sample, at 1 to 655350 samples a second"
    return ""


def _sounds(name: str, about: str, encode: Encode, decode: Decode) -> Codec:
    together = _in_one(name, encode, decode, _reel, _flac_refuses)
    return Codec(name, about, encode, decode, _flac_refuses, lambda data: 42, together)


def bare_flac(data: bytes) -> bytes:
    """A FLAC file without anything but the one metadata block that every file must have."""
    at, last = 4, False
    while not last:
        last = data[at] >= 128
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return data[:4] + b"\x80" + data[5:42] + data[at:]


def _flac(name: str, setting: Setting) -> Codec:
    import soundfile

    def encode(content: Content) -> bytes:
        buffer = io.BytesIO()
        kind = "PCM_16" if content.wide else "PCM_S8"
        soundfile.write(
            buffer, signed(content.samples), content.rate, format="FLAC", subtype=kind, compression_level=1.0
        )
        return bare_flac(buffer.getvalue())

    def decode(data: bytes, form: Form) -> Samples:
        return unsigned(soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)[0], form)

    about = f"soundfile {version('soundfile')}, {soundfile.__libsndfile_version__}"
    return _sounds(name, about, encode, decode)


def _flac_tool(name: str, setting: Setting) -> Codec | Absent:
    tool = shutil.which("flac")
    if tool is None:
        return Absent(name, missing(PROGRAM))
    plain = [tool, "--silent", "--stdout", "--force-raw-format", "--endian=little", "--sign=signed"]

    def encode(content: Content) -> bytes:
        bits = 16 if content.wide else 8
        y = signed(content.samples) if content.wide else (signed(content.samples) >> 8).astype(np.int8)
        form = [f"--channels={content.shape[0]}", f"--bps={bits}", f"--sample-rate={content.rate}"]
        options = ["-8", "-e", "-p", "--lax", "--no-padding", "--no-seektable"]
        return bare_flac(_run([*plain, *options, *form, "-"], y.tobytes()))

    def decode(data: bytes, form: Form) -> Samples:
        flat = np.frombuffer(_run([*plain, "--decode", "-"], data), "<i2" if form.wide else "i1")
        y = flat.astype("<i2").reshape(-1, form.shape[0])
        return unsigned(y if form.wide else y << 8, form)

    return replace(_sounds(name, _run([tool, "--version"]).decode().strip(), encode, decode), outside=True)


def _run(command: list[str], data: bytes = b"") -> bytes:
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout


# --- the table --------------------------------------------------------------------------------------------------------


def _any(content: Content) -> bool:
    return True


def _shown(content: Content) -> bool:
    return content.kind == Kind.IMAGE or (content.kind == Kind.ARRAY and content.shape[1] > 1)


def _read(content: Content) -> bool:
    return content.kind == Kind.BYTES or (content.kind == Kind.ARRAY and content.shape[1] == 1)


def _heard(content: Content) -> bool:
    return content.kind == Kind.AUDIO


_CODECS: tuple[tuple[str, Callable[[Content], bool], Make, str], ...] = (
    ("PNG", _shown, _png, "pip install pillow"),
    ("oxipng", _shown, _oxipng, "pip install pyoxipng"),
    ("WebP lossless", _shown, _webp, "pip install pillow"),
    ("JPEG XL e7", _shown, _jpegxl, "pip install imagecodecs"),
    ("JPEG XL e9", _shown, _jpegxl, "pip install imagecodecs"),
    ("JPEG XL e10", _shown, _jpegxl, "pip install imagecodecs"),
    ("FLAC -8", _heard, _flac, "pip install soundfile"),
    ("FLAC -8ep", _heard, _flac_tool, PROGRAM),
    ("PPMd", _read, _ppmd, "pip install pyppmd"),
    ("PPMd, primed", _read, _ppmd_primed, "pip install pyppmd"),
    ("brotli -11", _any, _brotli, "pip install brotli"),
    ("zstd -22", _any, _zstd, "pip install zstandard"),
    ("zstd -22, trained", _any, _zstd_trained, "pip install zstandard"),
    ("zstd -22, prefixed", _any, _zstd_prefixed, "pip install zstandard"),
    ("xz -9e", _any, _xz, "Python with lzma"),
    ("raw LZMA", _any, _raw_lzma, "Python with lzma"),
)
"""Name, what it fits, what makes it, and how to come by what that needs."""
