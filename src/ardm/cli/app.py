"""The command line: its commands on models; those on files are in `cli_codec`.  The only floor that prints and exits."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import ardm
from ardm.cli import bench as cli_bench
from ardm.cli import console
from ardm.cli import export as cli_export
from ardm.cli import files as cli_codec
from ardm.cli import generate as cli_generate
from ardm.cli.console import guard, note, say
from ardm.cli.options import Model, Seed, Threads, fresh, numbers
from ardm.errors import ArdmError

if TYPE_CHECKING:  # commands import what they need, so that those on files start without PyTorch
    import torch

    from ardm.bundle import Bundle
    from ardm.data import Dataset
    from ardm.train.recipe import DataConfig

BUDGETS = (10, 20, 50, 100)
"""Numbers of calls that are planned for where none are asked for."""

app = typer.Typer(
    cls=cli_codec.Aliases,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Any-order generative models of discrete data, and the lossless codecs that fall out of them.",
)
cli_codec.register(app)
cli_bench.register(app)
cli_export.register(app)
cli_generate.register(app)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe, the path of a YAML file, or the folder of a run.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Settings such as train.batch=32 data.folder=~/data.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run (default: runs/NAME).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave accelerators alone.")] = False,
    threads: Threads = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the log file.")] = False,
) -> None:
    """Train a model by a recipe; Ctrl-C stops after a checkpoint, --resume goes on as if nothing had happened.

    `ardm train runs/NAME --resume` goes on with that run as it was begun.
    """
    with guard():
        from ardm.train.recipe import is_run, load_recipe

        cli_codec.use_threads(threads)
        from ardm.cli.progress import follow
        from ardm.train.trainer import Trainer

        plan = load_recipe(recipe, changes or [])
        run = Path(recipe)
        folder = out or (run if is_run(run) else Path("runs") / plan.name)
        trainer = Trainer(plan, folder, resume, cpu)
        speaks = trainer.accelerator.is_main_process and not quiet
        for part, of in (("train", trainer.train_set), ("valid", trainer.valid_set)):
            if speaks:
                say(f"data.{part}: {of.about}")
        if speaks and trainer.step == plan.train.steps:
            say(f"the run in {folder} is complete at step {trainer.step}; to go on, give a larger train.steps")
        follow(trainer, trainer, quiet)
        if speaks:
            if trainer.written >= 0:
                say(f"wrote {folder / 'model'}")
            _note_other_codec(folder / "model")


def _note_other_codec(folder: Path) -> None:
    """A note where a codec model that was exported into the folder of a model is of other weights than lie there now."""
    from ardm.bundle import load
    from ardm.codec import registry
    from ardm.exact.model import NAME

    if (folder / NAME).is_file() and registry.model(folder).card.get("of", "") != load(folder).identity:
        note(
            f"{folder / NAME} is of other weights than the model now beside it: files made with it stay readable; "
            "to have one of these weights, export it anew"
        )


@app.command("eval")
def evaluate(
    model: Model,
    changes: Annotated[
        list[str] | None, typer.Argument(help="Settings of the data such as data.folder=~/data or data.set=adult.")
    ] = None,
    name: Annotated[str, typer.Option("--data", help="A data set by name (default: that of the model's recipe).")] = "",
    folder: Annotated[Path | None, typer.Option(help="Where the data lie (default: that of the recipe).")] = None,
    split: Annotated[str, typer.Option(help="Which part of them.")] = "test",
    items: Annotated[int, typer.Option(help="How many items; 0: all.", min=0)] = 256,
    calls: Annotated[
        int,
        typer.Option(
            help="Exact code length in this many calls; 0: the any-order bound, or the model's own plan.", min=0
        ),
    ] = 0,
    order: Annotated[str, typer.Option(help="With --calls: the order (default: the model's own, else random).")] = "",
    passes: Annotated[int, typer.Option(help="Random steps an item, for the bound.", min=1)] = 4,
    seed: Seed = 0,
    threads: Threads = 0,
) -> None:
    """Bits per dimension of a model on a data set, with its standard error and the name of the estimator."""
    with guard():
        from ardm import api, data, likelihood
        from ardm.bundle import load

        cli_codec.use_threads(threads)
        bundle = load(model)
        source = _source(bundle, name, folder, changes or [])
        chosen = data.of_config(source, split)
        if chosen.files is not None:
            note(f"data: {chosen.about}")
        x = chosen.items[: items or None].long()
        if tuple(x.shape[1:]) != tuple(bundle.model.shape):
            raise ArdmError(
                f"{bundle.name} models items of shape {bundle.model.shape}; those of {source.name} have "
                f"{tuple(x.shape[1:])}"
            )
        x = _in_classes_of(bundle, x, chosen)
        began = time.perf_counter()
        labels = chosen.labels[: len(x)].long() if bundle.config.labels and chosen.labels is not None else None
        contexts = [None] * len(x.split(64)) if labels is None else list(labels.split(64))
        chunks = [
            api.score(bundle, part, calls or None, order or None, seed + i, passes, context)
            for i, (part, context) in enumerate(zip(x.split(64), contexts, strict=True))
        ]
        result = likelihood.Estimate.joined(chunks)
        say(f"{bundle.name} on {len(x)} items of {source.name}/{split}: {result}")
        if bundle.content == "table":
            say(f"{-float(result.nats.mean()):.4f} nats an item (log-likelihood)")
        say(f"{time.perf_counter() - began:.1f} seconds")


def _in_classes_of(bundle: Bundle, x: torch.Tensor, chosen: Dataset) -> torch.Tensor:
    """Items as a model knows them: of a table by the texts of its values, which other files number otherwise.

    Raises ArdmError for values that it has not, and text of another alphabet.
    """
    ours, theirs = bundle.schema, chosen.schema
    if ours is not None and theirs is not None and ours.categories != theirs.categories:
        import torch

        if ours.names != theirs.names:
            raise ArdmError(f"{bundle.name} models the columns {', '.join(ours.names)}; got {', '.join(theirs.names)}")
        columns = []
        for values, name, known, kinds in zip(x.T, ours.names, ours.categories, theirs.categories, strict=True):
            number = {text: n for n, text in enumerate(known)}
            columns.append(torch.tensor([number.get(text, -1) for text in kinds], device="cpu")[values])
            if int(columns[-1].min()) < 0:
                strange = kinds[int(values[columns[-1].argmin()])]
                raise ArdmError(f"{bundle.name} does not know the value {strange!r} of column {name!r}")
        return torch.stack(columns, 1)
    K = bundle.config.classes
    if int(x.max()) >= K or (bundle.content == "text" and chosen.classes != K):
        raise ArdmError(f"{bundle.name} models {K} values; those of {chosen.name} are {chosen.classes}")
    if any(int(n) >= limit for n, limit in zip(x.flatten(1).amax(0), bundle.config.columns, strict=False)):
        raise ArdmError(f"a column of {chosen.name} has more values than {bundle.name} models")
    return x


def _source(bundle: Bundle, name: str, folder: Path | None, changes: list[str]) -> DataConfig:
    """The data of the model's recipe, or of another name, with changes."""
    from ardm.settings import from_values, override
    from ardm.train.recipe import DataConfig, Recipe

    known = bundle.card.get("recipe")
    values: dict[str, Any] = {} if name or not isinstance(known, dict) else dict(known.get("data", {}))
    values |= {key: str(value) for key, value in (("name", name), ("folder", folder)) if value}
    named = [c for c in changes if not c.startswith("data.")]
    if named:
        raise ArdmError(f"settings of the data begin with data., such as data.folder=FOLDER; got {named[0]!r}")
    whole = override({"data": {**asdict(DataConfig()), **values}}, changes)
    return from_values(Recipe, whole).data


@app.command()
def plan(
    model: Model,
    calls: Annotated[
        str,
        typer.Option("--calls", help="Budgets, such as 10,20,50 (default: 10,20,50,100, as far as there are so many)."),
    ] = "",
    kind: Annotated[str, typer.Option(help="joint, optimal (the same for every stage) or uniform.")] = "joint",
    show: Annotated[
        int | None, typer.Option(help="Print the whole schedule of this budget (default: the first); 0: none.", min=0)
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the schedule of the last budget as JSON.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", "-p", help="Draw L_t with the schedules on it (PNG, SVG, PDF).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite.")] = False,
) -> None:
    """What a number of network calls costs: expected bits per dimension under the best schedule of each budget."""
    with guard():
        from ardm import api
        from ardm.bundle import load
        from ardm.media.pictures import plot_curve

        fresh(force, save, endings=(".json",))
        fresh(force, picture, endings=(".png", ".svg", ".pdf"))
        bundle = load(model)
        if bundle.curve is None:
            raise ArdmError(
                f"{bundle.name} was trained on one plan and has no per-step losses; plan an any-order model"
            )
        least, most = len(bundle.model.digits), bundle.longest
        budgets = numbers(calls) if calls else [n for n in BUDGETS if least <= n < most] or [least]
        table = Table("calls", "bits/dim", "uniform", "D3PM-absorbing", box=None)
        curve = bundle.curve.expected()
        made = [api.schedule(bundle, budget, kind) for budget in budgets]
        D = curve.shape[1]
        for budget, best in zip(budgets, made, strict=True):
            even = api.schedule(bundle, budget, "uniform")
            from ardm.schedule import absorbing_cost, cost

            same = absorbing_cost(curve[0], budget) / D / math.log(2) if len(curve) == 1 else math.nan
            table.add_row(
                str(budget),
                f"{cost(curve, best.starts) / D / math.log(2):.4f}",
                f"{cost(curve, even.starts) / D / math.log(2):.4f}",
                f"{same:.4f}" if len(curve) == 1 else "–",
            )
        table.add_row(str(curve.size), f"{curve.sum() / D / math.log(2):.4f}", "", "")
        say(f"{bundle.name}: expected bits per dimension (bound, measured in training)")
        console.show(table)
        if show != 0:
            say(*str(api.schedule(bundle, show or budgets[0], kind)).splitlines())
        if save:
            made[-1].save(save)
            say(f"wrote {save}")
        if picture:
            plot_curve(bundle.curve, made, picture, f"{bundle.name}: loss per step, and where the calls go")
            say(f"wrote {picture}")


@app.command()
def models(
    folders: Annotated[list[Path] | None, typer.Argument(help="Codec models of your own to list as well.")] = None,
) -> None:
    """The codec models that files are made with, the bundled models, and the recipes that `ardm train` knows."""
    with guard():
        from ardm.bundle import bundled
        from ardm.codec import registry
        from ardm.exact.operations import certify
        from ardm.train.recipe import shipped

        named: list[str | Path] = [*registry.bundled(), *(folders or [])]
        for name in named:
            found = registry.model(name)
            program = found.program
            peak = max(bound.peak for bound in certify(program).values())
            size = "x".join(map(str, program.size)) if max(found.size) else "any size"
            calls = ",".join(map(str, sorted(found.orders)))
            say(
                f"{name}  {found.identity[:8]}  codes {found.kind} of {program.channels} channel{'s' * (program.channels > 1)}, {program.classes} "
                f"values, {size}, in {calls} calls; integers below 2^{peak.bit_length()}"
            )
        say(f"models in floats, for sampling, filling and scoring: {', '.join(bundled())}")
        say(f"recipes: {', '.join(shipped())}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures and files.")] = Path("ardm-demo"),
    threads: Threads = 0,
) -> None:
    """Compress bundled photographs and tiles, restore and verify them, fill one in, and paint new ones."""
    with guard():
        from ardm.cli.demo import run

        cli_codec.use_threads(threads)
        run(out)


def _version(value: bool) -> None:
    if value:
        say(f"ardm {ardm.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Any-order generative models of discrete data, and the lossless codecs that fall out of them."""
