"""Train bundled models of pictures further, from their float checkpoints, each for a number of minutes.

python benchmarks/train_bundled.py --minutes 8 --device cuda --data data --photos photos pictures pictures-small

Give the same command again to continue a stopped run.  The old checkpoint stays if the new one validates worse.
Then export it: ardm export checkpoints/pictures --out src/ardm/assets/pictures.  Data: CIFAR-10's binary version in --data, and
photographs without a JPEG past, or reduced (--set data.reduce=[2,3]), in --photos.
"""

import argparse
import dataclasses
import math
import shutil
from pathlib import Path

import torch

from ardm import likelihood
from ardm.bundle import load
from ardm.errors import ArdmError
from ardm.models.build import build
from ardm.train.recipe import load_recipe
from ardm.train.trainer import Trainer

ROOT = Path(__file__).parents[1]
LARGEST = 1 << 24
"""The largest file of a checkpoint in bytes."""
LOSSLESS = 1e-4
"""Bits per dimension that half precision may cost."""
ON_GPU = ("train.precision=bf16", "train.batch=128", "train.valid_every=2000", "train.save_every=500")
CARD = """# {name}: the float network

| | |
| --- | --- |
| parameters | {parameters:,} |
| identity | `{identity}` |
| training | {minutes:.1f} minutes in all, the last {steps:,} steps on {device} |
| validation | {valid:.4f} bits/dim on {items} pictures |
| data | CIFAR-10{photos}; grey copies; synthetic pictures |
| licence | Apache-2.0 for the weights; the authors of CIFAR-10 state no licence for its pictures |

Validation pictures chose the checkpoint. `python benchmarks/train_bundled.py` trains it further.
"""


def options(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help="recipes: pictures-small, pictures, pictures-large")
    parser.add_argument("--minutes", type=float, required=True, help="for each model")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", default="data", help="folder of CIFAR-10")
    parser.add_argument("--photos", default="", help="folder of photographs")
    parser.add_argument("--from", dest="source", type=Path, default=ROOT / "checkpoints", help="folder of checkpoints")
    parser.add_argument("--to", dest="target", type=Path, default=ROOT / "checkpoints", help="where to write them")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of runs that are not finished")
    parser.add_argument(
        "--rate", type=float, default=0.5, help="share of the recipe's rates, for a model that is trained"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings of the recipe")
    parser.add_argument("--no-compile", action="store_true", help="do not compile on a GPU")
    return parser.parse_args(arguments)


def recipe_of(name, given):
    """The recipe of a model, with the settings of this machine, beginning at its checkpoint if there is one."""
    begun = (given.source / name / "model.safetensors").is_file()
    plain = load_recipe(name, given.set)
    share = given.rate if begun else 1.0
    changes = [f"train.minutes={given.minutes}", f"data.folder={given.data}"]
    changes += [f"data.photos={given.photos}"] if given.photos else []
    changes += [f"train.rate={plain.train.rate * share}", f"train.muon_rate={plain.train.muon_rate * share}"]
    changes += [f"train.init={given.source / name}"] if begun else []
    changes += ON_GPU if given.device == "cuda" else []
    return load_recipe(name, [*changes, *given.set])


def train(name, given):
    """Train one model until its minutes are used; returns the trainer."""
    recipe, folder = recipe_of(name, given), given.runs / f"bundled-{name}"
    trainer = Trainer(recipe, folder, resume=(folder / "checkpoint" / "state.json").is_file(), device=given.device)
    if given.device == "cuda" and not given.no_compile:
        torch._dynamo.config.suppress_errors = True  # a part that cannot be compiled runs as it is
        trainer.update.module.compile()
    for progress in trainer:
        if progress.valid is not None or progress.step % recipe.train.log_every == 0:
            valid = "" if progress.valid is None else f"  valid {progress.valid:.4f}"
            left = f"{max(0.0, recipe.train.minutes - trainer.spent / 60):.1f} minutes left"
            print(f"{name}  step {progress.step}  {progress.loss:.4f} bits/dim{valid}  {left}", flush=True)
    return trainer


def measured(bundle, trainer):
    """Bits per dimension of a model on the validation pictures of a run."""
    x = trainer.valid_set.some(trainer.config.valid_items).items.long().to(trainer.accelerator.device)
    return likelihood.causal(bundle.model.to(x.device).float(), x).bits_per_dim


def cast(bundle, dtype):
    """A copy of a bundle in another precision."""
    model = build(bundle.config)
    model.load_state_dict(bundle.model.state_dict())
    return dataclasses.replace(bundle, model=model.eval().requires_grad_(False).to(dtype))


def publish(name, given, trainer):
    """Write the checkpoint if it is better than the one that the run began with; returns a line that says so."""
    bundle = trainer.best_bundle()
    valid, before, spent = measured(bundle, trainer), math.inf, trainer.spent / 60
    if trainer.config.init:
        earlier = load(trainer.config.init)
        before, spent = measured(earlier, trainer), spent + float(earlier.card.get("minutes", 0.0))
    if valid >= before:
        return f"{name}: {valid:.4f} bits/dim is not better than {before:.4f}; the checkpoint stays"
    half = cast(bundle, torch.float16)
    bundle = half if measured(cast(half, torch.float32), trainer) < valid + LOSSLESS else bundle
    recipe = trainer.recipe.to_dict()
    recipe["data"] |= {"folder": "data", "photos": "photos" if given.photos else ""}  # no paths of this machine
    recipe["train"]["init"] = ""
    card = {**bundle.card, "name": name, "recipe": recipe, "valid": valid, "minutes": round(spent, 2)}
    write(dataclasses.replace(bundle, card=card), given, trainer)
    return f"{name}: {valid:.4f} bits/dim, before {before:.4f}; wrote {given.target / name}"


def write(bundle, given, trainer):
    """Write the folder of a checkpoint with its card."""
    folder = bundle.save(given.target / bundle.name)
    if (size := (folder / "model.safetensors").stat().st_size) >= LARGEST:
        raise ArdmError(f"{folder} has weights of {size} bytes; a checkpoint's file is smaller than {LARGEST}")
    text = CARD.format(
        **{key: bundle.card[key] for key in ("name", "minutes", "steps", "valid")},
        parameters=sum(p.numel() for p in bundle.model.parameters()),
        identity=bundle.identity,
        device=torch.cuda.get_device_name() if given.device == "cuda" else "a CPU",
        items=min(len(trainer.valid_set), trainer.config.valid_items),
        photos=", crops of photographs" if given.photos else "",
    )
    (folder / "README.md").write_text(text)


def main(arguments=None):
    given = options(arguments)
    for name in given.names:
        trainer = train(name, given)
        print(publish(name, given, trainer), flush=True)
        shutil.rmtree(given.runs / f"bundled-{name}")


if __name__ == "__main__":
    main()
