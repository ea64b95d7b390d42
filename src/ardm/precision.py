"""Float32 or better at both ends of a network, whatever the dtype of its weights.

bfloat16 has 8 binary digits, and float16 no room for small weights.  In the middle of a network that costs little; at the
input it merges neighbouring values, and at the output it is an error in every probability.  So the first and the last
layer run in float32, and the rest in the dtype of the parameters, or of `torch.autocast`.

Sums of nats, and draws, need float64, which Apple's mps does not have.  There, totals and draws are computed on the CPU
(`home`, `precise`), and what only lives within a step in float32 (`finest`).

`keep_freed_memory` is here as well: it speeds up walks on CPUs and changes no number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def pytorch_defaults() -> Iterator[None]:
    """Make float32 the default and enable gradients inside the block, whatever the surrounding program has set."""
    before = torch.get_default_dtype()
    try:
        if before != torch.float32:
            torch.set_default_dtype(torch.float32)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        if before != torch.float32:
            torch.set_default_dtype(before)


WITHOUT_FLOAT64 = ("mps",)
"""Types of devices that hold no float64."""


def home(device: torch.device) -> torch.device:
    """Where float64 numbers of a device are computed: there, or on the CPU for a device that has none."""
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def precise(x: Tensor) -> Tensor:
    """x in float64, on the `home` of its device."""
    return x.to(home(x.device)).double()


def finest(device: torch.device) -> torch.dtype:
    """The widest float of a device: float64, or float32 where it has none."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1) in the finest dtype of the generator's device, and on it."""
    there = generator.device
    return torch.rand(tuple(shape), dtype=finest(there), generator=generator, device=there)


def finely(x: Tensor, device: torch.device | None = None) -> Tensor:
    """x in the finest dtype of a device, and on it; default its own device."""
    there = x.device if device is None else device
    return x.to(finest(there)).to(there)


def has_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 faster than float32: with AVX-512 BF16 or AMX, or CUDA from capability 8.0."""
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device)[0] >= 8
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in asked)


@contextmanager
def mixed(device: torch.device, on: bool) -> Iterator[None]:
    """Multiply in bfloat16 and add in float32 within the block (`torch.autocast`); if not `on`, change nothing."""
    if not on:
        yield
        return
    with torch.autocast(device.type, torch.bfloat16):
        yield


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype, widened to float32 if it is narrower."""
    return torch.promote_types(dtype, torch.float32)


def widened(x: Tensor) -> Tensor:
    """x in float32 or better."""
    return x.to(wide(x.dtype))


def full(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer or a convolution (with zero padding) to x in float32 or better, without autocast."""
    if isinstance(layer, nn.Identity):
        return widened(x)
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))  # noqa: PT018 (for mypy)
    dtype = torch.promote_types(wide(weight.dtype), x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        if weight.dtype == dtype:
            made: Tensor = layer(x.to(dtype))
            return made
        parts = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        if isinstance(layer, nn.Linear):
            return F.linear(*parts)
        assert isinstance(layer, (nn.Conv1d, nn.Conv2d))
        convolve = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
        return convolve(*parts, layer.stride, layer.padding, layer.dilation, layer.groups)


KEPT = (32 << 20) - (1 << 13)
"""Bytes: just below the largest piece from which glibc learns."""


def keep_freed_memory(device: torch.device) -> None:
    """Have glibc keep up to 64 MiB of freed memory, instead of returning it to the system after every layer.

    It learns what to keep from the largest piece that was freed, so one is allocated, never touched, and freed.  Otherwise a
    sixth of the time of sampling text goes into pages that are handed back, fetched again and cleared.
    """
    if device.type == "cpu":
        torch.empty(KEPT, dtype=torch.uint8, device="cpu")
