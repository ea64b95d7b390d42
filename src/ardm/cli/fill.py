"""`ardm fill`: images completed where something is hidden."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ardm.atomic import write_whole
from ardm.cli.console import guard, say
from ardm.cli.generate import Gif, Scale, paint
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
    complete_model,
    context_of,
    numbers,
    ordering,
    refuse_early,
    use_threads,
)
from ardm.cli.progress import Bar
from ardm.cli.samplers import Drawing, Guidance, Refine, guided, refined
from ardm.errors import ArdmError

if TYPE_CHECKING:
    import torch

    from ardm import Partial
    from ardm.bundle import Bundle

MARGIN = 32
"""Pixels beside a hole that the network sees, as far as the mean of the known neighbours reaches."""
GRID = 8
"""Windows begin at multiples of it, so that the resolutions of the network halve as in the whole picture."""


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(fill)


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
    whole: Annotated[
        Path | None,
        typer.Option(
            help="Also write the completions themselves, each as large as the image: to this file, or with several to NAME-1.png, NAME-2.png, ..."
        ),
    ] = None,
    gif: Gif = None,
    scale: Scale = 3,
    force: Force = False,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = 0,
) -> None:
    """Fill the hidden part of an image.

    Known values never change.  The white part of --mask is filled, as in other inpainting tools.
    """
    with guard(), Bar() as bar:
        import torch

        from ardm import api, inputs
        from ardm.bundle import load
        from ardm.media.pictures import read_image
        from ardm.random_numbers import FILLING, RandomNumbers

        use_threads(threads)
        each = _each(whole, items)
        refuse_early(force, out, *each)
        if out in each:
            raise ArdmError(f"{out} would be both the contact sheet and a completion; give --whole another name")
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
        generator = RandomNumbers(seed).child(FILLING)
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
        paint(bundle, states, out, gif, scale, force, x, lambda state: _inside(state, window, x, depth))
        if each:
            _save(bundle, _inside(states[-1], window, x, depth), each, force)


def _each(whole: Path | None, items: int) -> list[Path]:
    """The files of the completions: the one that --whole names, or that name with their numbers."""
    if whole is None or items == 1:
        return [] if whole is None else [whole]
    return [whole.with_name(f"{whole.stem}-{k}{whole.suffix}") for k in range(1, items + 1)]


def _save(bundle: Bundle, state: Partial, paths: Sequence[Path], force: bool) -> None:
    """Write each item of a state to a file of its own, pixel for pixel."""
    from ardm.media.pictures import to_image

    for value, path in zip(state.value, paths, strict=True):
        image = to_image(value, bundle.model.digits.classes).convert("L" if len(value) == 1 else "RGB")
        write_whole(path, partial(image.save, format="PNG"), force)
    say(f"wrote {paths[0]}" + f" to {paths[-1].name}" * (len(paths) > 1))


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
