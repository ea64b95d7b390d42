"""Compress images, bytes and files in memory, and decompress them, in one call each.

data = ardm.compress(x)                  # an image, a tensor or an array: ardm.decompress(data) is its tensor
data = ardm.compress(b"any bytes")       # ardm.decompress(data) == b"any bytes"
data = ardm.compress(Path("photo.png"))  # what `ardm compress photo.png` writes
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ardm import formats
from ardm.ans import refuse_check
from ardm.codec import decode, encode, registry
from ardm.codec.regions import PartCoder
from ardm.codec.registry import coder, maker
from ardm.codec.selection import Engine
from ardm.content import Content, Kind
from ardm.errors import ArdmError
from ardm.exact.model import CodecModel
from ardm.exact.planned import Steps
from ardm.files.compress import compress_file
from ardm.files.options import FileOptions

if TYPE_CHECKING:
    from torch import Tensor


class HasCodec(Protocol):
    """Anything that holds a codec model, such as a `Bundle` of `ardm.fit(…, codec=True)`."""

    @property
    def codec(self) -> CodecModel | None:
        """The codec model."""


Bytes: TypeAlias = bytes | bytearray | memoryview
"""Anything that holds bytes."""


@dataclass(frozen=True)
class _Given(Engine):
    """An engine for a codec model that is already loaded."""

    own: CodecModel | None = None

    @property
    def _model(self) -> CodecModel:
        assert self.own is not None
        return self.own

    def coder(self, content: Content) -> PartCoder[Any] | None:
        """The coder of that model."""
        return coder(self._model, self.calls)

    def models(self, identity: str, steps: Steps) -> PartCoder[Any]:
        """The coder of that model, which a bare file needs, or of a bundled one."""
        return maker(names=[self._model])(identity, steps)


def compress(
    x: Tensor | NDArray[Any] | Bytes | Path,
    model: str | Path | CodecModel | HasCodec | None = None,
    calls: int | None = None,
    level: int | None = None,
    check: int = 32,
    bare: bool = False,
) -> bytes:
    """Compress an image, bytes or a file; returns a compressed file in memory.

    x: an image (C, H, W), a tensor or an array of integers 0..65535 of any type and size; bytes; or a `Path`, which is
    read as by `ardm compress`: images and sounds as samples, the rest byte for byte.  Bytes and files are decoded again
    and compared.  model: a bundled codec model, its folder or its file, or a bundle that holds one; by default the model of pictures for an image,
    and for bytes and files one chosen by content.  calls: network calls per item, for models with several numbers of
    them.  level: 1 to 9 in place of both: larger models, smaller files.
    check: bits of the check, 32, 16, 8 or 0 (then damage is not noticed).  bare: leave out what says which model made
    it: `decompress` then needs the same model, and bare=True.
    Raises ArdmError where x is none of these, or the model has no plan of that many calls.
    """
    if isinstance(x, str):
        raise ArdmError(f"a str may be a name or text: give Path({_short(x)}) for the file, or {_short(x)}.encode()")
    model = _codec(model)
    _refuse_options(model, calls, level, check, bare)
    if not isinstance(x, (Path, bytes, bytearray, memoryview)):
        content = Content(Kind.IMAGE, _image(x), "png")
        if level is not None:
            model = registry.model(registry.pictures(level))
            calls = registry.calls_of(model, level)
        return encode.compress(content, coder(model, calls), check=check, bare=bare)[0]
    engine = _Given(model.name, calls, own=model) if isinstance(model, CodecModel) else Engine(model, calls, level)
    as_bytes, out = not isinstance(x, Path), BytesIO()
    options = FileOptions(engine, exact=as_bytes, force=as_bytes, check=check, bare=bare)
    compress_file(x if isinstance(x, Path) else BytesIO(bytes(x)), out, options)
    return out.getvalue()


def _codec(model: str | Path | CodecModel | HasCodec | None) -> str | Path | CodecModel | None:
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


def _refuse_options(model: object, calls: int | None, level: int | None, check: int, bare: bool) -> None:
    """Raise ArdmError for options that exclude each other."""
    refuse_check(check)
    if level is not None and not 1 <= level <= 9:
        raise ArdmError(f"a level is a number from 1 to 9; got {level}")
    if level is not None and (model is not None or calls is not None):
        raise ArdmError(f"level {level} chooses a model and its calls; give a level, or model and calls")
    if bare and model is None:
        raise ArdmError("a bare file does not say which model made it; name the model, on both sides")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _image(x: Any) -> NDArray[Any]:
    """Validate an image: (C, H, W) uint8 or uint16."""
    from ardm.inputs import integers

    if getattr(x, "dtype", None) is None:
        raise ArdmError(f"an image is a tensor or an array of integers (C, H, W); got {type(x).__name__}")
    if str(x.dtype).removeprefix("torch.") == "bool":
        raise ArdmError(
            "values of an image are integers; got truth values: convert them to uint8, for example to 0 and 255"
        )
    samples = integers(x, "an image").cpu().numpy()
    if samples.ndim != 3 or not samples.size:
        hint = ": x[None] is an image of one channel" * (samples.ndim == 2) + ": compress them one by one" * (
            samples.ndim == 4
        )
        raise ArdmError(f"an image has three dimensions (C, H, W), none of them 0; got shape {samples.shape}{hint}")
    if samples.min() < 0 or samples.max() >= 1 << 16:
        raise ArdmError(f"values of an image lie in 0..65535; got {samples.min()}..{samples.max()}")
    narrow = samples.max() < 256 and np.dtype(str(x.dtype).removeprefix("torch.")).itemsize != 2
    return samples.astype("u1" if narrow else "<u2")


def decompress(
    data: Bytes | Path, model: str | Path | CodecModel | HasCodec | None = None, bare: bool = False, digits: int = 0
) -> Tensor | bytes:
    """Decompress a file, given as bytes or as its `Path`.

    Returns an image as (C, H, W) uint8 of displayed values, int32 for 16-bit samples; sound as (C, 1, L), where 32768 is
    silence in 16 bits; an array as `numpy.load` does; a file that was kept byte for byte as bytes.
    model: a codec model to try before the bundled ones.  bare: it was compressed with bare=True, and by this model.
    digits: a preview by the first digits of each value, of a model that codes several, with the rest in the middle of
    what they may be; it is read from the front of the file, so its check is not verified.  0: all of them.
    Raises CodecError for a damaged or foreign file.
    """
    if isinstance(data, str):
        raise ArdmError(f"a str may be a name or text: give Path({_short(data)}) for the file, or its bytes")
    if not isinstance(data, (Path, bytes, bytearray, memoryview)):
        raise ArdmError(f"a compressed file is bytes, or a Path; got {type(data).__name__}")
    if isinstance(data, Path):
        from ardm.atomic import reasons, refuse_source

        refuse_source(data)
        with reasons(f"cannot read {data}"):
            data = data.read_bytes()
    model = _codec(model)
    _refuse_options(model, None, None, 32, bare)
    content = decode.decompress(bytes(data), maker(names=() if model is None else [model]), bare=bare, digits=digits)
    if content.kind == Kind.BYTES:
        return content.samples.tobytes()
    import torch

    if content.kind == Kind.ARRAY:
        array = np.load(BytesIO(formats.render(content)), allow_pickle=False)
        return torch.from_numpy(np.array(array, array.dtype.newbyteorder("=")))
    samples = formats.displayed(content) if content.kind == Kind.IMAGE else content.samples
    return torch.from_numpy(samples.astype(np.int32) if samples.itemsize > 1 else samples.copy())
