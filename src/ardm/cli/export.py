"""`ardm export`: a trained model becomes a codec model in integers, fine-tuned for them if asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ardm.cli.console import fail, guard, say
from ardm.cli.options import Threads
from ardm.errors import ArdmError

if TYPE_CHECKING:
    from torch import Tensor

    from ardm.bundle import Bundle
    from ardm.export.calibrate import Scales
    from ardm.export.convert import Exported
    from ardm.export.precision import Precision

Bits = Annotated[
    int, typer.Option(help="Bits of a weight, sign included; 0: the fewest that cost little.", min=0, max=16)
]
Levels = Annotated[int, typer.Option(help="Bits of an activation; 0: as for --weights.", min=0, max=12)]


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(export)


def export(
    model: Annotated[str, typer.Argument(help="A bundled model, or the folder of a trained one.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Settings of its recipe, such as data.folder=~/data train.rate=1e-3.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the codec model (default: that of the model).")
    ] = None,
    weights: Bits = 0,
    activations: Levels = 0,
    finetune: Annotated[
        int, typer.Option(help="Steps of training with rounded weights and activations beforehand.", min=0)
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with fine-tuning that was stopped.")] = False,
    scales: Annotated[
        Path | None, typer.Option(help="The scales of a run that was fine-tuned: scales.safetensors in its folder.")
    ] = None,
    items: Annotated[int, typer.Option(help="Items to calibrate with and to measure the cost on.", min=8)] = 128,
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite.")] = False,
    threads: Threads = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only say what goes wrong.")] = False,
) -> None:
    """Make a codec model of a trained one: a network in integers, the same on every machine, for `ardm compress -m`.

    Calibrates on training data of the model's recipe; data.folder= says where they lie.  Prints what exactness costs.
    """
    with guard():
        from ardm.atomic import refuse_target, write_whole
        from ardm.bundle import load
        from ardm.cli.files import use_threads
        from ardm.exact.model import NAME
        from ardm.export.convert import export as make
        from ardm.export.convert import unsupported
        from ardm.export.precision import Precision

        use_threads(threads)
        settings = changes or []
        folder = out or Path(model)
        if not out and not Path(model).is_dir():
            raise ArdmError(
                f"there is no folder {model}; for a bundled model, or one of the hub, say with --out where to"
            )
        target = folder / NAME
        if folder.is_dir():
            refuse_target(target, force)
        bundle = load(model)
        obstacles = unsupported(bundle)
        if obstacles:
            for line in obstacles:
                fail(line)
            raise ArdmError(f"{bundle.name} cannot be exported; see above ({len(obstacles)} in all)")
        if activations and not weights:
            raise ArdmError("--activations goes with --weights")
        precision = Precision(weights, activations or weights) if weights else None
        fixed: dict[str, Scales] | None = None
        if finetune:
            precision = precision or Precision()
            bundle, fixed = _finetuned(
                model, bundle, folder, [f"train.steps={finetune}", *settings], precision, resume, quiet
            )
        elif scales:
            from ardm.export.finetune import read_scales

            fixed, precision = read_scales(scales), precision or Precision()
        if not quiet:
            say(f"calibrating {bundle.name}, then measuring what integers cost: some minutes where it has many calls")
        made = make(
            bundle, _items(bundle, settings, items, not quiet), precision, fixed, None if quiet else _show
        ).codec
        if name:
            made = replace(made, card={**made.card, "name": name})
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(target, made.save, force)
        if not quiet:
            say(f"wrote {target}: {target.stat().st_size:,} bytes, identity {made.identity[:16]}")


def _finetuned(
    model: str, bundle: Bundle, folder: Path, changes: list[str], precision: Precision, resume: bool, quiet: bool
) -> tuple[Bundle, dict[str, Scales]]:
    """The model of a run in the folder "finetune" beside the codec model, and its scales."""
    from ardm.bundle import load
    from ardm.cli.progress import follow
    from ardm.export.finetune import Finetuning, recipe_of

    run = Finetuning(recipe_of(bundle, model, changes), folder / "finetune", precision, resume)
    follow(run.trainer, run, quiet)
    return load(run.trainer.folder / "model"), run.scales


def _items(bundle: Bundle, changes: list[str], count: int, shown: bool) -> Tensor:
    """Training items of the recipe, evenly spread; for a model without one, samples of its own."""
    import torch

    from ardm import api, data
    from ardm.settings import from_values, override
    from ardm.train.recipe import Recipe

    known = bundle.card.get("recipe")
    if not isinstance(known, dict):
        return api.sample(bundle, count)
    source = from_values(Recipe, override(known, changes)).data
    found = data.of_config(source, source.train)
    if shown and found.files is not None:
        say(f"data.train: {found.about}")
    every = found.items
    return every[torch.linspace(0, len(every) - 1, min(count, len(every)), device="cpu").long().roll(len(every) // 2)]


def _show(made: Exported) -> None:
    """One line for an attempt."""
    bits, cost, size = made.precision, made.cost, sum(t.nbytes for t in made.codec.program.tensors.values())
    say(
        f"weights {bits.weights} bits, activations {bits.activations}: {cost.exact:.4f} bits/dim, the float model "
        f"{cost.model:.4f}; exactness costs {cost.bits_per_dim:+.4f} ± {cost.error:.4f}; {size / 1e6:.1f} MB"
    )
