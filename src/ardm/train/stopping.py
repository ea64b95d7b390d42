"""Ctrl-C during a run: the first one asks to stop after the present step, the second interrupts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopping(*signals: signal.Signals) -> Iterator[Callable[[], bool]]:
    """Take over some signals within the block; yields a function that says whether one has come.

    The second signal raises KeyboardInterrupt.  Outside of the main thread, where Python allows no handlers, and for
    signals whose handler was not set by Python, nothing is taken over.
    """
    came: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    main = threading.current_thread() is threading.main_thread()
    old = [(s, signal.signal(s, ask)) for s in signals if main and signal.getsignal(s) is not None]
    try:
        yield lambda: bool(came)
    finally:
        for s, handler in old:
            signal.signal(s, handler)
