"""Draw the pictures of the documentation that no other benchmark draws.

python benchmarks/pictures.py                      # all of them: a quarter of an hour on one core
python benchmarks/pictures.py filled plans         # some
python benchmarks/pictures.py --out elsewhere      # default: docs/pictures

filled, plan       what `ardm fill` and `ardm plan` draw with the bundled any-order model
samples            24 items of the bundled model `pictures`
previews           a photograph from the front of its file, with 1, 2, 3 and 4 digits of the upscaling twin in checkpoints/
plans              when each value of a picture is revealed, along every plan (plans-fixed.png, plans-adaptive.png)
text               masked-lm.png, by running the page docs/masked-lm.md, and plans-text.png with the model trained there
"""

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

import ardm
from ardm import Adaptive, EntropyBudget, FixedNumber, Threshold, plan
from ardm.media.pictures import sheet, to_image
from ardm.random_numbers import RandomNumbers
from ardm.source import Score
from ardm.walk import walk

ROOT = Path(__file__).parents[1]
CAT = ROOT / "src" / "ardm" / "assets" / "demo" / "cat.png"
CALLS, TEXT_CALLS, CALLS_CODED = 24, 8, 50
COOL = ("--temperature", 0.8, "--top-p", 0.95)


def command(*words):
    subprocess.run([sys.executable, "-m", "ardm", *map(str, words)], check=True)


def filled(out):
    """A photograph of 64×64 with a grid of missing pixels, three completions, and the original."""
    with tempfile.TemporaryDirectory() as folder:
        photo, mask = Path(folder, "photo.png"), Path(folder, "mask.png")
        Image.open(CAT).convert("RGB").crop((24, 29, 88, 93)).save(photo)
        y, x = np.mgrid[:64, :64] % 16 // 4 == 1
        Image.fromarray((x | y).astype(np.uint8) * 255).save(mask)
        command("fill", photo, "--mask", mask, "-n", 3, "--calls", 100, *COOL, "-o", out / "filled.png", "-f")


def previews(out):
    """A photograph of 32×32 from ever longer fronts of one file: 1, 2, 3 and all 4 digits of every value."""
    model = ROOT / "checkpoints" / "cifar10-any-order-upscale4"
    x = np.asarray(Image.open(CAT).convert("RGB").crop((28, 33, 92, 97)).resize((32, 32), Image.Resampling.BOX))
    file = ardm.compress(x.transpose(2, 0, 1).copy(), model, calls=CALLS_CODED)
    shown = []
    for digits in (1, 2, 3):
        shown.append(ardm.decompress(file, model, digits=digits))
        print(
            f"{digits} of 4 digits: the first {front(file, model, digits, shown[-1])} of {len(file)} bytes", flush=True
        )
    shown.append(ardm.decompress(file, model))
    sheet([to_image(y.long(), 256, 6) for y in shown], columns=4, gap=2).save(out / "previews.png")


def front(file, model, digits, preview):
    """The fewest bytes of a file, cut at a multiple of 4 from its end, whose preview is that of the whole."""
    low, high = 0, len(file) // 4  # words that can be cut off
    while low < high:
        cut = (low + high + 1) // 2
        try:
            same = torch.equal(ardm.decompress(file[: len(file) - 4 * cut], model, digits=digits), preview)
        except ardm.CodecError:
            same = False
        low, high = (cut, high) if same else (low, cut - 1)
    return len(file) - 4 * low


def planned(out):
    """L_t of the bundled any-order model, and four schedules."""
    command("plan", "cifar10-any-order", "--show", 0, "--picture", out / "plan.png", "-f")


def samples(out):
    """Items of the bundled codec model of pictures."""
    drawn = ardm.sample(ardm.load("pictures"), items=24, seed=3)
    sheet([to_image(x, 256, 3) for x in drawn], columns=12, gap=0).save(out / "pictures-samples.png")


# --- plans in time ----------------------------------------------------------------------------------------------------


def revealed(model, along, x):
    """Walk items (B, *shape) along a plan: the step of each site (B, *shape), the steps of each item, and its nats."""
    when, source, state = torch.zeros_like(x), Score(len(x)), model.digits.blank(len(x), x.shape[1:])
    for step, following in enumerate(walk(model, along, source, state, truth=x)):
        when[following.depth > state.depth] = step
        state = following
    return when, when.flatten(1).amax(1) + 1, source.nats


def fixed(bundle, shape, calls, block):
    """(name, plan) of the plans that do not look at the predictions."""
    numbers, image = RandomNumbers(1), len(shape) == 3

    def made(order, **options):
        return ardm.make_plan(bundle, calls, order, shape, numbers, **options)

    even = [math.prod(shape) * k // calls for k in range(calls)]
    yield "random, planned", made("random")
    yield "random, even", plan.shuffled(1, shape, numbers).coarsen(even)
    yield "absorbing diffusion", plan.absorbing(calls, shape, 1, numbers)
    for name in ("raster", "bayer", "halton", "wavefront", "checkerboard", "hilbert") if image else ("raster", "bayer"):
        yield name.replace("bayer", "Bayer").replace("h", "H", name in ("halton", "hilbert")), made(name)
    yield f"blocks of {block}", plan.blocks(1, shape, block, numbers).coarsen(even)
    yield f"dilated, {block}", plan.dilated(1, shape, block)


def adaptive(bundle, shape, calls, thresholds, budget):
    """(name, plan) for each score and selection."""
    number = math.prod(shape) // calls
    for score, threshold in thresholds.items():
        sign = "≤" if score == "entropy" else "≥"
        yield f"{score}, {number} a step", Adaptive(score, FixedNumber(number))
        yield f"{score} {sign} {threshold}", Adaptive(score, Threshold(threshold))
        yield f"{score}, budget {budget} nats", Adaptive(score, EntropyBudget(budget))
        yield f"{score}, planned", ardm.make_plan(bundle, calls, Adaptive(score), shape)


def panels(bundle, x, plans, path):
    """A panel for each plan: the step at which each red value of a picture is revealed."""
    plans = list(plans)
    rows = -(-(len(plans)) // 4)
    figure = Figure(figsize=(8.4, 2.45 * rows), layout="constrained")
    for axes, (name, along) in zip(figure.subplots(rows, 4).flat, plans, strict=False):
        axes.set_axis_off()
        if along is None:
            axes.imshow(np.asarray(to_image(x)))
            axes.set_title(name, fontsize=9)
            continue
        when, steps, nats = revealed(bundle.model, along, x[None])
        bits = float(nats[0]) / x.numel() / math.log(2)
        shown = axes.imshow(when[0, 0] / max(1, int(steps[0]) - 1), cmap="viridis", vmin=0, vmax=1)
        axes.set_title(f"{name}\n{int(steps[0])} calls, {bits:.2f} bits/dim", fontsize=9)
        print(f"{name}: {int(steps[0])} calls, {bits:.3f} bits/dim", flush=True)
    bar = figure.colorbar(shown, ax=figure.axes, location="bottom", shrink=0.4, aspect=40, ticks=[0, 1])
    bar.ax.set_xticklabels(["first step", "last"], fontsize=9)
    figure.savefig(path, dpi=110)


def plans(out):
    """24×24 pixels of a photograph under the bundled any-order model."""
    picture = Image.open(CAT).convert("RGB").crop((8, 20, 56, 68)).resize((24, 24), Image.Resampling.BOX)
    x = torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy()).long()
    bundle, shape = ardm.load("cifar10-any-order"), tuple(x.shape)
    panels(bundle, x, [("the picture", None), *fixed(bundle, shape, CALLS, 144)], out / "plans-fixed.png")
    thresholds = {"entropy": 3.5, "margin": 0.02, "probability": 0.06}
    panels(bundle, x, adaptive(bundle, shape, CALLS, thresholds, 200), out / "plans-adaptive.png")


def text(out):
    """Run the page of the masked language model, and draw the plans of one line of its text."""
    found = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "masked-lm.md").read_text(), re.DOTALL | re.MULTILINE)
    space = {}
    os.chdir(out)  # where the page saves its plot
    for block in found:
        if "from_pretrained" not in block:
            exec(block, space)
    lines(space["model"], space["test"][:64], space["LETTERS"], out / "plans-text.png")


def lines(bundle, test, letters, path, shown=3):
    """A line for each plan: the step at which each letter of one item is revealed; calls and bits of all items."""
    shape, block = tuple(bundle.model.shape), Adaptive("probability", Threshold(0.4), block_length=8)
    rest = adaptive(bundle, shape, TEXT_CALLS, {"entropy": 1.8, "margin": 0.3, "probability": 0.4}, 4)
    plans = [*fixed(bundle, shape, TEXT_CALLS, 8), *rest, ("probability ≥ 0.4 in blocks of 8", block)]
    figure = Figure(figsize=(10, 0.3 * len(plans) + 0.3), layout="constrained")
    axes = figure.subplots()
    for row, (name, along) in enumerate(plans):
        when, steps, nats = revealed(bundle.model, along, test)
        when = when[shown] / max(1, int(steps[shown]) - 1)
        axes.imshow(when[None], cmap="viridis", vmin=0, vmax=1, extent=(0, len(when), row + 0.9, row))
        for place, (letter, step) in enumerate(zip(test[shown], when, strict=True)):
            dark = {"color": "white" if step < 0.6 else "black"}
            axes.text(place + 0.5, row + 0.48, letters[letter], ha="center", va="center", family="monospace", **dark)
        bits = float(nats.mean()) / len(when) / math.log(2)
        axes.text(-0.4, row + 0.45, name, ha="right", va="center", fontsize=9)
        said = f"{steps.double().mean():.1f} calls, {bits:.2f} bits"
        axes.text(len(when) + 0.4, row + 0.45, said, va="center", fontsize=9)
        print(f"{name}: {said}", flush=True)
    axes.set(xlim=(-11, len(when) + 7), ylim=(len(plans), 0), aspect="auto")
    axes.set_axis_off()
    figure.savefig(path, dpi=110)


PICTURES = {"filled": filled, "previews": previews, "plan": planned, "samples": samples, "plans": plans, "text": text}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*PICTURES, []], default=list(PICTURES))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        PICTURES[name](options.out.resolve())
