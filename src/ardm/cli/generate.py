"""`ardm sample`: new items; and how pictures of them are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    context_of,
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
UNCHOSEN = (1.0, None, None, None, None)
"""The defaults of --temperature, --top-k, --top-p, --order and --label."""

Gif = Annotated[Path | None, typer.Option(help="Also write an animation of the generation (images only).")]
Scale = Annotated[int, typer.Option(help="Enlarge pixels by this factor.", min=1, max=1024)]


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command()(sample)


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
            paint(bundle, states, target, gif, scale, force)
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

    letters = Letters(alphabet=found.alphabet or BYTES)
    _write(found.kind, values[:, 0, 0], target, letters, found.schema, found.card.get("rate", 0), force)


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
    rate: object,
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


# --- images ---------------------------------------------------------------------------------------------------------


def paint(
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
