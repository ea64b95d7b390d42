"""Options that several commands take, and what they refuse alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ardm.errors import ArdmError

if TYPE_CHECKING:
    import torch

    from ardm.bundle import Bundle

Model = Annotated[str, typer.Argument(help="A bundled model, the folder of one, or owner/name on the hub.")]
Seed = Annotated[int, typer.Option(help="Every random draw depends on it.", min=0, max=2**63 - 1)]
Calls = Annotated[int | None, typer.Option("--calls", help="Network calls (default: 50, or the model's own).", min=1)]
Threads = Annotated[int, typer.Option("--threads", "-T", help="Processor threads; 0: one a core.", min=0, max=1024)]
Order = Annotated[
    str,
    typer.Option(
        help="random, confident, own, bayer, halton, raster, wavefront or checkerboard; default: own, or random."
    ),
]
Temperature = Annotated[float, typer.Option(help="Below 1: safer, less varied; 0: the most likely.", min=0.0)]
Label = Annotated[int | None, typer.Option(help="Class label, for a model that takes one.")]


def context_of(bundle: Bundle, label: int | None, items: int) -> torch.Tensor | None:
    """The label of `items` items as the context of a model, None without one; refused where it takes no such label."""
    if label is None:
        return None
    if not 0 <= label < bundle.config.labels:
        raise ArdmError(
            f"{bundle.name} takes labels 0..{bundle.config.labels - 1}; got {label}"
            if bundle.config.labels
            else f"{bundle.name} takes no label; leave --label out"
        )
    import torch

    return torch.full((items,), label, device="cpu")


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between."""
    try:
        return [int(t) for t in text.split(",")]
    except ValueError:
        raise ArdmError(f"whole numbers with commas between are asked for, such as 10,20,50; got {text!r}") from None


def fresh(force: bool, *paths: Path | None, endings: tuple[str, ...] = (".png",)) -> None:
    """Refuse, before any work, what could not be written after it."""
    for path in paths:
        if path and path.exists() and not force:
            raise ArdmError(f"{path} exists; give another name with -o, or overwrite it with -f")
        if path and path.suffix.lower() not in endings:
            raise ArdmError(f"{path}: give a name that ends in {' or '.join(endings)}")
        if path and not path.parent.is_dir():
            raise ArdmError(f"there is no folder {path.parent}")
