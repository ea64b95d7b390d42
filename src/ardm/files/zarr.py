"""The codec "ardm" of Zarr 3, which turns a chunk into bytes; needs the package zarr.

zarr.create_array(store, data=pictures, chunks=(64, 3, 32, 32), serializer=ArdmSerializer(model="pictures"), compressors=None)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.buffer import Buffer, NDBuffer

from ardm.files.items import Codec


@dataclass(frozen=True)
class ArdmSerializer(ArrayBytesCodec):
    """Compress chunks of Zarr arrays: integers as `Codec.encode_array` does, pictures by a model; others as bytes.

    model: a bundled codec model or its folder, which reading needs, too.  level, calls, check: as in `Codec`.
    """

    is_fixed_size = False
    model: str | None = None
    level: int | None = None
    calls: int | None = None
    check: int = 32
    _codec: Codec = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        made = Codec(self.model, level=self.level, calls=self.calls, check=self.check)
        object.__setattr__(self, "_codec", made)

    @classmethod
    def from_dict(cls, data: Any) -> ArdmSerializer:
        """From the metadata of an array."""
        return cls(**data.get("configuration", {}))

    def to_dict(self) -> Any:
        """The metadata of an array."""
        options = {"model": self.model, "level": self.level, "calls": self.calls, "check": self.check}
        return {"name": "ardm", "configuration": options}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """No size is known before a chunk is encoded, which a codec of Zarr says by NotImplementedError."""
        raise NotImplementedError

    async def encode(self, chunks_and_specs: Iterable[tuple[NDBuffer | None, Any]]) -> list[Buffer | None]:
        """Compress chunks; None stays None."""
        return [
            None if chunk is None else await asyncio.to_thread(self._encoded, chunk, spec)
            for chunk, spec in chunks_and_specs
        ]

    async def decode(self, chunks_and_specs: Iterable[tuple[Buffer | None, Any]]) -> list[NDBuffer | None]:
        """Decompress chunks; None stays None.  Raises CodecError for damage."""
        return [
            None if data is None else await asyncio.to_thread(self._decoded, data, spec)
            for data, spec in chunks_and_specs
        ]

    def _encoded(self, chunk: NDBuffer, spec: Any) -> Buffer:
        array = np.ascontiguousarray(chunk.as_numpy_array())
        if array.dtype.kind in "biu":
            data = self._codec.encode_array(array)
        else:
            data = self._codec.encode(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return spec.prototype.buffer.from_bytes(data)

    def _decoded(self, data: Buffer, spec: Any) -> NDBuffer:
        found = self._codec.decode(data.to_bytes())
        kind = spec.dtype.to_native_dtype()
        array = np.frombuffer(found, kind.newbyteorder("<")) if isinstance(found, bytes) else found
        return spec.prototype.nd_buffer.from_numpy_array(array.astype(kind).reshape(spec.shape))
