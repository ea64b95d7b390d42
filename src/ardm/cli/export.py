"""`ardm export`: a trained model to a codec model in integers, with fine-tuning on request."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ardm.atomic import refuse_target, write_whole
from ardm.cli.console import fail, guard
from ardm.cli.options import MOST, Force, Quiet, Seed, Threads, complete_model, use_threads
from ardm.cli.progress import Bar
from ardm.errors import ArdmError

if TYPE_CHECKING:
    from torch import Tensor

    from ardm.bundle import Bundle
    from ardm.export.calibrate import Scales
    from ardm.export.convert import Exported
    from ardm.export.precision import Precision

Bits = Annotated[
    int, typer.Option(help="Bits of a weight, with its sign; 0: the fewest that cost little.", min=0, max=16)
]
Levels = Annotated[int, typer.Option(help="Bits of an activation; 0: the same as --weights.", min=0, max=12)]


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(export)


def export(
    model: Annotated[
        str, typer.Argument(help="A bundled model, or the folder of a trained one.", autocompletion=complete_model)
    ],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Settings of its recipe to change, such as data.folder=~/data.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "--output", "-o", help="Folder of the codec model (default: the model's own)."),
    ] = None,
    weights: Bits = 0,
    activations: Levels = 0,
    finetune: Annotated[
        int, typer.Option(help="Fine-tune for this many steps with rounded weights and activations first.", min=0)
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Resume fine-tuning that was stopped.")] = False,
    scales: Annotated[
        Path | None, typer.Option(help="Scales of an earlier fine-tuning: scales.safetensors in its folder.")
    ] = None,
    items: Annotated[
        int, typer.Option(help="Number of items to calibrate and to measure the cost with.", min=8, max=MOST)
    ] = 128,
    name: Annotated[str, typer.Option(help="Name of the codec model.")] = "",
    seed: Seed = 0,
    force: Force = False,
    device: Annotated[str, typer.Option(help="Device to fine-tune on: auto, cpu, cuda, mps, ...")] = "auto",
    threads: Threads = 0,
    quiet: Quiet = False,
) -> None:
    """Export a trained model as a codec model.

    The result is a network in integers, exact on every machine, for `ardm compress -m`.  Calibrates on training data of
    the model's recipe (data.folder= locates them), and prints the cost of exactness.
    """
    with guard(), Bar(quiet) as bar:
        from ardm.bundle import load
        from ardm.exact.model import NAME
        from ardm.export.convert import export as make
        from ardm.export.convert import unsupported
        from ardm.export.precision import Precision

        use_threads(threads)
        settings = changes or []
        folder = out or Path(model)
        if not out and not Path(model).is_dir():
            raise ArdmError(
                f"there is no folder {model}; for a bundled model, or one on the hub, name the folder with --out"
            )
        target = folder / NAME
        if folder.is_dir():
            refuse_target(target, force)
        bundle = load(model)
        obstacles = unsupported(bundle)
        if obstacles:
            for line in obstacles:
                fail(line)
            raise ArdmError(f"{bundle.name} cannot be exported; the reasons are listed above")
        if activations and not weights:
            raise ArdmError("--activations needs --weights")
        if scales and finetune:
            raise ArdmError("--scales and --finetune exclude each other: fine-tuning measures scales of its own")
        if resume and not finetune:
            raise ArdmError("--resume needs --finetune: it resumes fine-tuning that was stopped")
        precision = Precision(weights, activations or weights) if weights else None
        fixed: dict[str, Scales] | None = None
        if finetune:
            precision = precision or Precision()
            bundle, fixed = _finetuned(
                model, bundle, folder, _finetuning(finetune, seed, settings), precision, resume, device, quiet
            )
        elif scales:
            from ardm.export.rounding import read_scales

            fixed, precision = read_scales(scales), precision or Precision()
        if not quiet:
            bar.say(f"calibrating {bundle.name} and measuring the cost of integers; this takes minutes for many calls")
        calibration = _items(bundle, settings, items, seed, None if quiet else bar)
        with bar.busy("exporting"):
            made = make(bundle, calibration, precision, fixed, None if quiet else partial(_show, bar)).codec
        if name:
            made = replace(made, card={**made.card, "name": name})
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(target, made.save, force)
        if not quiet:
            bar.say(f"wrote {target}: {target.stat().st_size:,} bytes, identity {made.identity[:16]}")


def _finetuning(steps: int, seed: int, changes: list[str]) -> list[str]:
    """Settings of fine-tuning; those that the user gave come last."""
    return [f"train.steps={steps}", *([f"train.seed={seed}"] if seed else []), *changes]


def _finetuned(
    model: str,
    bundle: Bundle,
    folder: Path,
    changes: list[str],
    precision: Precision,
    resume: bool,
    device: str,
    quiet: bool,
) -> tuple[Bundle, dict[str, Scales]]:
    """Fine-tune in the folder "finetune" beside the codec model; returns the model and its scales."""
    from ardm.bundle import load
    from ardm.cli.train import follow
    from ardm.train.finetune import Finetuning, recipe_of

    run = Finetuning(recipe_of(bundle, model, changes), folder / "finetune", precision, resume, device=device)
    follow(run.trainer, run, quiet)
    return load(run.trainer.folder / "model"), run.scales


def _items(bundle: Bundle, changes: list[str], count: int, seed: int, bar: Bar | None) -> Tensor:
    """Training items of the recipe, evenly spread; samples of the model itself if it has no recipe."""
    from ardm import api, data
    from ardm.export.convert import spread
    from ardm.settings import from_values, override
    from ardm.train.recipe import Recipe

    known = bundle.card.get("recipe")
    if not isinstance(known, dict):
        return api.sample(bundle, count, seed=seed)
    source = from_values(Recipe, override(known, changes)).data
    found = data.of_config(source, source.train)
    if bar is not None and found.files is not None:
        bar.say(f"data.train: {found.about}")
    return spread(found.items, count)


def _show(bar: Bar, made: Exported) -> None:
    """Print one line about an attempt."""
    bits, cost, size = made.precision, made.cost, sum(t.nbytes for t in made.codec.program.tensors.values())
    bar.say(
        f"weights {bits.weights} bits, activations {bits.activations}: {cost.exact:.4f} bits/dim, the float model "
        f"{cost.model:.4f}; exactness costs {cost.bits_per_dim:+.4f} ± {cost.error:.4f}; {size / 1e6:.1f} MB"
    )
