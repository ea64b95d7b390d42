"""The entry points: `ardm`, `unardm`, `ardmcat`, `python -m ardm`, and what `accelerate launch -m ardm` runs."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""How threads wait for one another, unless the environment says it: asleep.  Beside another busy process a thread that
spins takes the core from the one that it waits for.  The first is GNU's and everyone's, the second Intel's and LLVM's,
which spin for 0.2 seconds whatever the first says; runtimes read them once, when PyTorch loads them."""


def main() -> None:
    """`ardm`.  Ctrl-C while modules are still being loaded is no traceback either."""
    _occupy()
    wait_asleep()
    try:
        from ardm.cli.app import app

        app()
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # half-loaded modules have nothing to tidy up


def _occupy() -> None:
    """Open what stands in for missing standard streams: no file of ours may get their numbers, to which libraries write.

    Each is opened in the wrong mode, so that whoever uses it gets an error.
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
    """Have the threads of PyTorch sleep where they wait, before it is imported, unless the environment says otherwise."""
    if not {*WAITING, "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ.update(WAITING)


def unardm() -> None:
    """`unardm FILE...`: ardm decompress."""
    sys.argv[1:1] = ["decompress"]
    main()


def ardmcat() -> None:
    """`ardmcat FILE...`: ardm cat."""
    sys.argv[1:1] = ["cat"]
    main()


if __name__ == "__main__":
    main()
