"""Figures of real streams: items are encoded, decoded again without them, and compared.

A stream that decodes is the proof of its length: whatever a decoder does not have cannot have helped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ardm.codec import registry
from ardm.errors import ArdmError
from ardm.model import AnyModel
from ardm.plan import AnyPlan
from ardm.source import Decode, Encode
from ardm.walk import last, walk

CRC = 0x5EED
"""A check at the end of every stream."""


@dataclass(frozen=True)
class Coded:
    """One stream of several items: its bytes; the bits of the coded intervals alone; network calls; whether it decoded."""

    bytes: int
    bits: float
    calls: int
    restored: bool


def coded(model: AnyModel, plan: AnyPlan, x: Tensor, context: Tensor | None = None) -> Coded:
    """Encode items (B, *shape) by the model itself along a plan, decode them in the same process, compare.

    Raises ArdmError where the model calls a value impossible.
    """
    start, encode = model.digits.blank(len(x), x.shape[1:], x.device), Encode()
    calls = sum(1 for _ in walk(model, plan, encode, start, truth=x, context=context))
    stream = encode.finish(CRC)
    return Coded(len(stream), encode.bits, calls, _restored(model, plan, stream, x, context))


def _restored(model: AnyModel, plan: AnyPlan, stream: bytes, x: Tensor, context: Tensor | None) -> bool:
    start, decode = model.digits.blank(len(x), x.shape[1:], x.device), Decode(stream)
    try:
        found = last(walk(model, plan, decode, start, context=context), start).value
        return torch.equal(found, x) and decode.finish() == CRC
    except ArdmError:  # a stream that is read wrongly ends early, or in digits that the model calls impossible
        return False


def by_codec(name: str | Path, x: Tensor) -> tuple[Tensor, int, bool]:
    """Nats (B,) of a stream of each item by an exported codec model; its calls, 0 for wavefronts; whether all decode.

    Raises ArdmError where there is no such model.
    """
    made = registry.coder(name)
    letters = np.frombuffer(made.model.alphabet, np.uint8) if made.model.alphabet else None
    kind = np.uint8 if made.model.program.classes <= 256 else np.dtype("<u2")
    rows = (x[:, None, None] if x.ndim == 2 else x).cpu().numpy()
    parts = [row.astype(kind) if letters is None else letters[row] for row in rows]
    streams = [made.finish(one, CRC) for one in made.encode([part] for part in parts)]
    back = made.decode((stream, [part.shape]) for stream, part in zip(streams, parts, strict=True))
    same = [np.array_equal(found[0], part) and crc == CRC for (found, crc), part in zip(back, parts, strict=True)]
    nats = torch.tensor([8 * len(stream) * math.log(2) for stream in streams], dtype=torch.double, device="cpu")
    return nats, made.calls, all(same) and len(same) == len(parts)
