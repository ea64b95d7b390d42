"""`ardm plan --orders`: the best of many orders for a planned schedule, stored in the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from ardm.cli import console
from ardm.cli.console import say
from ardm.cli.items import Items
from ardm.cli.progress import Bar
from ardm.errors import ArdmError

PLANNING = ("kind", "show", "out", "picture", "force")
"""The parameters of `ardm plan` that only planning reads."""
SEARCHING = ("changes", "items", "name", "folder", "split", "seed", "into", "store", "device")
"""The parameters of `ardm plan` that only the search of an order reads."""

if TYPE_CHECKING:
    from ardm.bundle import Bundle
    from ardm.estimate import Estimate
    from ardm.export.search import Found


def folder_of(model: str, into: Path | None, store: bool) -> Path | None:
    """The folder for the model with its order, None if it is not stored; raises ArdmError for one that has no folder."""
    if not store and into is not None:
        raise ArdmError(
            "--into names a folder to store the order in, and --no-store stores it nowhere; give one of them"
        )
    if not store:
        return None
    if into is None and not Path(model).is_dir():
        raise ArdmError(f"{model} is no folder to store an order in: name one with --into, or give --no-store")
    return into or Path(model)


def refuse_unread(context: typer.Context, searching: bool) -> None:
    """Raise ArdmError for options on the command line that it would not read, with or without --orders."""
    unread = PLANNING if searching else SEARCHING
    given = {p.name: p.opts[0] if p.opts[0].startswith("-") else "data." for p in context.command.params if p.name}
    sources = {name: context.get_parameter_source(name) for name in given if name in unread}
    written = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    wrong = ", ".join(given[name] for name in written)
    if wrong:
        raise ArdmError(
            f"--orders searches orders and has no use for {wrong}" if searching else f"{wrong} needs --orders"
        )


def search(bundle: Bundle, found: Items, calls: int, orders: int, seed: int, folder: Path | None, bar: Bar) -> None:
    """Search, print what was found, and store the winner in the folder, if there is one."""
    from ardm.export import search as finder

    if found.given is not None:
        raise ArdmError("an order is searched for items of which nothing is known beforehand; this data has padding")
    result = finder.search(bundle, found.x, calls, orders, seed, found.labels, bar.track)
    _print(bundle, found, calls, result)
    if folder is None:
        return
    replace(bundle, ranks=result.ranks, codec=None).save(folder)
    say(f"stored the order {result.best!r} in {folder}; `ardm export` makes a codec model that codes along it")


def _print(bundle: Bundle, found: Items, calls: int, result: Found) -> None:
    half = len(result.random.nats)
    say(f"{bundle.name} in {calls} calls: exact code lengths in bits per dimension of {half} items of {found.where}")
    table = Table("order", "bits/dim", "less than random orders", box=None)
    for name, price in sorted(result.prices.items(), key=lambda item: item[1].bits_per_dim):
        table.add_row(name + " *" * (name == result.best), _of(price), _of(result.random.less(price), "+"))
    table.add_row("mean of random orders", _of(result.random), "")
    console.show(table)
    say(f"* on {len(result.gain.nats)} other items, {result.best!r} saves {_of(result.gain, '+')} bits/dim")


def _of(found: Estimate, sign: str = "") -> str:
    return f"{found.bits_per_dim:{sign}.4f} ± {found.bits_per_dim_error:.4f}"
