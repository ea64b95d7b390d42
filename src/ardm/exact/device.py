"""Where and how PyTorch computes: the device, the number of threads, full precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ardm.errors import ArdmError


def pick(device: str) -> torch.device:
    """A device by name; "auto" is CUDA if there is one, otherwise the CPU.  Raises ArdmError where it does not exist."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
        if found.type == "meta":
            raise RuntimeError("it holds no values")
    except (RuntimeError, AssertionError) as error:
        raise ArdmError(f"there is no device {device!r} here: {str(error).splitlines()[0]}") from None
    return found


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run each operation on `count` cores within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def strict() -> Iterator[None]:
    """Compute in full precision within the block, without autocast or TF32, whatever the caller has set."""
    precision = torch.get_float32_matmul_precision()
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    if precision != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
