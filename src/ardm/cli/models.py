"""`ardm models`: bundled models and recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ardm.cli.console import guard, say


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(models)


def models(
    folders: Annotated[list[Path] | None, typer.Argument(help="More codec models to list.")] = None,
) -> None:
    """List models and recipes."""
    with guard():
        from ardm.bundle import bundled
        from ardm.codec import registry
        from ardm.codec.header import short
        from ardm.exact.certificate import certify
        from ardm.train.recipe import shipped

        named: list[str | Path] = [*registry.bundled(), *(folders or [])]
        for name in named:
            found = registry.model(name)
            program = found.program
            peak = max(bound.peak for bound in certify(program).values())
            size = "x".join(map(str, program.size)) if max(found.size) else "any size"
            calls = ",".join(map(str, found.budgets))
            order = f"in {calls} calls" if calls else "along wavefronts"
            say(
                f"{name}  {short(found.identity)}  codes {found.kind} of {program.channels} "
                f"channel{'s' * (program.channels > 1)}, {program.classes} values, {size}, {order}; integers "
                f"below 2^{peak.bit_length()}"
            )
        say(f"float models, to sample, fill and score with: {', '.join(bundled())}")
        say(f"recipes: {', '.join(shipped())}")
