"""How `wave.c` is compiled: with the C compiler of the system, into a library beside it.

    python -m ardm.exact.native.compile

`hatch_build.py` does so for wheels and editable installations, and a wheel without the library is complete: codec models
then run in PyTorch or NumPy.  The library holds plain integer arithmetic, with faster loops for processors that have
them, chosen when it runs, so one library serves every processor of a machine type.

Only the standard library: it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

SOURCE = Path(__file__).with_name("wave.c")
INCLUDED = ("kernels.h", "lattice.h")
LIBRARY = SOURCE.with_suffix({"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so"))
FLAGS = ("-std=c11", "-O3", "-fwrapv", "-shared", "-fPIC")
"""No -march: a wheel serves every processor.  -fwrapv: sums of a hostile program wrap around, and stay defined.  Nothing
about floats: there are none."""


def source_crc() -> int:
    """The CRC-32 of the sources, which a library compiled from them knows."""
    every = b"".join(SOURCE.with_name(name).read_bytes() for name in (SOURCE.name, *INCLUDED))
    return zlib.crc32(every)


def compiler() -> list[str] | None:
    """The command of a C compiler: $CC, or the first of cc, gcc and clang; None if there is none."""
    named = os.environ.get("CC", "").split()
    if named:
        return named if shutil.which(named[0]) else None
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    return [found] if found else None


def compile_library(target: Path = LIBRARY, *extra: str) -> str | None:
    """Compile the library with some more options; returns None, or the reason why there is none."""
    command = compiler()
    if command is None:
        return "there is no C compiler: $CC, cc, gcc or clang"
    made = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        words = [*command, *FLAGS, f"-DARDM_SOURCE={source_crc()}", *extra, str(SOURCE), "-o", str(made)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            return f"{command[0]} does not compile {SOURCE.name}: {done.stderr.strip()[-200:] or done.returncode}"
        made.replace(target)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]} cannot be run: {error}"
    finally:
        made.unlink(missing_ok=True)
    return None


if __name__ == "__main__":
    fault = compile_library()
    if fault:
        raise RuntimeError(fault)
