"""From a folder of small images to a codec for them, restored files and samples, through the Python API.

    python examples/own_images.py                        # tiles of the bundled photographs; a minute on one core
    python examples/own_images.py FOLDER --steps 5000    # PNG, WebP, TIFF, … of one size

Results go to the folder own-images, or to --out.  The command line does the same: ardm train laptop/images, ardm export,
ardm compress -m, ardm sample.
"""

import argparse
import io
import time
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import ardm
from ardm.codec import sampling
from ardm.codec.selection import Engine
from ardm.export.convert import export
from ardm.files.options import FileOptions
from ardm.files.pack import make_archive
from ardm.files.paths import walk
from ardm.files.unpack import restore_archive
from ardm.media.pictures import sheet, to_image
from ardm.train.trainer import Trainer

SIDE = 16


def cut(folder: Path) -> None:
    """Cut the bundled photographs into PNG files of SIDE x SIDE."""
    folder.mkdir(parents=True)
    demo = resources.files("ardm") / "assets" / "demo"
    for name in ("astronaut", "chelsea", "coffee", "tiles"):
        with Image.open(io.BytesIO((demo / f"{name}.png").read_bytes())) as whole:
            for y in range(0, whole.height - SIDE + 1, SIDE):
                for x in range(0, whole.width - SIDE + 1, SIDE):
                    whole.crop((x, y, x + SIDE, y + SIDE)).save(folder / f"{name}-{y:03}-{x:03}.png", icc_profile=None)


def pixels(path: Path) -> np.ndarray:
    """The samples of an image."""
    with Image.open(path) as picture:
        return np.asarray(picture)


def classical(path: Path, **options: object) -> int:
    """Size in bytes of the samples in another format, without profile, EXIF and text."""
    held = io.BytesIO()
    Image.fromarray(pixels(path)).save(held, **options)
    return held.tell()


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument(
    "folder", nargs="?", type=Path, help="folder of images of one size (default: tiles of bundled photographs)"
)
parser.add_argument("--steps", type=int, default=400, help="training steps")
parser.add_argument("--out", type=Path, default=Path("own-images"), help="new folder for all results")
options = parser.parse_args()
out = options.out
if out.exists():
    parser.error(f"{out} exists: name another folder with --out, or delete it")
began = time.perf_counter()
pictures = options.folder or out / "pictures"
if options.folder is None:
    cut(pictures)

# Train.  Override any setting of the recipe: here a small network and few steps.
recipe = ardm.load_recipe(
    "laptop/images",
    [
        f"data.folder={pictures}",
        "model.width=32",
        "model.blocks=3",
        "train.warmup=30",
        f"train.steps={options.steps}",
        f"train.valid_every={max(1, options.steps // 4)}",
    ],
)
trainer = Trainer(recipe, out / "run", device="cpu")
print(
    f"{len(trainer.train_set)} training images {tuple(trainer.train_set.shape)}, {len(trainer.valid_set)} for validation"
)
for progress in trainer:
    if progress.valid is not None:
        print(f"step {progress.step:5}: {progress.valid:.3f} ± {progress.error:.3f} bits/dim on validation images")
model = ardm.load(out / "run" / "model")

# Export: convert the network to integers, so that files decode on every machine.
made = export(model, trainer.train_set.items)
integers = out / "codec.safetensors"
made.codec.save(integers)
print(f"in integers: {integers.stat().st_size:,} bytes; exactness costs {made.cost.bits_per_dim:+.4f} bits/dim")

# Compress the folder into one archive, restore it, compare.  Profiles and EXIF are dropped, as for PNG and WebP below.
done = make_archive(list(walk([pictures])), out / "pictures.ardm", FileOptions(Engine(integers), strip=True))
restore_archive(out / "pictures.ardm", out / "restored", FileOptions(Engine(folders=(integers,))))
originals = sorted(pictures.rglob("*.png"))
restored = {path.relative_to(out / "restored" / pictures.name): path for path in (out / "restored").rglob("*.png")}
same = all(np.array_equal(pixels(path), pixels(restored[path.relative_to(pictures)])) for path in originals)
print(f"{done.what}: {done.target_bytes:,} bytes as one archive; restored pixel for pixel: {same}")
for name, settings in {
    "PNG": {"format": "PNG", "optimize": True},
    "lossless WebP": {"format": "WEBP", "lossless": True, "method": 6, "exact": True},
}.items():
    print(f"   as {name}, one file each: {sum(classical(path, **settings) for path in originals):,} bytes")

# Sample new images: decode random bits.
drawn = torch.from_numpy(sampling.sample(integers, 16, size=tuple(trainer.train_set.shape[1:]), seed=1))
sheet([to_image(x, 256, 4) for x in drawn]).save(out / "samples.png")
print(f"wrote {out / 'samples.png'}; {time.perf_counter() - began:.0f} seconds")
assert same
