"""The command line: its commands on models; those on files are in `cli_codec`.  The only floor that prints and exits."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

import ardm
from ardm import cli_bench, cli_codec, cli_export
from ardm.console import console, guard, say
from ardm.errors import ArdmError

if TYPE_CHECKING:  # commands import what they need, so that those on files start without PyTorch
    import torch
    from numpy.typing import NDArray

    from ardm.bundle import Bundle
    from ardm.config import DataConfig
    from ardm.data import Dataset
    from ardm.digits import Partial
    from ardm.schema import Schema

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

Model = Annotated[str, typer.Argument(help="A bundled model, the folder of one, or owner/name on the hub.")]
Seed = Annotated[int, typer.Option(help="Every random draw depends on it.", min=0, max=2**63 - 1)]
Calls = Annotated[int, typer.Option("--calls", help="Network calls.", min=1)]
Threads = Annotated[int, typer.Option(help="Processor threads; 0: as many as there are cores.", min=0)]
Order = Annotated[str, typer.Option(help="random, confident, own, bayer, halton, raster, wavefront or checkerboard.")]
Temperature = Annotated[float, typer.Option(help="Below 1: safer, less varied; 0: the most likely.", min=0.0)]
Label = Annotated[int | None, typer.Option(help="Class label, for a model that takes one.")]


def _context(bundle: Bundle, label: int | None, items: int) -> torch.Tensor | None:
    if label is None:
        return None
    if not 0 <= label < bundle.config.labels:
        raise ArdmError(
            f"{bundle.name} takes labels 0..{bundle.config.labels - 1}; got {label}"
            if bundle.config.labels
            else f"{bundle.name} takes no label; leave --label out"
        )
    import torch

    return torch.full((items,), label)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe, or the path of a YAML file.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Settings such as train.batch=32 data.folder=~/data.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run (default: runs/NAME).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the folder.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Leave accelerators alone.")] = False,
    threads: Threads = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the log file.")] = False,
) -> None:
    """Train a model by a recipe; Ctrl-C stops after a checkpoint, --resume goes on as if nothing had happened."""
    with guard():
        from ardm.config import load_recipe

        cli_codec.use_threads(threads)
        from ardm.progress import follow
        from ardm.train import Trainer

        plan = load_recipe(recipe, changes or [])
        folder = out or Path("runs") / plan.name
        trainer = Trainer(plan, folder, resume, cpu)
        follow(trainer, trainer, quiet)
        if trainer.accelerator.is_main_process and not quiet:
            console.print(f"wrote {folder / 'model'}", highlight=False)


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
        console.print(
            f"{bundle.name} on {len(x)} items of {source.name}/{split}: {result}", highlight=False, soft_wrap=True
        )
        if bundle.content == "table":
            console.print(f"{-float(result.nats.mean()):.4f} nats an item (log-likelihood)", highlight=False)
        console.print(f"{time.perf_counter() - began:.1f} seconds", highlight=False)


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
            columns.append(torch.tensor([number.get(text, -1) for text in kinds])[values])
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
    from ardm.config import DataConfig, Recipe, from_values, override

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
    calls: Annotated[str, typer.Option("--calls", help="Budgets, such as 10,20,50.")] = "10,20,50,100",
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
        from ardm.pictures import plot_curve

        _fresh(force, save, picture)
        bundle = load(model)
        if bundle.curve is None:
            raise ArdmError(
                f"{bundle.name} was trained on one plan and has no per-step losses; plan an any-order model"
            )
        budgets = _numbers(calls)
        table = Table("calls", "bits/dim", "uniform", "D3PM-absorbing", box=None)
        curve = bundle.curve.monotone()
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
        console.print(f"{bundle.name}: expected bits per dimension (bound, measured in training)", highlight=False)
        console.print(table)
        if show != 0:
            console.print(str(api.schedule(bundle, show or budgets[0], kind)), highlight=False, soft_wrap=True)
        if save:
            made[-1].save(save)
        if picture:
            plot_curve(bundle.curve, made, picture, f"{bundle.name}: loss per step, and where the calls go")
            say(f"wrote {picture}")


def _numbers(text: str) -> list[int]:
    try:
        return [int(t) for t in text.split(",")]
    except ValueError:
        raise ArdmError(f"budgets are whole numbers with commas between, such as 10,20,50; got {text!r}") from None


@app.command()
def sample(
    model: Annotated[
        str, typer.Argument(help="A bundled model, the folder of one, or owner/name on the hub; or a codec model.")
    ] = "cifar10-any-order",
    items: Annotated[int, typer.Option("--items", "-n", help="How many.", min=1)] = 16,
    calls: Annotated[
        int | None, typer.Option("--calls", help="Network calls (default: 50, or the model's own).", min=1)
    ] = None,
    order: Annotated[
        str, typer.Option(help="random, confident, own, or an order of images; default: own, or random.")
    ] = "",
    temperature: Temperature = 1.0,
    label: Label = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Default: samples.png (a contact sheet), .txt, .wav or .csv, as the model is."
        ),
    ] = None,
    gif: Annotated[Path | None, typer.Option(help="Also an animation of the generation (pictures).")] = None,
    scale: Annotated[int, typer.Option(help="Enlarge pixels.", min=1)] = 3,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite.")] = False,
    threads: Threads = 0,
) -> None:
    """New items in any order, under any budget of calls: pictures, text, sounds or rows.

    A codec model samples by decoding random bits, in its own order.
    """
    with guard():
        import torch

        from ardm import api
        from ardm.bundle import bundled, load

        cli_codec.use_threads(threads)
        floats = model in bundled() or (Path(model) / "config.json").is_file()
        if _codes(model) and (not floats or _better_coded(model, temperature, order, label)):
            _sample_codec(model, items, calls, seed, out, force, (temperature, order, gif, label))
            return
        bundle = load(model)
        _fresh(force, gif)
        chosen = order or ("own" if bundle.order.fixed else "random")
        generator = torch.Generator().manual_seed(seed)
        budget = calls or (bundle.order.calls[0] if bundle.order.fixed else min(50, bundle.longest))
        made = api.make_plan(bundle, budget, chosen, generator=generator, batch=items if chosen == "random" else 1)
        start = bundle.model.digits.blank(items, bundle.model.shape)
        states = api.generate(bundle, made, start, generator, temperature, _context(bundle, label, items))
        if bundle.content == "image":
            target = out or Path("samples.png")
            _fresh(force, target)
            _paint(bundle, list(states), target, gif, scale)
            return
        if gif is not None:
            raise ArdmError("animations are of pictures; leave --gif out")
        target = _target(bundle.content, out, force)
        *_, final = states
        rate = bundle.card.get("rate", 0)
        _write(bundle.content, final.value.numpy(), target, bundle.alphabet, bundle.schema, rate, force)


def _codes(model: str) -> bool:
    """Whether a name is that of a codec model."""
    from ardm import codec
    from ardm.exact.model import NAME

    return model in codec.bundled() or Path(model).is_file() or (Path(model) / NAME).is_file()


def _better_coded(model: str, temperature: float, order: str, label: int | None) -> bool:
    """Whether a codec model beside one in floats is taken: of text and sound, whose items were cut short for training."""
    from ardm import codec

    return codec.model(model).kind in ("text", "audio") and (temperature, order, label) == (1.0, "", None)


def _sample_codec(
    model: str, items: int, calls: int | None, seed: int, out: Path | None, force: bool, others: tuple[object, ...]
) -> None:
    from ardm import codec

    if others != (1.0, "", None, None):
        raise ArdmError("a codec model samples in its own order: leave --temperature, --order, --gif and --label out")
    found = codec.model(model)
    target = _target(found.kind, out, force)
    values = codec.sample(found, items, calls=calls, seed=seed)
    if found.kind == "image":
        import torch

        from ardm.pictures import sheet, to_image

        pictures = [to_image(torch.from_numpy(x), found.program.classes, 3) for x in values]
        sheet(pictures).save(target, format="PNG")
        say(f"wrote {target}")
        return
    schema, alphabet, rate = found.schema, found.alphabet, int(found.card.get("rate", 0))
    _write(found.kind, values[:, 0, 0], target, alphabet, schema, rate, force)


def _target(kind: str, out: Path | None, force: bool) -> Path:
    """Where samples go; refused before any work where it could not be written."""
    from ardm.outputs import ENDINGS

    target = out or Path(f"samples{ENDINGS[kind]}")
    if target.suffix.lower() != ENDINGS[kind]:
        raise ArdmError(f"{target}: samples of this model ({kind}) are written to a file that ends in {ENDINGS[kind]}")
    if target.exists() and not force:
        raise ArdmError(f"{target} exists; give another name with -o, or overwrite it with -f")
    if not target.parent.is_dir():
        raise ArdmError(f"there is no folder {target.parent}")
    return target


def _write(
    kind: str, values: NDArray[Any], target: Path, alphabet: bytes, schema: Schema | None, rate: int, force: bool
) -> None:
    """Samples (n, D) to a file, the first of them to the screen."""
    from ardm.outputs import write

    for line in list(write(kind, values, target, alphabet, schema, rate, force))[:4]:
        console.print(line[:400], highlight=False, markup=False, soft_wrap=True)
    say(f"wrote {target}")


@app.command()
def fill(
    image: Annotated[Path, typer.Argument(help="The image to complete.")],
    mask: Annotated[
        Path | None, typer.Option(help="An image of the same size: black is unknown, white is kept.")
    ] = None,
    box: Annotated[str, typer.Option(help="Or forget a box: x,y,width,height.")] = "",
    digits: Annotated[
        int, typer.Option(help="Or keep only the leading digits of every value: bit-depth expansion.", min=0)
    ] = 0,
    model: Annotated[str, typer.Option("--model", "-m", help="An any-order model.")] = "cifar10-any-order",
    items: Annotated[int, typer.Option("--items", "-n", help="How many completions.", min=1)] = 4,
    calls: Calls = 50,
    order: Order = "random",
    temperature: Temperature = 1.0,
    label: Label = None,
    seed: Seed = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The contact sheet: what is given, the completions, the original.")
    ] = Path("filled.png"),
    gif: Annotated[Path | None, typer.Option(help="Also an animation.")] = None,
    scale: Annotated[int, typer.Option(help="Enlarge pixels.", min=1)] = 3,
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite.")] = False,
    threads: Threads = 0,
) -> None:
    """Complete a masked image, several times; what is given is never changed."""
    with guard():
        import torch

        from ardm import api
        from ardm.bundle import load
        from ardm.pictures import read_image

        cli_codec.use_threads(threads)
        _fresh(force, out, gif)
        bundle = load(model)
        if sum(map(bool, (mask, box, digits))) != 1:
            raise ArdmError("say what is unknown by one of --mask IMAGE, --box x,y,width,height or --digits NUMBER")
        x = read_image(image).long()
        C, H, W = x.shape
        if bundle.model.shape[0] != C:
            raise ArdmError(
                f"{image} has {C} channels and {bundle.name} models {bundle.model.shape[0]}; convert the image"
            )
        if bundle.config.trunk == "unet" and tuple(bundle.model.shape) != (C, H, W):
            raise ArdmError(
                f"{image} is {W}x{H} and {bundle.name} takes {bundle.model.shape[2]}x{bundle.model.shape[1]} only; crop it"
            )
        S = len(bundle.model.digits)
        known = _known(x, mask, box) * S if not digits else torch.full_like(x, digits)
        if digits >= S and digits:
            raise ArdmError(
                f"{bundle.name} writes values with {S} digits; --digits keeps fewer than that, got {digits}"
            )
        generator = torch.Generator().manual_seed(seed)
        batch, depth = x.expand(items, -1, -1, -1), known.expand(items, -1, -1, -1)
        start, made = api.started(bundle, batch, depth, calls, order, generator)
        states = [start, *api.generate(bundle, made, start, generator, temperature, _context(bundle, label, items))]
        _paint(bundle, states, out, gif, scale, original=x)


def _known(x: torch.Tensor, mask: Path | None, box: str) -> torch.Tensor:
    """(C, H, W) 0 or 1."""
    import torch

    from ardm.pictures import read_image

    known = torch.ones_like(x)
    if mask is not None:
        m = read_image(mask)
        if m.shape[1:] != x.shape[1:]:
            raise ArdmError(
                f"{mask} is {m.shape[2]}x{m.shape[1]}, the image is {x.shape[2]}x{x.shape[1]}; they must agree"
            )
        known = known * (m[: 1 if len(m) < 3 else 3].float().mean(0) >= 128)
    else:
        numbers = _numbers(box)
        if len(numbers) != 4 or min(numbers) < 0 or not numbers[2] * numbers[3]:
            raise ArdmError(f"a box is x,y,width,height in pixels; got {box!r}")
        left, top, width, height = numbers
        if left + width > x.shape[2] or top + height > x.shape[1]:
            raise ArdmError(f"the box {box} does not lie inside the {x.shape[2]}x{x.shape[1]} image")
        known[:, top : top + height, left : left + width] = 0
    if known.all():
        raise ArdmError("nothing is unknown: the mask is white everywhere")
    return known.long()


def _fresh(force: bool, *paths: Path | None) -> None:
    """Refuse, before any work, what could not be written after it."""
    for path in paths:
        if path and path.exists() and not force:
            raise ArdmError(f"{path} exists; give another name with -o, or overwrite it with -f")
        if path and path.suffix.lower() not in (".png", ".gif", ".json", ".svg", ".pdf"):
            raise ArdmError(f"{path}: give a name that ends in .png (sheets), .gif (animations) or .json (schedules)")
        if path and not path.parent.is_dir():
            raise ArdmError(f"there is no folder {path.parent}")


def _paint(
    bundle: Bundle,
    states: Sequence[Partial],
    out: Path,
    gif: Path | None,
    scale: int,
    original: torch.Tensor | None = None,
) -> None:
    from ardm.pictures import save_gif, sheet, state_image, to_image
    from ardm.whole import write_whole

    S, K = len(bundle.model.digits), bundle.model.digits.classes
    pictures = [state_image(states[-1], i, S, K, scale) for i in range(states[-1].batch)]
    if original is not None:
        pictures = [state_image(states[0], 0, S, K, scale), *pictures, to_image(original, K, scale)]
    columns = len(pictures) if original is not None and len(pictures) <= 10 else None
    write_whole(out, lambda path: sheet(pictures, columns).save(path, format="PNG"), force=True)
    say(f"wrote {out}")
    if gif:
        frames = [
            sheet([state_image(s, i, S, K, scale) for i in range(s.batch)])
            for s in states[:: max(1, len(states) // 60)]
        ]
        frames.append(sheet([state_image(states[-1], i, S, K, scale) for i in range(states[-1].batch)]))
        write_whole(gif, lambda path: save_gif(frames, path), force=True)
        say(f"wrote {gif}")


@app.command()
def models(
    folders: Annotated[list[Path] | None, typer.Argument(help="Codec models of your own to list as well.")] = None,
) -> None:
    """The codec models that files are made with, the bundled models, and the recipes that `ardm train` knows."""
    with guard():
        from ardm import codec
        from ardm.bundle import bundled
        from ardm.config import shipped
        from ardm.exact.operations import certify

        named: list[str | Path] = [*codec.bundled(), *(folders or [])]
        for name in named:
            found = codec.model(name)
            program = found.program
            peak = max(bound.peak for bound in certify(program).values())
            size = "x".join(map(str, program.size)) if max(found.size) else "any size"
            calls = ",".join(map(str, sorted(found.orders)))
            console.print(
                f"{name}  {found.identity[:8]}  codes {found.kind} of {program.channels} channel{'s' * (program.channels > 1)}, {program.classes} "
                f"values, {size}, in {calls} calls; integers below 2^{peak.bit_length()}",
                highlight=False,
                soft_wrap=True,
            )
        console.print(
            f"models in floats, for sampling, filling and scoring: {', '.join(bundled())}",
            highlight=False,
            soft_wrap=True,
        )
        console.print(f"recipes: {', '.join(shipped())}", highlight=False, soft_wrap=True)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures and files.")] = Path("ardm-demo"),
    threads: Threads = 0,
) -> None:
    """Compress bundled photographs and tiles, restore and verify them, fill one in, and paint new ones."""
    with guard():
        from ardm.demo import run

        cli_codec.use_threads(threads)
        run(out, console)


def _version(value: bool) -> None:
    if value:
        console.print(f"ardm {ardm.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Any-order generative models of discrete data, and the lossless codecs that fall out of them."""
