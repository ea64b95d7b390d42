"""Date, machine and versions for the record; peak memory of the process.

NumPy, no PyTorch.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def facts(threads: int = 0) -> dict[str, Any]:
    """Date, machine and versions, for readers of the figures.  threads: how many codecs may use; 0: all."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": threads or os.cpu_count(),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in ("ardm", "numpy", "torch")}},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def forget_peak() -> bool:
    """Release free memory and reset the peak; return whether the system can measure it (Linux)."""
    gc.collect()
    with suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc only
    try:
        _REFERENCES.write_text("5")
    except OSError:
        return False
    return peak_memory() is not None


def peak_memory() -> int | None:
    """Peak memory of this process since the last reset, in bytes; None if unknown."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return None
