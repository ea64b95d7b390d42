"""Arguments of data sets, checked."""

from __future__ import annotations

from collections.abc import Iterable

from ardm.errors import ArdmError
from ardm.settings import nearest


def known(what: str, name: str | None, names: Iterable[str]) -> str:
    """The name, if it is one of the known names.  Raises ArdmError otherwise, suggesting the nearest."""
    every = list(names)
    if name in every:
        return str(name)
    raise ArdmError(f"unknown {what}: {name!r}{nearest(name or '', every)}")


def positive(**values: int | None) -> None:
    """Raise ArdmError for a number below 1."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise ArdmError(f"{name} must be at least 1; got {value}")
