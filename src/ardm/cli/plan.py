"""`ardm plan`: the cost of a number of network calls, under the best schedule of each budget, and the best order."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ardm.cli import console
from ardm.cli.console import guard, note, say
from ardm.cli.items import items_of
from ardm.cli.options import (
    DataChanges,
    DataFolder,
    DataName,
    Device,
    Force,
    Model,
    Seed,
    Split,
    Threads,
    numbers,
    refuse_early,
    use_threads,
)
from ardm.cli.orders import folder_of, refuse_unread, search
from ardm.cli.progress import Bar
from ardm.errors import ArdmError

if TYPE_CHECKING:
    from ardm.bundle import Bundle

BUDGETS = (10, 20, 50, 100)
"""Default numbers of calls."""
BEST = 50
"""Calls for which orders are searched by default."""
LAG = 0.05
"""The share by which the losses observed in training may be above the validated loss without a note."""


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(plan)


def plan(
    context: typer.Context,
    model: Model,
    changes: DataChanges = None,
    calls: Annotated[
        str, typer.Option("--calls", help="Budgets (default: those of 10,20,50,100 that items have digits for).")
    ] = "",
    kind: Annotated[
        str, typer.Option(help="Schedule: joint, optimal (the same for every stage) or uniform.")
    ] = "joint",
    show: Annotated[
        int | None, typer.Option(help="Print the whole schedule of this budget (default: the first); 0: none.", min=0)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "--output", "--save", "-o", help="Write the schedule of the last budget as JSON."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", "-p", help="Draw L_t and the schedules (PNG, SVG or PDF).")
    ] = None,
    orders: Annotated[
        int,
        typer.Option(
            help="Search the best of this many random orders, and of all others, for the first budget (default 50), and store "
            "it in the model's folder: `ardm export` codes along it.",
            min=0,
        ),
    ] = 0,
    items: Annotated[
        int, typer.Option(help="Items to search orders with: half choose, half measure the gain.", min=4)
    ] = 32,
    name: DataName = "",
    folder: DataFolder = None,
    split: Split = "valid",
    seed: Seed = 0,
    into: Annotated[Path | None, typer.Option(help="Folder to write the model with its order to.")] = None,
    store: Annotated[bool, typer.Option("--store/--no-store", help="Store the order.")] = True,
    device: Device = "auto",
    force: Force = False,
    threads: Threads = 0,
) -> None:
    """Show what each number of network calls costs.

    Prints the expected bits per dimension of the best schedule, of a uniform one, and of D3PM-absorbing.  With --orders,
    prints the exact code length of every order that was tried instead.
    """
    with guard(), Bar() as bar:
        from ardm import api
        from ardm.atomic import write_whole
        from ardm.bundle import load
        from ardm.media.plots import plot_curve
        from ardm.schedule import absorbing_cost

        use_threads(threads)
        refuse_unread(context, bool(orders))
        if orders:
            target, tried = folder_of(model, into, store), load(model, device)
            most, wanted = tried.longest, numbers(calls)[0] if calls else BEST
            found = items_of(tried, name, folder, split, items, changes or [])
            search(tried, found, wanted if calls else min(wanted, most), orders, seed, target, bar)
            return
        refuse_early(force, out, endings=(".json",))
        refuse_early(force, picture, endings=(".png", ".svg", ".pdf"))
        bundle = load(model)
        if bundle.curve is None:
            raise ArdmError(
                f"{bundle.name} was trained on one plan and has no per-step losses; plan an any-order model"
            )
        least, most = len(bundle.model.digits), bundle.longest
        budgets = numbers(calls) if calls else [n for n in BUDGETS if least <= n < most] or [least]
        table = Table("calls", "bits/dim", "uniform", "D3PM-absorbing", box=None)
        curve = bundle.curve.expected()
        schedules = (api.schedule(bundle, budget, kind) for budget in budgets)
        made = list(bar.track("planning", schedules, len(budgets)))
        D = curve.shape[1]
        for budget, best in zip(budgets, made, strict=True):
            even = api.schedule(bundle, budget, "uniform")
            same = absorbing_cost(curve[0], budget) / D / math.log(2) if len(curve) == 1 else math.nan
            table.add_row(
                str(budget),
                f"{best.bits_per_dim():.4f}",
                f"{even.bits_per_dim():.4f}",
                f"{same:.4f}" if len(curve) == 1 else "–",
            )
        table.add_row(str(curve.size), f"{curve.sum() / D / math.log(2):.4f}", "", "")
        say(f"{bundle.name}: expected bits per dimension (bound, by the loss curve of the model)")
        if bundle.model.rates is not None:
            say(
                "Orders by rates: the sites of a call are not alike, so these are estimates; ardm eval --calls measures."
            )
        console.show(table)
        _note_lag(bundle, curve.sum() / D / math.log(2))
        if show != 0:
            say(*str(api.schedule(bundle, show or budgets[0], kind)).splitlines())
        if out:
            write_whole(out, made[-1].save, force)
            say(f"wrote {out}")
        if picture:
            losses = bundle.curve
            title = f"{bundle.name}: loss per step, and where the calls go"
            write_whole(picture, lambda path: plot_curve(losses, made, path, title), force)
            say(f"wrote {picture}")


def _note_lag(bundle: Bundle, priced: float) -> None:
    """Say so where the losses observed in training are far above the loss of the model that was saved."""
    valid = bundle.card.get("valid")
    if isinstance(valid, float) and priced > (1 + LAG) * valid:
        note(
            f"the losses observed in training lag behind the model, which validated at {valid:.4f} bits/dim: "
            "these prices are too high; ardm eval --calls N measures them"
        )
