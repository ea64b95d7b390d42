"""`ardm sample` and `ardm fill`: new items, and items completed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ardm.cli import files as cli_codec
from ardm.cli.console import guard, say
from ardm.cli.options import Calls, Label, Order, Seed, Temperature, Threads, context_of, fresh, numbers
from ardm.errors import ArdmError

if TYPE_CHECKING:  # as in `cli`
    import torch
    from numpy.typing import NDArray

    from ardm.bundle import Bundle
    from ardm.digits import Partial
    from ardm.schema import Schema


SHOWN = 24
"""Lines of samples on the screen, at most."""


def register(app: typer.Typer) -> None:
    """Add the commands to an application."""
    for command in (sample, fill):
        app.command()(command)


def sample(
    model: Annotated[
        str, typer.Argument(help="A bundled model, the folder of one, or owner/name on the hub; or a codec model.")
    ] = "cifar10-any-order",
    items: Annotated[int, typer.Option("--items", "-n", help="How many.", min=1)] = 16,
    calls: Calls = None,
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
        bundle = None if not floats and _codes(model) else load(model)
        if bundle is None or (_codes(model) and _better_coded(model, bundle, temperature, order, label)):
            _sample_codec(model, items, calls, seed, out, force, scale, (temperature, order, gif, label))
            return
        fresh(force, gif, endings=(".gif",))
        budget, chosen = api.budget(bundle, calls, order or None)
        generator = torch.Generator().manual_seed(seed)
        made = api.make_plan(bundle, budget, chosen, generator=generator, batch=items if chosen == "random" else 1)
        start = bundle.model.digits.blank(items, bundle.model.shape)
        states = api.generate(bundle, made, start, generator, temperature, context_of(bundle, label, items))
        if bundle.content == "image":
            target = out or Path("samples.png")
            fresh(force, target)
            _paint(bundle, list(states), target, gif, scale)
            return
        if gif is not None:
            raise ArdmError("animations are of pictures; leave --gif out")
        target = _target(bundle.written, out, force)
        *_, final = states
        rate = bundle.card.get("rate", 0)
        _write(bundle.written, final.value.numpy(), target, bundle.alphabet, bundle.schema, rate, force)


def _codes(model: str) -> bool:
    """Whether a name is that of a codec model."""
    from ardm.codec import registry
    from ardm.exact.model import NAME

    return model in registry.bundled() or Path(model).is_file() or (Path(model) / NAME).is_file()


def _better_coded(model: str, bundle: Bundle, temperature: float, order: str, label: int | None) -> bool:
    """Whether a codec model beside one in floats is taken: of text and sound, whose items were cut short for training.

    Not where the model was trained on since, or its items are arrays.
    """
    from ardm.cli.console import note
    from ardm.codec import registry

    found = registry.model(model)
    if found.kind not in ("text", "audio") or (temperature, order, label) != (1.0, "", None):
        return False
    if found.card.get("of", bundle.identity) != bundle.identity:
        note(f"the codec model in {model} is of an earlier state of this model, which is sampled; export it anew")
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
) -> None:
    from ardm.codec import registry, sampling

    if others != (1.0, "", None, None):
        raise ArdmError("a codec model samples in its own order: leave --temperature, --order, --gif and --label out")
    found = registry.model(model)
    target = _target(found.kind, out, force)
    values = sampling.sample(found, items, calls=calls, seed=seed)
    if found.kind == "image":
        import torch

        from ardm.atomic import write_whole
        from ardm.media.pictures import sheet, to_image

        pictures = [to_image(torch.from_numpy(x), found.program.classes, scale) for x in values]
        write_whole(target, lambda path: sheet(pictures).save(path, format="PNG"), force=True)
        say(f"wrote {target}")
        return
    schema, alphabet, rate = found.schema, found.alphabet, int(found.card.get("rate", 0))
    _write(found.kind, values[:, 0, 0], target, alphabet, schema, rate, force)


def _target(kind: str, out: Path | None, force: bool) -> Path:
    """Where samples go; refused before any work where it could not be written."""
    from ardm.media.samples import ENDINGS

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
    """Samples (n, D) to a file, and to the screen as many as are read there."""
    from ardm.media.samples import write

    lines = list(write(kind, values, target, alphabet, schema, rate, force))
    for line in lines[:SHOWN]:
        say(line[:400])
    if len(lines) > SHOWN:
        say(f"… {len(lines) - SHOWN} more")
    say(f"wrote {target}")


def fill(
    image: Annotated[Path, typer.Argument(help="The image to complete.")],
    mask: Annotated[
        Path | None, typer.Option(help="An image of the same size in black (unknown) and white (kept).")
    ] = None,
    box: Annotated[str, typer.Option(help="Or forget a box: x,y,width,height.")] = "",
    digits: Annotated[
        int, typer.Option(help="Or keep only the leading digits of every value: bit-depth expansion.", min=0)
    ] = 0,
    model: Annotated[str, typer.Option("--model", "-m", help="An any-order model.")] = "cifar10-any-order",
    items: Annotated[int, typer.Option("--items", "-n", help="How many completions.", min=1)] = 4,
    calls: Calls = None,
    order: Order = "",
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
        from ardm.media.pictures import read_image

        cli_codec.use_threads(threads)
        fresh(force, out)
        fresh(force, gif, endings=(".gif",))
        bundle = load(model)
        if sum(map(bool, (mask, box, digits))) != 1:
            raise ArdmError("say what is unknown by one of --mask IMAGE, --box x,y,width,height or --digits NUMBER")
        x = read_image(image).long()
        C, H, W = x.shape
        if bundle.content != "image":
            raise ArdmError(
                f"{bundle.name} is a model of {bundle.written}: ardm fill completes pictures; from Python, ardm.fill"
            )
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
        budget, order = api.budget(bundle, calls, order or None)
        batch, depth = x.expand(items, -1, -1, -1), known.expand(items, -1, -1, -1)
        start, made = api.started(bundle, batch, depth, budget, order, generator)
        states = [start, *api.generate(bundle, made, start, generator, temperature, context_of(bundle, label, items))]
        _paint(bundle, states, out, gif, scale, original=x)


def _known(x: torch.Tensor, mask: Path | None, box: str) -> torch.Tensor:
    """(C, H, W) 0 or 1."""
    import torch

    from ardm.media.pictures import read_image

    known = torch.ones_like(x)
    if mask is not None:
        m = read_image(mask)
        if m.shape[1:] != x.shape[1:]:
            raise ArdmError(
                f"{mask} is {m.shape[2]}x{m.shape[1]}, the image is {x.shape[2]}x{x.shape[1]}; they must agree"
            )
        known = known * _told(m, mask)
    else:
        asked = numbers(box)
        if len(asked) != 4 or min(asked) < 0 or not asked[2] * asked[3]:
            raise ArdmError(f"a box is x,y,width,height in pixels; got {box!r}")
        left, top, width, height = asked
        if left + width > x.shape[2] or top + height > x.shape[1]:
            raise ArdmError(f"the box {box} does not lie inside the {x.shape[2]}x{x.shape[1]} image")
        known[:, top : top + height, left : left + width] = 0
    if known.all():
        raise ArdmError("nothing is unknown: the mask is white everywhere")
    return known.long()


BLACK, WHITE = 31, 224
"""Up to and from which grey a pixel of a mask is black or white: lossy formats are not exact."""


def _told(m: torch.Tensor, mask: Path) -> torch.Tensor:
    """(H, W) 0 or 1 from the pixels of a mask (C, H, W); ArdmError where it does not say which."""
    colours, alpha = (m[:-1], m[-1]) if len(m) in (2, 4) else (m, None)
    if alpha is not None and (alpha < 255).any():
        raise ArdmError(
            f"{mask} has {int((alpha < 255).sum())} pixels that are not opaque, which say nothing: save the mask without "
            "transparency, black for what is unknown and white for what is kept"
        )
    black, white = (colours <= BLACK).all(0), (colours >= WHITE).all(0)
    neither = ~(black | white)
    if neither.any():
        y, x = neither.nonzero()[0].tolist()
        raise ArdmError(
            f"{mask} has {int(neither.sum())} pixels that are neither black (unknown) nor white (kept), the first "
            f"{tuple(colours[:, y, x].tolist())} at {x},{y}: save it in black and white, without smooth edges"
        )
    return white.long()


def _paint(
    bundle: Bundle,
    states: Sequence[Partial],
    out: Path,
    gif: Path | None,
    scale: int,
    original: torch.Tensor | None = None,
) -> None:
    from ardm.atomic import write_whole
    from ardm.media.pictures import save_gif, sheet, state_image, to_image

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
