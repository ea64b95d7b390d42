"""`ardm sample` and `ardm fill`: new items, and items completed."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ardm.atomic import write_whole
from ardm.cli.console import guard, note, say
from ardm.cli.options import (
    MOST,
    BlockLength,
    Calls,
    Device,
    Force,
    Label,
    Order,
    Precision,
    Score,
    Seed,
    Select,
    Temperature,
    Threads,
    TopK,
    TopP,
    complete_any,
    complete_model,
    context_of,
    numbers,
    ordering,
    refuse_early,
    use_threads,
)
from ardm.cli.progress import Bar
from ardm.cli.samplers import Drawing, Guidance, Refine, RemaskBy, Speculative, guided, refined, sampling
from ardm.errors import ArdmError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from ardm import Partial
    from ardm.bundle import Bundle
    from ardm.schema import Schema
    from ardm.symbols import Symbols

SHOWN = 24
"""Most lines of samples that are printed."""
MARGIN = 32
"""Pixels beside a hole that the network sees, as far as the mean of the known neighbours reaches."""
GRID = 8
"""Windows begin at multiples of it, so that the resolutions of the network halve as in the whole picture."""
UNCHOSEN = (1.0, None, None, None, None)
"""The defaults of --temperature, --top-k, --top-p, --order and --label."""

Gif = Annotated[Path | None, typer.Option(help="Also write an animation of the generation (images only).")]
Scale = Annotated[int, typer.Option(help="Enlarge pixels by this factor.", min=1, max=1024)]


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for command in (sample, fill):
        app.command()(command)


# --- sampling ---------------------------------------------------------------------------------------------------------


def sample(
    model: Annotated[
        str,
        typer.Argument(
            help="A bundled model, a codec model, a folder, or owner/name on the Hugging Face hub.",
            autocompletion=complete_any,
        ),
    ] = "cifar10-any-order",
    items: Annotated[int, typer.Option("--items", "-n", help="Number of samples.", min=1, max=MOST)] = 16,
    calls: Calls = None,
    order: Order = "",
    score: Score = "",
    select: Select = "",
    block_length: BlockLength = None,
    temperature: Temperature = 1.0,
    top_k: TopK = None,
    top_p: TopP = None,
    label: Label = None,
    guidance: Guidance = None,
    remask: RemaskBy = "",
    refine: Refine = 0,
    speculative: Speculative = False,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            "-o",
            help="Write to this file (default: samples.png, .txt, .wav, .csv or .npy, by model).",
        ),
    ] = None,
    gif: Gif = None,
    scale: Scale = 3,
    force: Force = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 0,
) -> None:
    """Sample images, text, sounds or rows.

    Any-order models take any order and any number of network calls.  A codec model samples by decoding random bits, in
    its own order.
    """
    with guard(), Bar() as bar:
        from ardm.bundle import bundled, load

        use_threads(threads)
        floats = model in bundled() or (Path(model) / "config.json").is_file()
        bundle = None if not floats and _codes(model) else load(model, device, precision=precision)
        along = ordering(order, score, select, block_length)
        drawing = temperature, top_k, top_p
        beyond = guidance, remask or None, refine or None, speculative or None
        plain = beyond == (None,) * 4
        if bundle is None or (plain and _codes(model) and _better_coded(model, bundle, (*drawing, along, label))):
            if precision == "bf16":
                raise ArdmError(f"{model} is a codec model, which computes in integers: leave --precision out")
            others = (*drawing, along, label, gif, *beyond)
            _sample_codec(model, items, calls, seed, out, force, scale, others, device, bar)
            return
        refuse_early(force, gif, endings=(".gif",))
        target = _target(bundle.written, out, force)
        if gif is not None and bundle.content != "image":
            raise ArdmError("only images can be animated; leave out --gif")
        bundle = guided(bundle, guidance)
        how = Drawing(calls, along, seed, *drawing, context_of(bundle, label, items))
        states = list(bar.track("sampling", *sampling(bundle, items, how, remask, speculative)))
        states += refined(bundle, states[-1], refine, how)
        if bundle.content == "image":
            _paint(bundle, states, target, gif, scale, force)
            return
        rate = bundle.card.get("rate", 0)
        values = states[-1].value.cpu().numpy()
        _write(bundle.written, values, target, bundle.symbols, bundle.schema, rate, force)


def _codes(model: str) -> bool:
    """Whether a name or folder holds a codec model."""
    from ardm.codec import registry
    from ardm.exact.model import NAME

    return model in registry.bundled() or Path(model).is_file() or (Path(model) / NAME).is_file()


def _better_coded(model: str, bundle: Bundle, chosen: tuple[object, ...]) -> bool:
    """Whether to sample from the codec model in the folder: of text and sound, it makes longer items than training cut.

    Not if it was exported from other weights, or if items are arrays.
    """
    from ardm.codec import registry

    found = registry.model(model)
    if found.kind not in ("text", "audio") or chosen != UNCHOSEN:
        return False
    if found.card.get("of", bundle.identity) != bundle.identity:
        note(f"the codec model in {model} was exported from other weights, and is not used; export it again")
        return False
    return bundle.written != "array"


def _sample_codec(
    model: str,
    items: int,
    calls: int | None,
    seed: int,
    out: Path | None,
    force: bool,
    scale: int,
    others: tuple[object, ...],
    device: str,
    bar: Bar,
) -> None:
    from ardm.codec import registry, sampling

    if others != (*UNCHOSEN, *[None] * 5):
        raise ArdmError(
            "a codec model samples in its own way; leave --temperature, --top-k, --top-p, --order, --label, --gif, "
            "--guidance, --remask, --refine and --speculative out"
        )
    found = registry.model(model)
    target = _target(found.kind, out, force)
    with bar.busy("sampling"):
        values = sampling.sample(found, items, calls=calls, seed=seed, device=device)
    if found.kind == "image":
        import torch

        from ardm.media.pictures import sheet, to_image

        pictures = [to_image(torch.from_numpy(x), found.program.classes, scale) for x in values]
        write_whole(target, lambda path: sheet(pictures).save(path, format="PNG"), force)
        say(f"wrote {target}")
        return
    from ardm.symbols import BYTES, Letters

    letters, rate = Letters(alphabet=found.alphabet or BYTES), int(found.card.get("rate", 0))
    _write(found.kind, values[:, 0, 0], target, letters, found.schema, rate, force)


def _target(kind: str, out: Path | None, force: bool) -> Path:
    """The file for samples of a kind; refused before any work if it could not be written afterwards."""
    from ardm.media.samples import ENDINGS

    target = out or Path(f"samples{ENDINGS[kind]}")
    if target.suffix.lower() != ENDINGS[kind]:
        raise ArdmError(f"{target}: samples of this model ({kind}) need a name that ends in {ENDINGS[kind]}")
    refuse_early(force, target, endings=(ENDINGS[kind],))
    return target


def _write(
    kind: str,
    values: NDArray[Any],
    target: Path,
    symbols: Symbols | None,
    schema: Schema | None,
    rate: int,
    force: bool,
) -> None:
    """Write samples (n, D) to a file, and print the first of them."""
    from ardm.media.samples import write

    lines = list(write(kind, values, target, symbols, schema, rate, force))
    for line in lines[:SHOWN]:
        say(line[:400])
    if len(lines) > SHOWN:
        say(f"… {len(lines) - SHOWN} more")
    say(f"wrote {target}")


# --- filling ----------------------------------------------------------------------------------------------------------


def fill(
    image: Annotated[Path, typer.Argument(help="The image to complete.")],
    mask: Annotated[
        Path | None, typer.Option(help="Fill where this image of the same size is white; keep where it is black.")
    ] = None,
    box: Annotated[str, typer.Option(help="Or fill a box: x,y,width,height in pixels.")] = "",
    digits: Annotated[
        int, typer.Option(help="Or keep only this many leading digits of every value (bit-depth expansion).", min=0)
    ] = 0,
    model: Annotated[
        str, typer.Option("--model", "-m", help="An any-order model of images.", autocompletion=complete_model)
    ] = "cifar10-any-order",
    items: Annotated[int, typer.Option("--items", "-n", help="Number of completions.", min=1, max=MOST)] = 4,
    calls: Calls = None,
    order: Order = "",
    score: Score = "",
    select: Select = "",
    block_length: BlockLength = None,
    temperature: Temperature = 1.0,
    top_k: TopK = None,
    top_p: TopP = None,
    label: Label = None,
    guidance: Guidance = None,
    refine: Refine = 0,
    seed: Seed = 0,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "--output", "-o", help="Write a contact sheet: the image as given, its completions, the original."
        ),
    ] = Path("filled.png"),
    gif: Gif = None,
    scale: Scale = 3,
    force: Force = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 0,
) -> None:
    """Fill the hidden part of an image.

    Known values never change.  --mask is white where to fill, as in other inpainting tools.
    """
    with guard(), Bar() as bar:
        import torch

        from ardm import api, inputs
        from ardm.bundle import load
        from ardm.media.pictures import read_image
        from ardm.random_numbers import RandomNumbers

        use_threads(threads)
        refuse_early(force, out)
        refuse_early(force, gif, endings=(".gif",))
        bundle = guided(load(model, device, precision=precision), guidance)
        if sum(map(bool, (mask, box, digits))) != 1:
            raise ArdmError("say what to fill with one of --mask IMAGE, --box x,y,width,height or --digits NUMBER")
        if digits and refine:
            raise ArdmError("--refine draws whole values again; leave --digits or --refine out")
        x = read_image(image).long()
        _refuse_misfit(bundle, image, x)
        S = len(bundle.model.digits)
        if digits >= S and digits:
            raise ArdmError(f"{bundle.name} has {S} digits per value; --digits keeps fewer than that, got {digits}")
        depth = torch.full_like(x, digits) if digits else _known(x, mask, box) * S
        there = inputs.device_of(bundle.model) or torch.device("cpu")
        generator = RandomNumbers(seed)
        along = ordering(order, score, select, block_length)
        window = window_of(bundle, depth < S)
        shown, depths = (part[window].contiguous().to(there) for part in (x, depth))
        budget, chosen = api.budget(bundle, calls, along, shown.numel())
        batch, depths = (part.expand(items, -1, -1, -1) for part in (shown, depths))
        start, made = api.started(bundle, batch, depths, budget, chosen, generator)
        context = context_of(bundle, label, items)
        steps = api.generate(bundle, made, start, generator, temperature, context, top_k, top_p)
        states = [start, *bar.track("filling", steps, len(made) if isinstance(made, Sized) else None)]
        how = Drawing(calls, along, seed, temperature, top_k, top_p, context)
        states += refined(bundle, states[-1], refine, how, depths > 0)
        _paint(bundle, states, out, gif, scale, force, x, lambda state: _inside(state, window, x, depth))


def _refuse_misfit(bundle: Bundle, image: Path, x: torch.Tensor) -> None:
    """Raise ArdmError where a model cannot fill an image (C, H, W)."""
    C, H, W = x.shape
    own = tuple(bundle.model.shape)
    if bundle.content != "image":
        raise ArdmError(
            f"{bundle.name} is a model of {bundle.written}, and ardm fill completes images; from Python, ardm.fill"
        )
    if own[0] != C:
        raise ArdmError(f"{image} has {C} channels and {bundle.name} models {own[0]}; convert the image")
    if bundle.config.trunk == "unet" and own != (C, H, W):
        raise ArdmError(f"{image} is {W}x{H} and {bundle.name} takes {own[2]}x{own[1]} only; crop the image")


def window_of(bundle: Bundle, hidden: torch.Tensor) -> tuple[slice, ...]:
    """The part of an image (C, H, W) that the network has to see: what is hidden, and a margin.

    A network that takes any size reads no farther, but for differences in the fourth place of a probability, and the whole of
    a photograph would take as long as all of its pixels.
    """
    if bundle.config.trunk != "centred":
        return slice(None), slice(None), slice(None)
    ends = []
    for axis in (1, 2):
        where = hidden.any(0).any(2 - axis).nonzero()
        first = max(int(where.min()) - MARGIN, 0)
        ends.append(slice(first - first % GRID, int(where.max()) + 1 + MARGIN))
    return slice(None), *ends


def _inside(state: Partial, window: tuple[slice, ...], x: torch.Tensor, depth: torch.Tensor) -> Partial:
    """A state of the window as one of the whole image."""
    from ardm import Partial

    value, known = (part.expand(state.batch, *part.shape).clone() for part in (x, depth))
    at = (slice(None), *window)
    value[at], known[at] = state.value.cpu(), state.depth.cpu()
    return Partial(value, known)


def _known(x: torch.Tensor, mask: Path | None, box: str) -> torch.Tensor:
    """Which values of an image are kept: (C, H, W) 0 or 1."""
    import torch

    from ardm.media.pictures import read_image

    known = torch.ones_like(x)
    if mask is not None:
        m = read_image(mask)
        if m.shape[1:] != x.shape[1:]:
            raise ArdmError(
                f"{mask} is {m.shape[2]}x{m.shape[1]}, the image {x.shape[2]}x{x.shape[1]}; give one of the same size"
            )
        known = known * (1 - _white(m, mask))
    else:
        given = numbers(box)
        if len(given) != 4 or min(given) < 0 or not given[2] * given[3]:
            raise ArdmError(f"a box is x,y,width,height in pixels; got {box!r}")
        left, top, width, height = given
        if left + width > x.shape[2] or top + height > x.shape[1]:
            raise ArdmError(f"the box {box} is not inside the {x.shape[2]}x{x.shape[1]} image")
        known[:, top : top + height, left : left + width] = 0
    if known.all():
        raise ArdmError("there is nothing to fill: the mask is black everywhere")
    return known.long()


BLACK, WHITE = 31, 224
"""Greatest grey of a black pixel, and least of a white one: lossy formats are not exact."""


def _white(m: torch.Tensor, mask: Path) -> torch.Tensor:
    """Where a mask (C, H, W) is white: (H, W) 0 or 1.  Raises ArdmError for pixels that are neither black nor white."""
    colours, alpha = (m[:-1], m[-1]) if len(m) in (2, 4) else (m, None)
    if alpha is not None and (alpha < 255).any():
        raise ArdmError(
            f"{mask} has {int((alpha < 255).sum())} transparent pixels; save the mask without transparency: white where "
            "to fill, black where to keep"
        )
    black, white = (colours <= BLACK).all(0), (colours >= WHITE).all(0)
    neither = ~(black | white)
    if neither.any():
        y, x = neither.nonzero()[0].tolist()
        raise ArdmError(
            f"{mask} has {int(neither.sum())} pixels that are neither white (fill) nor black (keep), the first "
            f"{tuple(colours[:, y, x].tolist())} at {x},{y}; save it in black and white, without smooth edges"
        )
    return white.long()


# --- images ---------------------------------------------------------------------------------------------------------


def _paint(
    bundle: Bundle,
    states: Sequence[Partial],
    out: Path,
    gif: Path | None,
    scale: int,
    force: bool,
    original: torch.Tensor | None = None,
    whole: Callable[[Partial], Partial] = lambda state: state,
) -> None:
    """Write a contact sheet of the last state, and an animation of all of them.

    whole: a state as it is shown.
    """
    from ardm.media.pictures import save_gif, sheet, state_image, to_image

    S, K = len(bundle.model.digits), bundle.model.digits.classes
    last = whole(states[-1])
    pictures = [state_image(last, i, S, K, scale) for i in range(last.batch)]
    if original is not None:
        pictures = [state_image(whole(states[0]), 0, S, K, scale), *pictures, to_image(original, K, scale)]
    columns = len(pictures) if original is not None and len(pictures) <= 10 else None
    write_whole(out, lambda path: sheet(pictures, columns).save(path, format="PNG"), force)
    say(f"wrote {out}")
    if gif:
        shown = [*states[:: max(1, len(states) // 60)], states[-1]]
        frames = [sheet([state_image(s, i, S, K, scale) for i in range(s.batch)]) for s in map(whole, shown)]
        write_whole(gif, lambda path: save_gif(frames, path), force)
        say(f"wrote {gif}")
