"""Entry points: `ardm`, `unardm`, `ardmcat`, `python -m ardm` and `accelerate launch -m ardm`."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Environment variables that make waiting threads sleep.  Beside another busy process, a thread that spins takes the core
from the thread that it waits for.  All OpenMP runtimes read the first; Intel's and LLVM's still spin for 0.2 seconds
unless the second is 0.  Runtimes read both once, when PyTorch loads them."""


def main() -> None:
    """Run `ardm`; Ctrl-C exits without a traceback even while modules are being loaded."""
    _fill_streams()
    wait_asleep()
    try:
        from ardm.cli.app import app

        app()
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # half-loaded modules have nothing to tidy up


def _fill_streams() -> None:
    """Open /dev/null for closed standard streams: libraries write to these numbers, so no file of ours may receive one.

    Each is opened in the wrong mode, so that using it is an error.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        if not _open(number):
            os.open(os.devnull, mode)  # takes the lowest number that is free


def _open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def wait_asleep() -> None:
    """Let PyTorch's threads sleep while they wait, unless the environment says otherwise; call it before the import."""
    if not {*WAITING, "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ.update(WAITING)


def unardm() -> None:
    """Run `ardm decompress`."""
    sys.argv[1:1] = ["decompress"]
    main()


def ardmcat() -> None:
    """Run `ardm cat`."""
    sys.argv[1:1] = ["cat"]
    main()


if __name__ == "__main__":
    main()
