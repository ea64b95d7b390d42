"""The compiled library of `wave.c` in Python: its functions, a net and a walk as objects that free themselves."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ardm.ans import Ints
from ardm.errors import ArdmError
from ardm.exact.native.compile import LIBRARY, source_crc
from ardm.exact.operations.lattice import Filters, Lattice

_pointer, _size = ctypes.c_void_p, ctypes.c_int64
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "ardm_source": (_size, []),
    "ardm_build": (_pointer, [_pointer, _size, _size]),
    "ardm_free": (None, [_pointer]),
    "ardm_walk": (_pointer, [_pointer, *[_size] * 5, _pointer]),
    "ardm_walk_free": (None, [_pointer]),
    "ardm_capacity": (_size, [_pointer]),
    "ardm_load": (_size, [_pointer] * 3),
    "ardm_encode": (_size, [_pointer, _size, _pointer, _pointer]),
    "ardm_decode": (_size, [_pointer, _size, _pointer]),
    "ardm_values": (None, [_pointer] * 2),
    "ardm_heads": (_size, [_pointer] * 6),
    "ardm_step": (_size, [_pointer] * 3 + [_size] * 2 + [_pointer] * 2),
    "ardm_lattice": (_size, [_pointer] * 3 + [_size] * 2 + [_pointer]),
}
"""Result and arguments of each function."""
STREAM = np.dtype([("state", "u8"), ("words", "u8"), ("left", "i8")])
"""A `Stream` of wave.c; words: an address."""


@lru_cache(maxsize=4)
def library(path: Path = LIBRARY) -> Any:
    """The library.  Raises ArdmError where there is none, where it is an old one, or where it cannot be loaded."""
    advice = "`python -m ardm.exact.native.compile` makes them with a C compiler; or choose another backend"
    if not path.is_file():
        raise ArdmError(f"the native kernels are not compiled here; {advice}")
    try:
        found = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise ArdmError(f"the native kernels cannot be loaded ({error}); {advice}") from None
    if found.ardm_source() != source_crc():
        raise ArdmError(f"the native kernels here are those of another version of their source; {advice}")
    return found


def _address(array: NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data


def _int64(array: Ints | None) -> Ints | None:
    return None if array is None else np.ascontiguousarray(array, dtype=np.int64)


def _path() -> Path:
    """The library, or another that $ARDM_NATIVE names, such as one with a sanitiser."""
    return Path(os.environ.get("ARDM_NATIVE", LIBRARY))


def filtered(lattice: Lattice, values: Ints) -> Ints:
    """(R, T, columns): what lattices say before each sample of sequences (R, T), which begin here.

    In C where the library is compiled, else by definition.  Raises ArdmError for samples out of range.
    """
    filters = Filters(lattice, len(values))
    try:
        code, state = library(_path()).ardm_lattice, filters.state
    except ArdmError:
        return filters.run(values)
    lists = (lattice.rates, lattice.orders, lattice.paces)
    numbers = [lattice.order, lattice.fraction, lattice.energy, lattice.limit, *map(len, lists)]
    settings = np.array([*numbers, *(n for some in lists for n in some)], dtype=np.int64)
    given, out = (
        np.ascontiguousarray(values, dtype=np.int64),
        np.empty((*values.shape, lattice.columns), dtype=np.int32),
    )
    if not code(_address(settings), _address(state), _address(given), *values.shape, _address(out)):
        raise ArdmError(f"adaptive filters take samples of at most {lattice.limit >> lattice.fraction} half steps")
    return out


class Net:
    """A program in C.  plain: without special instructions of the processor.  Raises ArdmError where it is refused."""

    def __init__(self, description: Ints, plain: bool) -> None:
        self.library = library(_path())
        self.handle = self.library.ardm_build(_address(description), len(description), int(plain))
        if not self.handle:
            raise ArdmError("the native kernels cannot run this codec model; choose another backend")

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.library.ardm_free(self.handle)


class Walk:
    """A walk over items (n, C, H, W) in C, used by one thread at a time.

    plane: the only channel that is coded, or None.  raster: for walks that know all values.
    lengths: (n,), how much of each item of one row exists, for decoders; None: all.
    """

    def __init__(
        self, net: Net, shape: tuple[int, ...], plane: int | None, raster: bool, lengths: Ints | None = None
    ) -> None:
        self.net, self.shape = net, shape
        n, _, H, W = shape
        code, lengths = net.library.ardm_walk, _int64(lengths)
        self.handle = code(net.handle, n, H, W, -1 if plane is None else plane, int(raster), _address(lengths))
        if not self.handle:
            raise MemoryError

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.net.library.ardm_walk_free(self.handle)

    @property
    def capacity(self) -> int:
        """The largest front."""
        return int(self.net.library.ardm_capacity(self.handle))

    def load(self, value: Ints, depth: Ints | None = None) -> None:
        """Set the state: values, and what is known, by default all.  Raises ArdmError for values out of range."""
        value, depth = np.ascontiguousarray(value, dtype=np.int64), _int64(depth)
        if value.shape != self.shape or (depth is not None and depth.shape != self.shape):
            raise ArdmError(f"a walk over items of shape {self.shape} is given {value.shape}")
        if not self.net.library.ardm_load(self.handle, _address(value), _address(depth)):
            raise ArdmError("a state of the native kernels holds values below K, and depths of 0 or 1")

    def encode(self, budget: int, start: NDArray[np.int32], width: NDArray[np.int32]) -> bool:
        """Encode some more places; whether there are more."""
        return bool(self.net.library.ardm_encode(self.handle, budget, _address(start), _address(width)))

    def decode(self, budget: int, streams: NDArray[Any]) -> bool:
        """Decode some more places from STREAMs; whether there are more."""
        return bool(self.net.library.ardm_decode(self.handle, budget, _address(streams)))

    def values(self) -> Ints:
        """The values of all items."""
        out = np.empty(self.shape, dtype=np.int64)
        self.net.library.ardm_values(self.handle, _address(out))
        return out

    def heads(self, item: Ints, y: Ints, x: Ints, o: Ints, centre: Ints) -> int:
        """The next front of a raster walk: its places, and the inputs of the head; returns its size."""
        return int(self.net.library.ardm_heads(self.handle, *map(_address, (item, y, x, o, centre))))

    def step(self, value: Ints, depth: Ints, key: int, channel: int, o: Ints, centre: Ints) -> int:
        """The inputs of the head at a wavefront; returns its size, or −1."""
        value, depth = (np.ascontiguousarray(a, dtype=np.int64) for a in (value, depth))  # held during the call
        given = map(_address, (value, depth))
        return int(self.net.library.ardm_step(self.handle, *given, key, channel, _address(o), _address(centre)))
