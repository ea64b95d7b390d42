"""`ardm audit`: whether the likelihood of a model can be trusted, with every figure in one table."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ardm.cli import console
from ardm.cli.console import FAILED, USAGE, fail, guard, note, say
from ardm.cli.items import items_of
from ardm.cli.options import (
    MOST,
    BlockLength,
    Calls,
    DataChanges,
    DataFolder,
    DataName,
    Device,
    Force,
    Order,
    Quiet,
    Score,
    Seed,
    Select,
    Split,
    Threads,
    complete_model,
    numbers,
    ordering,
    refuse_early,
    use_threads,
)
from ardm.cli.progress import Bar
from ardm.errors import ArdmError, out_of_memory

if TYPE_CHECKING:
    from ardm.audit import Report, Verdict
    from ardm.bundle import Bundle

CODE = ".py:"
"""What names a function in a file: evaluate.py:nats."""


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(audit)


def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="A bundled model, a folder, owner/name on the hub; or FILE.py:NAME, a claimed code length of four coins.",
            autocompletion=complete_model,
        ),
    ],
    changes: DataChanges = None,
    name: DataName = "",
    folder: DataFolder = None,
    split: Split = "test",
    items: Annotated[int, typer.Option("--items", "-n", help="Number of items; 0: all.", min=0)] = 16,
    calls: Calls = None,
    order: Order = "",
    score: Score = "",
    select: Select = "",
    block_length: BlockLength = None,
    passes: Annotated[int, typer.Option(help="Random steps per item, for the any-order bound.", min=1, max=MOST)] = 8,
    plans: Annotated[int, typer.Option(help="Random orders of the multi-order bound.", min=1, max=MOST)] = 4,
    budgets: Annotated[
        str, typer.Option(help="Calls whose planned cost is measured (default: those of 2,5,10,20,50,100 that fit).")
    ] = "",
    streams: Annotated[
        int, typer.Option(help="Items that are encoded and decoded by the model itself.", min=1, max=MOST)
    ] = 4,
    seed: Seed = 0,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", "--output", "--json", "-o", help="Write every figure as JSON.")
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", "--plot", "-p", help="Draw reliability and budgets (PNG, SVG or PDF)."),
    ] = None,
    force: Force = False,
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Test whether a likelihood can be trusted.

    Prints bounds, exact figures and the bits of a real stream, planned and measured cost, calibration, and checks. Exits
    with 1, and the reason, where the likelihood is unsound; with 2 where it cannot be tested.
    """
    with guard(), _tested(), Bar(quiet) as bar:
        use_threads(threads)
        refuse_early(force, out, endings=(".json",))
        refuse_early(force, picture, endings=(".png", ".svg", ".pdf"))
        if CODE in model:
            if changes or name or folder or picture:
                raise ArdmError("a claimed code length is tested on four coins; leave data and --picture out")
            verdict = _verdict(model)
            _write(out, _claimed(model, verdict), force)
            _conclude(verdict.reasons)
            return
        from ardm import audit as wing
        from ardm.bundle import load

        bundle = load(model, device)
        chosen = items_of(bundle, name, folder, split, items, changes or [])
        if chosen.given is not None:
            raise ArdmError(
                f"an audit takes items without padding whose sites are all predicted; {chosen.where} has others"
            )
        x, labels, data = chosen.x, chosen.labels, chosen.where
        with bar.busy("auditing"):
            found = wing.report(
                bundle, x, calls=calls, order=ordering(order, score, select, block_length), seed=seed, passes=passes, plans=plans,
                budgets=numbers(budgets) if budgets else None, streams=streams, context=labels,
                codec=_codec(model, bundle), data=data, progress=bar, text_bytes=chosen.bytes,
            )  # fmt: skip
        bar.stop()
        _show(found)
        _write(out, found.to_values(), force)
        if picture:
            from ardm.atomic import write_whole
            from ardm.media.audits import plot_audit

            write_whole(picture, lambda path: plot_audit(found, path, f"{bundle.name} on {data}"), force)
            say(f"wrote {picture}")
        _conclude(found.reasons)


@contextmanager
def _tested() -> Iterator[None]:
    """Exit with 2 where something prevents a verdict, so that 1 means unsound."""
    try:
        yield
    except ArdmError as error:
        fail(str(error))
        raise typer.Exit(USAGE) from None


def _codec(model: str, bundle: Bundle) -> str | None:
    """The codec model that was exported from the model; None without one, or if it is of other weights."""
    from ardm.codec import registry

    if model not in registry.bundled() and not (Path(model) / "codec.safetensors").is_file():
        return None
    if registry.model(model).card.get("of", bundle.identity) == bundle.identity:
        return model
    note(f"the codec model in {model} was exported from other weights, and is not audited; export it again")
    return None


def _write(out: Path | None, values: dict[str, Any], force: bool) -> None:
    if out:
        from ardm.atomic import write_bytes

        write_bytes(out, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode(), force)
        say(f"wrote {out}")


def _conclude(reasons: tuple[str, ...]) -> None:
    """Say what was found; exit with 1 and the reasons where a likelihood is unsound."""
    if not reasons:
        say("sound: no check failed")
        return
    for reason in reasons:
        fail(f"unsound: {reason}")
    raise typer.Exit(FAILED)


# --- a claimed code length ------------------------------------------------------------------------------------------


def _verdict(text: str) -> Verdict:
    """Test a function from items (N, 4) of coins to nats (N,), and print what was found."""
    from ardm.audit import coins

    verdict = coins(_function(text))
    table = _table("four coins", "entropy, bits", "claimed, bits", "±")
    for row in verdict.averages:
        table.add_row(row.source, f"{row.entropy:.4f}", f"{row.bits:.4f}", f"{row.error:.4f}")
    console.show(table)
    say(f"Kraft's sum over all 16 items: {verdict.kraft:.4f} ± {verdict.error:.4f} (at most 1 for a likelihood)")
    return verdict


def _function(text: str) -> Any:
    """The function that FILE.py:NAME names; runs the file."""
    path, _, wanted = text.rpartition(":")
    spec = importlib.util.spec_from_file_location("ardm_audited", path)
    if not Path(path).is_file() or spec is None or spec.loader is None:
        raise ArdmError(f"there is no Python file {path!r}: give FILE.py:NAME")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # code of others may raise anything
        if out_of_memory(error):
            raise MemoryError from error
        raise ArdmError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    found = getattr(module, wanted, None)
    if not callable(found):
        raise ArdmError(f"{path} has no function {wanted!r} from items (N, 4) to nats (N,)")
    return found


def _claimed(text: str, verdict: Verdict) -> dict[str, Any]:
    from dataclasses import asdict

    from ardm.audit.results import plain

    values: dict[str, Any] = plain({"claim": text, "sound": verdict.sound} | asdict(verdict))
    return values


# --- tables -----------------------------------------------------------------------------------------------------------


def _show(found: Report) -> None:
    """Print the tables of a report."""
    about = found.about
    say(f"{about['model']} ({about['identity']}) on {about['items']} items of {about['data']}, seed {about['seed']}")
    console.show(_figures(found))
    say(*(f"{f.name}: {f.items} item{'s' * (f.items > 1)}, {f.plan}" for f in found.figures))
    for table in (_budgets(found), _calibration(found), _checks(found)):
        if table.row_count:
            console.show(table)


def _table(*titles: str) -> Table:
    """A table whose last column alone may be wrapped."""
    table = Table(box=None)
    for title in titles:
        table.add_column(title, no_wrap=title != titles[-1])
    return table


def _figures(found: Report) -> Table:
    text = found.bytes_per_item > 0
    tokens = text and found.bytes_per_item != found.sites  # else a value is a byte
    more = ["perplexity"] * text + ["bits/byte"] * tokens
    table = _table("figure", "kind", f"bits/{found.dim}", "±", f"nats/{found.item}", *more, "calls")
    for f in found.figures:
        rate = found.bits_per_dim(f.nats, f.sites)
        extra = [f"{found.perplexity(f.nats, f.sites):.4g}"] * text
        extra += [f"{found.bits_per_byte(f.nats, f.sites):.4f}"] * tokens
        row = f.name, f.kind, f"{rate:.4f}", _known(f.dim_error, 4), f"{f.nats:.2f}", *extra, _known(f.calls, 0)
        table.add_row(*row)
    return table


def _budgets(found: Report) -> Table:
    table = _table("calls", f"planned, bits/{found.dim}", f"measured, bits/{found.dim}", "±", "items")
    for b in found.budgets:
        planned, measured = (found.bits_per_dim(v, b.sites) for v in (b.planned, b.measured))
        table.add_row(str(b.calls), _known(planned, 4), _known(measured, 4), _known(b.dim_error, 4), str(b.items))
    return table


def _calibration(found: Report) -> Table:
    table = _table("calibration", "ECE", "by chance", "answers")
    for r in found.calibration:
        table.add_row(r.group, f"{r.ece:.4f}", f"{r.chance:.4f}", str(r.answers))
    return table


def _checks(found: Report) -> Table:
    table = _table("check", "", "found")
    for c in found.checks:
        table.add_row(c.name, {True: "yes", False: "NO", None: "–"}[c.passed], c.detail)
    return table


def _known(value: float, places: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{places}f}"
