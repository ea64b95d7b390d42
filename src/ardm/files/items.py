"""A codec of items in memory: bytes, pictures and sounds, one at a time or many together; it touches no files.

codec = ardm.Codec()                       # or ardm.Codec("pictures"), or a model of your own
data = codec.encode(b"a record")           # codec.decode(data) == b"a record"
many = codec.encode_many(items)            # one result for each; codec.decode_many(many) gives all items back

Many items pass through the network together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ardm import formats
from ardm.ans import refuse_check
from ardm.codec import decode, encode
from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.header import is_archive
from ardm.codec.regions import PartCoder
from ardm.codec.selection import Engine
from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.exact.model import CodecModel

if TYPE_CHECKING:
    from torch import Tensor


class HasCodec(Protocol):
    """Anything that holds a codec model, such as a `Bundle` of `ardm.fit(…, codec=True)`."""

    @property
    def codec(self) -> CodecModel | None:
        """The codec model."""


Bytes: TypeAlias = bytes | bytearray | memoryview
"""Anything that holds bytes."""
BYTES = (bytes, bytearray, memoryview)
"""The types of `Bytes`."""


class Codec:
    """Encodes items to bytes and back, without loss: what `ardm compress` writes and `ardm decompress` reads, in memory.

    An item is bytes (text, records, anything), or a picture: an array or tensor (C, H, W) of integers 0..65535, which
    comes back as a NumPy array of uint8, or of uint16 where it was given in 16 bits or has values above 255.

    model: a bundled codec model, its folder or its file, or a bundle that holds one; by default what suits each item.
    level: 1 to 9 instead: larger models, smaller results.  calls: network calls per item, for models with several
    numbers of them.  bare: leave out what says which model made it: a decoder needs the same model, and bare=True.
    check: bits of the check of each item, 32, 16, 8 or 0 (then damage is not noticed).
    rate: samples a second; arrays are then sounds (C, L) of int16 instead of pictures.
    device, threads: where networks run, and on how many cores (0: as many as pay).

    Several threads may use one codec at once, and it can be pickled.  A model that is named is loaded at once.
    Raises ArdmError for options that exclude each other, and where the model is missing.
    """

    def __init__(
        self,
        model: str | Path | CodecModel | HasCodec | None = None,
        *,
        level: int | None = None,
        calls: int | None = None,
        bare: bool = False,
        check: int = 32,
        rate: int = 0,
        device: str = "auto",
        threads: int = 0,
    ) -> None:
        model = codec_of(model)
        refuse_options(model, calls, level, check, bare)
        if not 0 <= rate < 1 << 32:
            raise ArdmError(f"a rate is a number of samples a second, 1 to 2^32 - 1, or 0 for pictures; got {rate}")
        self._options = model, calls, level, "auto", device, threads
        self._check, self._bare, self._rate, self._engines = check, bare, rate, local()
        if model is not None:
            self._engine.coders(Content.of_bytes(b""))

    def __repr__(self) -> str:
        model, calls, level = self._options[:3]
        named = model.name if isinstance(model, CodecModel) else model
        given = {"model": named, "calls": calls, "level": level, "bare": self._bare or None, "rate": self._rate or None}
        shown = [f"{name}={value!r}" for name, value in given.items() if value is not None]
        return f"Codec({', '.join([*shown, f'check={self._check}'])})"

    @property
    def _engine(self) -> Engine:
        """The engine of this thread: what it keeps between items must not be shared."""
        found: Engine | None = getattr(self._engines, "own", None)
        if found is None:
            found = self._engines.own = Engine(*self._options)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_engines"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _engines=local())

    def encode(self, item: Bytes | NDArray[Any] | Tensor) -> bytes:
        """Encode an item.  Raises ArdmError where it is none."""
        return self._encoded([self._content(item)])[0]

    def encode_many(self, items: Iterable[Bytes | NDArray[Any] | Tensor]) -> list[bytes]:
        """Encode many items together: the bytes that `encode` gives for each, in far less time.

        Raises ArdmError with the number of the first that is none.
        """
        contents = list[Content]()
        for number, item in enumerate(items):
            with decode.numbered(number):
                contents.append(self._content(item))
        return self._encoded(contents)

    def decode(self, data: Bytes) -> bytes | NDArray[Any]:
        """Decode what this class or `ardm compress` made: bytes, a picture (C, H, W), a sound (C, L) or an array.

        Raises CodecError for damaged or foreign data.
        """
        data = _refuse_other(data)
        if is_archive(data) and not self._bare:
            return array_of(list(open_archive(data).items(self._engine.models)))
        return value_of(decode.decompress(data, self._engine.models, bare=self._bare))

    def decode_many(self, data: Iterable[Bytes]) -> list[bytes | NDArray[Any]]:
        """Decode many results together.  Raises CodecError with the number of the first that is damaged or foreign."""
        files = list[bytes]()
        for number, one in enumerate(data):
            with decode.numbered(number):
                files.append(_refuse_other(one))
        return [value_of(content) for content in decode.decompress_many(files, self._engine.models, bare=self._bare)]

    def encode_array(self, array: NDArray[Any]) -> bytes:
        """Encode an array of integers of any shape, which `decode` gives back with its type and shape.

        (H, W), (H, W, C) and (C, H, W) of 8 or 16 bits with C up to 4 and at least 8 rows and columns are one picture;
        (N, …) of these are N pictures, coded together (an archive).  Other arrays are stored without a model.
        Raises ArdmError for other types, and for an array of several pictures where the codec is bare.
        """
        whole, rows = _contents(array)
        if not rows:
            return self._encoded([whole])[0]
        if self._bare:
            raise ArdmError(f"an array {array.shape} of several pictures makes an archive, which is never bare")
        return compress_archive(rows, None, self._engine.coder(rows[0]), check=self._check)[0]

    def _encoded(self, contents: Sequence[Content]) -> list[bytes]:
        """The shortest result of each content, by all models that suit it; contents of one model are coded together."""
        groups: dict[tuple[PartCoder[Any] | None, ...], list[int]] = {}
        for number, content in enumerate(contents):
            able = [coder for coder in self._engine.coders(content) if coder.refuses(content) is None]
            groups.setdefault(tuple(able) or (None,), []).append(number)
        found = dict[int, bytes]()
        for coders, numbers in groups.items():
            for coder in coders:
                coded = encode.compress_many((contents[k] for k in numbers), coder, self._check, self._bare)
                for number, data in zip(numbers, coded, strict=True):
                    found[number] = min(found.get(number, data), data, key=len)
        return [found[number] for number in range(len(contents))]

    def _content(self, item: Any) -> Content:
        """What an item holds."""
        if isinstance(item, BYTES):
            return Content.of_bytes(bytes(item))
        if isinstance(item, str):
            raise ArdmError(f"a text is encoded as bytes: give {short_repr(item)}.encode()")
        if isinstance(item, Path):
            raise ArdmError(f"a codec reads no files: give the bytes of {item}, or use ardm.compress(Path(…))")
        if self._rate:
            return Content(Kind.AUDIO, _sound(item), "wav", rate=self._rate)
        return Content(Kind.IMAGE, _picture(item), "png")


def _refuse_other(data: Any) -> bytes:
    """The bytes to decode; raises ArdmError for anything else."""
    if not isinstance(data, BYTES):
        raise ArdmError(f"what a codec decodes is bytes; got {type(data).__name__}")
    return bytes(data)


# --- models and options -----------------------------------------------------------------------------------------------


def codec_of(model: str | Path | CodecModel | HasCodec | None) -> str | Path | CodecModel | None:
    """The codec model of a bundle; anything else unchanged."""
    if model is None or isinstance(model, (str, Path, CodecModel)):
        return model
    if not hasattr(model, "codec"):
        raise ArdmError(f"a codec model is named by a str or a Path, or is in a bundle; got {type(model).__name__}")
    if model.codec is None:
        raise ArdmError(
            "this bundle holds no codec model: name the folder into which `ardm export` wrote one, or train with "
            "ardm.fit(…, codec=True)"
        )
    return model.codec


def refuse_options(model: object, calls: int | None, level: int | None, check: int, bare: bool) -> None:
    """Raise ArdmError for options that exclude each other."""
    refuse_check(check)
    if level is not None and not 1 <= level <= 9:
        raise ArdmError(f"a level is a number from 1 to 9; got {level}")
    if level is not None and (model is not None or calls is not None):
        raise ArdmError(f"level {level} chooses a model and its calls; give a level, or model and calls")
    if bare and model is None:
        raise ArdmError("a bare file does not say which model made it; name the model, on both sides")


# --- items ------------------------------------------------------------------------------------------------------------


def short_repr(text: str) -> str:
    """A text for an error message, cut to 40 characters."""
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _picture(x: Any) -> NDArray[Any]:
    """Validate a picture: (C, H, W) uint8 or uint16."""
    samples = x if isinstance(x, np.ndarray) and x.dtype in (np.uint8, np.uint16) else _integers(x)
    if samples.ndim != 3 or not samples.size:
        hint = ": x[None] is an image of one channel" * (samples.ndim == 2) + ": compress them one by one" * (
            samples.ndim == 4
        )
        raise ArdmError(f"an image has three dimensions (C, H, W), none of them 0; got shape {samples.shape}{hint}")
    if samples.min() < 0 or samples.max() >= 1 << 16:
        raise ArdmError(f"values of an image lie in 0..65535; got {samples.min()}..{samples.max()}")
    narrow = samples.max() < 256 and np.dtype(str(x.dtype).removeprefix("torch.")).itemsize != 2
    return samples.astype("u1" if narrow else "<u2")


def _integers(x: Any) -> NDArray[Any]:
    """The integers of an array or a tensor of any type."""
    from ardm.inputs import integers

    if getattr(x, "dtype", None) is None:
        raise ArdmError(f"an image is a tensor or an array of integers (C, H, W); got {type(x).__name__}")
    if str(x.dtype).removeprefix("torch.") == "bool":
        raise ArdmError(
            "values of an image are integers; got truth values: convert them to uint8, for example to 0 and 255"
        )
    return integers(x, "an image").cpu().numpy()


def _sound(x: Any) -> NDArray[Any]:
    """Validate a sound (C, L) of int16; returns samples (C, 1, L) of uint16, in which 32768 is silence."""
    found = np.asarray(x)
    if found.dtype != np.int16 or found.ndim != 2 or not len(found):
        raise ArdmError(
            f"with a rate, an array is a sound: channels and samples (C, L) of int16; got {found.dtype} of shape {found.shape}"
        )
    return (found.astype("<i2").view("<u2") ^ np.uint16(1 << 15))[:, None]


def value_of(content: Content) -> bytes | NDArray[Any]:
    """A content as an item: bytes, a picture (C, H, W), a sound (C, L) of int16 (uint8 where it has 8 bits), an array."""
    if content.kind == Kind.BYTES:
        return content.samples.tobytes()
    if content.kind == Kind.ARRAY:
        return array_of([content])
    if content.kind == Kind.IMAGE:
        return formats.displayed(content)
    flat = content.samples[:, 0]
    return (flat ^ np.uint16(1 << 15)).view("<i2") if content.is_16bit else flat


# --- arrays -----------------------------------------------------------------------------------------------------------


def _contents(array: NDArray[Any]) -> tuple[Content, list[Content]]:
    """An array as one content, and as several pictures where it is none itself but its rows are."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biu":
        raise ArdmError(f"an array of integers is encoded; got {getattr(array, 'dtype', type(array).__name__)}")
    file = BytesIO()
    np.save(file, array)
    whole = formats.read(file.getvalue()).content
    rows = formats.items(file.getvalue()) if _is_flat(whole) else None
    return whole, rows if rows and not _is_flat(rows[0]) else []


def _is_flat(content: Content) -> bool:
    """Whether an array was taken for bytes, not for a picture."""
    return content.shape[1] == 1


def array_of(contents: Sequence[Content]) -> NDArray[Any]:
    """The array that one content holds, or that several were the rows of, as in its file.  Raises ArdmError for others."""
    data = formats.render(contents[0]) if len(contents) == 1 else formats.joined(contents)
    array: NDArray[Any] = np.load(BytesIO(data), allow_pickle=False)
    return array
