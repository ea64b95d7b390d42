"""The entry points: `ardm`, `unardm`, `ardmcat`, `python -m ardm`, and what `accelerate launch -m ardm` runs."""

from __future__ import annotations

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """`ardm`.  Ctrl-C while modules are still being loaded is no traceback either."""
    try:
        from ardm.cli import app

        app()
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # half-loaded modules have nothing to tidy up


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
