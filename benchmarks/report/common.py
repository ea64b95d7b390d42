"""What every result of the report shares: a record with its circumstances, and runs that are trained once.

A result is one JSON file of figures.  Every figure has a value, a standard error where it is a mean of a sample, a
unit, and whether it is a bound; every result says the command, seed, versions, machine, time and training budget.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import ardm
from ardm import likelihood
from ardm.bundle import Bundle, load
from ardm.errors import ArdmError
from ardm.train.log import Log
from ardm.train.recipe import load_recipe
from ardm.train.trainer import Trainer

RESULTS = Path(__file__).parent / "results"
SEED = 0
QUICK = ("train.steps=4", "train.batch=4", "train.valid_items=4")
"""Changes of any recipe for a smoke test."""


@dataclass
class Setting:
    """Where a measurement finds its data, keeps its runs, and what it was asked to do.

    quick: a smoke test of the script: a few steps and items, for the tests of this package.
    """

    data: Path
    runs: Path
    quick: bool = False
    log: Callable[[str], None] = print

    def items(self, wanted: int) -> int:
        """How many items to measure on."""
        return min(wanted, 8) if self.quick else wanted


@dataclass
class Result:
    """The figures of one measurement; `save` adds the circumstances."""

    name: str
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    def add(
        self, key: str, value: float, error: float | None = None, unit: str = "", bound: bool = False, note: str = ""
    ) -> None:
        """One figure.  error: standard error of the value, None where it is not a mean over a sample."""
        entry: dict[str, Any] = {"value": rounded(value), "unit": unit, "is_bound": bound}
        if error is not None and math.isfinite(error):
            entry["error"] = rounded(error, 3)
        if note:
            entry["note"] = note
        self.figures[key] = entry

    def estimate(self, key: str, found: likelihood.Estimate, note: str = "", nats: bool = False) -> None:
        """A figure from an `Estimate`, in bits per dimension, or in nats an item."""
        scale = found.sites * math.log(2) if nats else 1.0
        unit = "nats/item" if nats else "bits/dim"
        said = "; ".join(p for p in (found.estimator, f"{len(found.nats):,} items", note) if p)
        self.add(key, found.bits_per_dim * scale, found.bits_per_dim_error * scale, unit, found.is_bound, said)

    def save(self, command: str, folder: Path = RESULTS) -> Path:
        """Write it whole or not at all."""
        values = {
            "name": self.name,
            "command": command,
            "seed": SEED,
            "versions": {"ardm": ardm.__version__, "torch": torch.__version__, "python": platform.python_version()},
            "machine": machine(),
            "seconds": round(time.time() - self.began, 1),
            "date": datetime.date.today().isoformat(),
            "budget": self.budget,
            "figures": self.figures,
            "tables": self.tables,
            "notes": self.notes,
        }
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")
        os.replace(scratch, path)
        return path


def full(result: Result, found: likelihood.Estimate) -> None:
    """Add `full calls`, and `items`: bits a dimension of every item, for comparisons with results on the same items."""
    result.estimate("full calls", found)
    bits = found.nats / found.sites / math.log(2)
    result.tables["items"] = [rounded(b, 5) for b in bits.tolist()]


def rounded(value: float, digits: int = 6) -> float:
    """A float of so many significant digits: what is measured here is not known better."""
    return float(f"{float(value):.{digits}g}")


def machine() -> dict[str, Any]:
    """The processor and how much of it was used."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": "none"}


def seeded(*key: int) -> torch.Generator:
    """A generator that depends on the key alone."""
    return torch.Generator().manual_seed(hash((SEED, *key)) % 2**31)


def trained(
    setting: Setting, result: Result, recipe: str, data: str, changes: Sequence[str] = (), small: Sequence[str] = ()
) -> Bundle:
    """The averaged model of the run of a result, trained now unless it is already; the result is told its budget.

    data: its folder in that of the setting.  changes: of the recipe.  small: more of them for a smoke test.
    A run that was broken off goes on from its checkpoint.  Raises ArdmError where the folder holds another run.
    """
    run, chosen = result.name, [*changes, *((*QUICK, *small) if setting.quick else ())]
    told = load_recipe(recipe, [f"data.folder={setting.data / data}", *chosen])
    folder = setting.runs / run
    done = folder / "budget.json"
    if not done.is_file():
        before = (
            json.loads((folder / "spent.json").read_text())["seconds"] if (folder / "spent.json").is_file() else 0.0
        )
        began, busy = time.time(), time.process_time()
        trainer = Trainer(told, folder, resume=(folder / "checkpoint" / "state.json").is_file(), cpu=True)
        with Log(trainer) as log:
            for progress in trainer:
                line = log(progress)
                if line:
                    setting.log(f"{run}: {line}")
                if progress.step % told.train.save_every == 0:
                    (folder / "spent.json").write_text(json.dumps({"seconds": before + time.process_time() - busy}))
        budget = {
            "recipe": recipe,
            "overrides": chosen,
            "steps": told.train.steps,
            "batch": told.train.batch,
            "parameters": sum(p.numel() for p in trainer.model.parameters()),
            "processor_seconds": round(before + time.process_time() - busy, 1),
            "wall_seconds_last": round(time.time() - began, 1),
        }
        done.write_text(json.dumps(budget, indent=1) + "\n")
    budget = json.loads(done.read_text())
    spent = json.loads((folder / "recipe.json").read_text())["train"]
    if budget["overrides"] != chosen or spent != json.loads(json.dumps(asdict(told.train))):
        raise ArdmError(f"{folder} holds a run of other settings; remove it, or give another folder")
    result.budget = budget
    bundle = load(folder / "model")
    bundle.model.eval()
    return bundle


def joined(parts: Sequence[likelihood.Estimate]) -> likelihood.Estimate:
    """One estimate of all items."""
    return likelihood.Estimate.joined(parts)


def read(folder: Path = RESULTS) -> dict[str, Mapping[str, Any]]:
    """All results there are, by name."""
    return {p.stem: json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))}


def evenly(items: torch.Tensor, count: int) -> torch.Tensor:
    """`count` of the items as int64, evenly spread over all."""
    return items[torch.arange(count) * len(items) // count].long()
