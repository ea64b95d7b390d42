"""The numcodecs codec "ardm", by which Zarr and others store chunks of arrays; needs the package numcodecs.

numcodecs.get_codec({"id": "ardm", "model": "pictures"})    # numcodecs finds it by its entry point
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numcodecs.abc import Codec as Numcodec
from numcodecs.compat import ensure_bytes, ensure_contiguous_ndarray, ndarray_copy

from ardm.files.items import Codec


class ArdmNumcodec(Numcodec):  # type: ignore[misc]
    """Compress chunks: integers as `Codec.encode_array` does, pictures by a model; any other data as bytes.

    model: a bundled codec model or its folder, which decoding needs, too.  level, calls, check: as in `Codec`.
    """

    codec_id = "ardm"

    def __init__(
        self, model: str | None = None, level: int | None = None, calls: int | None = None, check: int = 32
    ) -> None:
        self.model, self.level, self.calls, self.check = model, level, calls, check
        self._codec = Codec(model, level=level, calls=calls, check=check)

    def encode(self, buf: Any) -> bytes:
        """Compress a chunk: an array, or anything that holds a contiguous buffer."""
        if isinstance(buf, np.ndarray) and buf.dtype.kind in "biu":
            return self._codec.encode_array(buf)
        return self._codec.encode(ensure_bytes(buf))

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decompress a chunk; out: a buffer of its size, to write it to.  Raises CodecError for damage."""
        found = self._codec.decode(ensure_bytes(buf))
        if out is None:
            return found
        flat = np.ascontiguousarray(found) if isinstance(found, np.ndarray) else found
        return ndarray_copy(ensure_contiguous_ndarray(flat), out)
