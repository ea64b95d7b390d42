"""A progress bar on standard error: on a terminal only, and only for work that takes longer than two seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ardm.cli.console import errors, live, plain
from ardm.cli.console import say as print_lines

DELAY = 2.0
"""Seconds before a bar appears."""
T = TypeVar("T")


class Bar:
    """The progress of one command, as the callback `bar(what, done, total)`; a context manager that tidies up.

    quiet: show nothing.  name: what is worked on at the moment, such as a file.  count: which of how many, if several.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self.name, self.count = quiet, "", ""
        self._shown, self._what, self._began = live(errors) and not quiet, "", time.monotonic()
        self._lock, self._bar, self._state = threading.RLock(), None, None

    _bar: Progress | None
    _state: tuple[str, int, int | None] | None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        """Show what is being done, how much of it is done, and how much there is (None: unknown)."""
        with self._lock:
            if not self._shown or (self._bar is None and time.monotonic() - self._began < DELAY):
                return
            if self._bar is None:
                self._bar = Progress(
                    SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
                    TimeRemainingColumn(), console=errors, transient=True, redirect_stdout=False, redirect_stderr=False,
                )  # fmt: skip
                self._bar.start()
            what = ": ".join(filter(None, (f"{self.count} {escape(plain(self.name))}".strip(), what)))
            if what != self._what or not self._bar.task_ids:
                for task in self._bar.task_ids:
                    self._bar.remove_task(task)
                self._bar.add_task(what, total=total)
                self._what = what
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)

    @contextmanager
    def busy(self, what: str, total: int | None = None) -> Iterator[None]:
        """Show that something is being done, even before it says how much of it is done."""
        if not self._shown:
            yield
            return
        wait = max(0.0, DELAY - (time.monotonic() - self._began))
        timer = threading.Timer(wait + 0.01, self._refresh)
        self._state, timer.daemon = (what, 0, total), True
        timer.start()
        try:
            yield
        finally:
            with self._lock:
                self._state = None
                timer.cancel()
                self.stop()

    def ticker(self, what: str, total: int) -> Callable[[], None]:
        """A callback that shows one more of `total` done at each call."""
        done = count(1)
        return lambda: self(what, next(done), total)

    def track(self, what: str, steps: Iterable[T], total: int | None) -> Iterator[T]:
        """Yield the steps, and show how many of `total` (None: unknown) are done."""
        with self.busy(what, total):
            for done, step in enumerate(steps, 1):
                yield step
                self._state = (what, done, total)
                self._refresh()

    def _refresh(self) -> None:
        with self._lock:
            if self._state is not None:
                self(*self._state)

    def say(self, *lines: str) -> None:
        """Print results; the bar makes room for them."""
        with self._lock:
            self.stop()
            print_lines(*lines)
            self._refresh()

    def stop(self) -> None:
        """Remove the bar until the next call."""
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def hide(self) -> None:
        """Remove the bar for good."""
        with self._lock:
            self.stop()
            self._shown = False
