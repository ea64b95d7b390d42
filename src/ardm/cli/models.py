"""`ardm models`: bundled models and recipes, and what the folders of trained models hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ardm.cli.console import guard, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ardm.bundle import Bundle
    from ardm.exact.model import CodecModel


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(models)


def models(
    folders: Annotated[list[Path] | None, typer.Argument(help="More models to list: folders, or codec models.")] = None,
) -> None:
    """List models, their orders and schedules, and recipes."""
    with guard():
        from ardm.bundle import bundled, load
        from ardm.codec import registry
        from ardm.exact.model import NAME
        from ardm.train.recipe import shipped

        lines = [line for name in registry.bundled() for line in _codec(name, registry.model(name))]
        for folder in folders or []:
            trained = (folder / "config.json").is_file()
            lines += _trained(folder, load(folder)) if trained else []
            if not trained or (folder / NAME).is_file():
                lines += _codec(folder, registry.model(folder))
        say(*lines)
        say(f"float models, to sample, fill and score with: {', '.join(bundled())}")
        say(f"recipes: {', '.join(shipped())}")


def _codec(name: str | Path, model: CodecModel) -> list[str]:
    """A codec model: what it codes, and the order and schedules of one of any order."""
    from ardm.codec.header import short
    from ardm.exact.certificate import certify

    program = model.program
    peak = max(bound.peak for bound in certify(program).values())
    size = "x".join(map(str, program.size)) if max(model.size) else "any size"
    calls = ",".join(map(str, model.budgets))
    way = f"in {calls} calls" if calls else "along wavefronts"
    channels = f"{program.channels} channel{'s' * (program.channels > 1)}"
    lines = [
        f"{name}  {short(model.identity)}  codes {model.kind} of {channels}, {program.classes} values, {size}, {way}; "
        f"integers below 2^{peak.bit_length()}"
    ]
    if model.planned is not None:
        ranks, least = model.planned.ranks, program.digits
        line = ranks[0, 0] if ranks.shape[:2] == (1, 1) else ranks
        lines.append(
            f"    order: {_order(line)}; holds the schedules of {calls} calls, plans others from {least} to "
            f"{model.planned.most}"
        )
    return lines


def _trained(folder: Path, bundle: Bundle) -> list[str]:
    """A trained model: what it models, in which order, and the schedules of one of any order."""
    shape, config, order = "x".join(map(str, bundle.model.shape)), bundle.config, bundle.order
    first = f"{folder}  {bundle.identity}  models {bundle.content} of {shape}, {config.classes} values"
    if order.fixed:
        return [f"{first}, along the order {order.order} in {','.join(map(str, order.calls))} calls"]
    if config.causal in ("wave", "single"):
        return [f"{first}, {'from left to right' if len(bundle.model.shape) == 1 else 'along wavefronts'}"]
    steps = f"schedules of {len(config.digits)} to {bundle.longest} calls"
    priced = (
        f"its losses plan {steps}" if bundle.curve is not None else f"no losses to plan with: {steps} have even steps"
    )
    return [f"{first}, in any order", f"    order: {_own(bundle)}; {priced}"]


def _own(bundle: Bundle) -> str:
    """The order along which a model of any order is coded."""
    if bundle.ranks is not None:
        return f"{_order(bundle.ranks, bundle.model.rates)}, stored"
    usual = "random 1" if bundle.model.rates is None else "rates"
    return f"{usual}, none is stored (`ardm plan --orders` searches a better one)"


def _order(ranks: NDArray[np.int64], rates: Tensor | None = None) -> str:
    """An order by its name, if it has one."""
    from ardm.export.search import name_of

    return name_of(ranks, rates) or "one of its own"
