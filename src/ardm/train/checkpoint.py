"""The state of a run on disk, resumable to the bit.

A checkpoint is a folder that is replaced as a whole: state.json (step, recipe, fingerprints of the data), and
safetensors of weights, average, moments of the optimiser, loss curve, and the average that validated best with its
curve.  All tensors are full ones, so that it does not depend on the number of processes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ardm.atomic import replacing
from ardm.data.memory import MEMORY
from ardm.errors import ArdmError
from ardm.losscurve import LossCurve
from ardm.models.build import reads
from ardm.train import sharding
from ardm.train.recipe import STATE, Recipe

NAME = "checkpoint"
"""The name of the checkpoint's folder, in the folder of a run."""
FREE = {
    *(
        "name",
        "data.folder",
        "data.photos",
        "data.download",
        "data.verify",
        "train.init",
        "train.partial",
        "train.steps",
        "train.minutes",
        "train.shard",
    ),
    *("train.save_every", "train.sample_every", "train.log_every", "train.tensorboard"),
}
"""Settings that may change when a run is resumed: its length, where files are, and what it logs and saves."""


@dataclass(frozen=True)
class Best:
    """The average that validated best so far.

    step, bits, error: when, in bits per dimension, and its standard error.
    average: full tensors in memory; empty in all processes but the first.
    curve: the state of the loss curve at that step.
    """

    step: int
    bits: float
    error: float
    average: Mapping[str, Tensor]
    curve: Mapping[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """Everything that decides how a run continues.

    spent: seconds that the run has used.
    loss: the running mean that is shown, in bits per dimension.  checked: step and result of the last validation.
    recipe, data: at the start of the run: settings as JSON values, and number and fingerprint of the items of each
    part.
    weights, average: by parameter.  moments: of the optimiser, by parameter and slot.
    """

    step: int
    loss: float
    checked: tuple[int, float] | None
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    curve: LossCurve
    best: Best | None
    spent: float = 0.0

    def write(self, folder: Path) -> None:
        """Replace the checkpoint in a folder atomically."""
        with replacing(folder) as new:
            for name in ("weights", "average", "moments"):
                _save(getattr(self, name), new / FILES[name])
            save_arrays(dict(self.curve.state()), new / "curve.safetensors")
            if self.best is not None:
                _save(self.best.average, new / "best.safetensors")
                save_arrays(dict(self.best.curve), new / "best-curve.safetensors")
            (new / "state.json").write_text(json.dumps(self._state(), indent=2) + "\n")

    def _state(self) -> dict[str, Any]:
        best = self.best
        return {
            "step": self.step,
            "spent": self.spent,
            "loss": self.loss,
            "recipe": self.recipe,
            "data": self.data,
            "best": None if best is None else {"step": best.step, "bits": best.bits, "error": best.error},
            "checked": self.checked,
        }

    def refuse_other_run(self, recipe: Recipe, data: Mapping[str, Any], run: Path) -> None:
        """Raise ArdmError where settings (other than FREE) or data differ, or the run is longer than the recipe."""
        if recipe.data.name == MEMORY:  # whose settings follow from the data
            self._refuse_data(data, run)
        self._refuse_settings(recipe, run)
        self._refuse_data(data, run)
        if self.step > recipe.train.steps and not recipe.train.minutes:
            raise ArdmError(
                f"the run in {run} is at step {self.step} already, beyond train.steps={recipe.train.steps}: "
                "give a larger number to train on"
            )

    def _refuse_settings(self, recipe: Recipe, run: Path) -> None:
        then, now = _flat(self.recipe), _flat(recipe.to_dict())
        then.setdefault("train.label_dropout", 0.0)  # older recipes had none
        free = _free(recipe, then)
        changed = [
            f"{k}={_yaml(then[k])} (not {_yaml(v)})" for k, v in now.items() if then.get(k, v) != v and k not in free
        ]
        if changed:
            raise ArdmError(
                f"the run in {run} began with {', '.join(changed)}: resume it with these settings, or start another run "
                "in another folder"
            )

    def _refuse_data(self, data: Mapping[str, Any], run: Path) -> None:
        for part, found in data.items():
            before = self.data.get(part, found)
            if before != found:
                raise ArdmError(
                    f"the items of data.{part} are not those that the run in {run} began with ({before['items']} "
                    f"then, {found['items']} now): give it the same data, or start another run in another folder"
                )


FILES = {"weights": "model.safetensors", "average": "average.safetensors", "moments": "optimiser.safetensors"}
"""The file of each set of full tensors."""


def read(folder: Path, main: bool = True) -> Checkpoint:
    """Read the checkpoint of a run.  Only the first process (main) loads the average that validated best.

    Raises ArdmError where there is none, or a file of it is missing or damaged.
    """
    with _reading(folder):
        state = json.loads((folder / "state.json").read_text())
        tensors = {name: load_file(folder / file) for name, file in FILES.items()}
        curve = LossCurve.from_state(load_arrays(folder / "curve.safetensors"))
        step, loss, recipe = state["step"], state["loss"], state["recipe"]
        spent = float(state.get("spent", 0.0))
        checked = state.get("checked") and (int(state["checked"][0]), float(state["checked"][1]))
    best = _best(folder, state["best"], main) if state.get("best") else None
    return Checkpoint(
        step, loss, checked, recipe, state.get("data", {}), **tensors, curve=curve, best=best, spent=spent
    )


def _best(folder: Path, state: Mapping[str, Any], main: bool) -> Best:
    with _reading(folder):
        average = load_file(folder / "best.safetensors") if main else {}
        curve = load_arrays(folder / "best-curve.safetensors")
        return Best(state["step"], state["bits"], state["error"], average, curve)


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turn every exception of reading a checkpoint into an ArdmError."""
    try:
        yield
    except FileNotFoundError as error:
        missing = f"; {folder} has no {Path(str(error.filename)).name}" if folder.is_dir() and error.filename else ""
        raise ArdmError(f"{folder.parent} holds no checkpoint to resume from{missing}") from None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ArdmError(f"the checkpoint in {folder} cannot be read: {error}") from None


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def moments_of(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The moments of an optimiser by parameter and slot ("body.weight/exp_avg")."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}/{slot}": torch.as_tensor(value, device=getattr(value, "device", "cpu"))
        for parameter, slots in optimiser.state.items()
        for slot, value in slots.items()
    }


def restore_moments(optimiser: torch.optim.Optimizer, model: nn.Module, moments: Mapping[str, Tensor]) -> None:
    """Load what `moments_of` said of its parameters, as full tensors; a sharded model takes its shard of each."""
    parameters = dict(model.named_parameters())
    own = {id(p): i for i, p in enumerate(p for group in optimiser.param_groups for p in group["params"])}
    index = {name: own[id(p)] for name, p in parameters.items() if id(p) in own}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in moments.items():
        name, slot = key.rsplit("/", 1)
        like = parameters[name]
        if name not in index:
            continue
        is_moment = value.shape == like.shape  # the other slots count steps
        state.setdefault(index[name], {})[slot] = sharding.shard_of(value, like) if is_moment else value
    if state:
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def model_step(folder: Path) -> int | None:
    """The step of the model saved in a folder; None if there is no complete model."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        step = json.loads((folder / "config.json").read_text())["card"]["steps"]
        return step if (folder / "model.safetensors").is_file() else None
    return None


def of_same_length(recipe: Recipe, run: Path, named: Collection[str]) -> Recipe:
    """The recipe, as long as the run in a folder: its defaults are no request for another length.

    named: the settings of the section "train" that the caller gave; steps or minutes among them are such a request.
    """
    if {"steps", "minutes"} & set(named):
        return recipe
    with suppress(OSError, ValueError, KeyError, TypeError):  # `read` says what is wrong
        then = json.loads((run / STATE).read_text())["recipe"]["train"]
        steps, minutes = int(then["steps"]), float(then.get("minutes", 0))
        return replace(recipe, train=replace(recipe.train, steps=steps, minutes=minutes))
    return recipe


def finished(run: Path, step: int, minutes: float) -> str:
    """How long a finished run was, in steps and perhaps minutes, and how to train on."""
    length, more = (f" in {minutes:g} minutes", "train.minutes") if minutes else ("", "train.steps")
    return (
        f"the run in {run} is finished, after {step:,} steps{length}; to train on, resume it with a larger {more}=…, or start "
        f"another run from it with train.init={run / 'model'}"
    )


def _free(recipe: Recipe, then: Mapping[str, Any]) -> set[str]:
    """Settings that may differ from the start: FREE, those without effect, and passes with as many items per step."""
    trunk = recipe.model.trunk
    free = {*FREE, *(k for k in then if k.startswith("model.") and not reads(trunk, k.removeprefix("model.")))}
    if not recipe.data.labels:
        free.add("train.label_dropout")
    if then["train.batch"] * then.get("train.accumulate", 1) == recipe.train.batch * recipe.train.accumulate:
        free |= {"train.batch", "train.accumulate"}
    return free


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe by their full names."""
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        flat |= {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _yaml(value: Any) -> str:
    """A value as an override writes it."""
    return value if isinstance(value, str) and value else json.dumps(value)
