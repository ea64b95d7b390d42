"""The entry points: `ardm`, `unardm`, `ardmcat`, `python -m ardm`, and what `accelerate launch -m ardm` runs."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """`ardm`.  Ctrl-C while modules are still being loaded is no traceback either."""
    _occupy()
    try:
        from ardm.cli import app

        app()
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # half-loaded modules have nothing to tidy up


def _occupy() -> None:
    """Open what stands in for missing standard streams: no file of ours may get their numbers, to which libraries write.

    It is opened the wrong way round, so that whoever uses it is told.
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
