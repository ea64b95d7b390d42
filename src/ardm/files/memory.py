"""Compress images, bytes and files in memory, and decompress them, in one call each.

data = ardm.compress(x)                  # an image, a tensor or an array: ardm.decompress(data) is its tensor
data = ardm.compress(b"any bytes")       # ardm.decompress(data) == b"any bytes"
data = ardm.compress(Path("photo.png"))  # what `ardm compress photo.png` writes
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ardm.codec import decode
from ardm.codec.registry import maker
from ardm.codec.selection import Engine
from ardm.content import Kind
from ardm.errors import ArdmError
from ardm.exact.model import CodecModel
from ardm.files.compress import compress_file
from ardm.files.items import BYTES, Bytes, Codec, HasCodec, codec_of, refuse_options, short_repr, value_of
from ardm.files.options import FileOptions

if TYPE_CHECKING:
    from torch import Tensor


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
        raise ArdmError(
            f"a str may be a name or text: give Path({short_repr(x)}) for the file, or {short_repr(x)}.encode()"
        )
    if not isinstance(x, (Path, *BYTES)):
        return Codec(model, level=level, calls=calls, check=check, bare=bare).encode(x)
    model = codec_of(model)
    refuse_options(model, calls, level, check, bare)
    as_bytes, out = not isinstance(x, Path), BytesIO()
    options = FileOptions(Engine(model, calls, level), exact=as_bytes, force=as_bytes, check=check, bare=bare)
    compress_file(x if isinstance(x, Path) else BytesIO(bytes(x)), out, options)
    return out.getvalue()


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
        raise ArdmError(f"a str may be a name or text: give Path({short_repr(data)}) for the file, or its bytes")
    if not isinstance(data, (Path, *BYTES)):
        raise ArdmError(f"a compressed file is bytes, or a Path; got {type(data).__name__}")
    if isinstance(data, Path):
        from ardm.atomic import reasons, refuse_source

        refuse_source(data)
        with reasons(f"cannot read {data}"):
            data = data.read_bytes()
    model = codec_of(model)
    refuse_options(model, None, None, 32, bare)
    content = decode.decompress(bytes(data), maker(names=() if model is None else [model]), bare=bare, digits=digits)
    found = content.samples if content.kind == Kind.AUDIO else value_of(content)
    if isinstance(found, bytes):
        return found
    import torch

    if content.kind == Kind.ARRAY:
        return torch.from_numpy(found)
    return torch.from_numpy(found.astype(np.int32) if found.itemsize > 1 else found.copy())
