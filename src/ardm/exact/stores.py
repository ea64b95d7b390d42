"""The tensors that the header of a safetensors file claims, checked against the size of the file before any is allocated.

It needs neither NumPy nor torch.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from ardm.errors import ArdmError

MAX_HEADER = 1 << 24
"""Bytes of a header, settings included."""
Claims: TypeAlias = dict[str, tuple[int, ...]]
"""Shapes of tensors by name."""

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32,
    "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip


def claims(path: Path) -> Claims:
    """The tensors of a file.  Raises ArdmError unless it is a safetensors file that has the bytes it claims."""
    with path.open("rb") as file:
        start, size = file.read(8), path.stat().st_size
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8:
            raise ArdmError(f"{path} is not a readable model: it is not a safetensors file, or is damaged")
        if length > MAX_HEADER:
            raise ArdmError(
                f"{path} is not a readable model: its header has {length} bytes, and the limit is {MAX_HEADER}"
            )
        text = file.read(length)
    try:
        found = {name: _tensor(entry) for name, entry in json.loads(text).items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ArdmError(f"{path} is not a readable model: its header is not that of a safetensors file") from None
    claimed = sum(prod(shape) * bits for shape, bits in found.values()) // 8
    if claimed > size - 8 - length:
        raise ArdmError(
            f"{path} is not a readable model: it claims {claimed} bytes of tensors but has {size - 8 - length}"
        )
    return {name: shape for name, (shape, _) in found.items()}


def _tensor(entry: Any) -> tuple[tuple[int, ...], int]:
    """Shape, and bits of an element."""
    shape = tuple(entry["shape"])
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in shape) or len(shape) > 16:
        raise ValueError("no shape")
    return shape, _BITS.get(entry["dtype"], 8)


def elements(found: Claims) -> int:
    """The number of numbers in all tensors."""
    return sum(map(prod, found.values()))
