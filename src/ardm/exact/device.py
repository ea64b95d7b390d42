"""Where and how PyTorch computes: the device, the number of threads, full precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

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
    """Run each operation on `count` cores within the block.

    A thread that begins while another one is inside inherits that one's number, so all restore what was before the first.
    """
    with _LOCK:
        _BEFORE.append(_BEFORE[0] if _BEFORE else torch.get_num_threads())
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _LOCK:
            torch.set_num_threads(_BEFORE.pop())


_LOCK, _BEFORE = Lock(), list[int]()
"""The number of cores before the first thread entered `threads`, once for each that is inside."""


@contextmanager
def strict() -> Iterator[None]:
    """Compute in full precision within the block, without autocast or TF32, whatever the caller has set."""
    with (
        _FULL,
        torch.inference_mode(),
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
    ):
        yield


class _FullPrecision:
    """Multiply matrices in float32 while any thread is inside: the precision is one setting of the whole process.

    The first thread to enter sets it, and the last one to leave restores what it was.
    """

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._before: tuple[str, list[str]] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside and (whole := _precision()) != "highest":
                self._before = whole, [kind.fp32_precision for kind in _kinds()]
                torch.set_float32_matmul_precision("highest")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside or self._before is None:
                return
            (whole, each), self._before = self._before, None
            torch.set_float32_matmul_precision(whole or "highest")
            for kind, precision in zip(_kinds(), each, strict=True):
                kind.fp32_precision = precision


_FULL = _FullPrecision()


def _kinds() -> tuple[Any, ...]:
    """The newer settings of PyTorch, one for each library that multiplies."""
    backends: Any = torch.backends
    return backends.cuda.matmul, backends.mkldnn.matmul


def _precision() -> str:
    """The older setting of PyTorch for all libraries; "" where the newer ones contradict it, and PyTorch does not say."""
    with suppress(RuntimeError):
        return torch.get_float32_matmul_precision()
    with suppress(RuntimeError):  # of one library alone
        return "high" if torch.backends.cuda.matmul.allow_tf32 else ""
    return ""
