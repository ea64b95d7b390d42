"""Shared by all results of the report: the record of a result with its circumstances, and runs that are trained once.

A result is one JSON file of figures.  Each figure has a value, a standard error if it is a mean over a sample, a unit,
and whether it is a bound; each result records command, seed, versions, machine, time and training budget.
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
from ardm.bundle import Bundle, load
from ardm.errors import ArdmError
from ardm.estimate import Estimate
from ardm.train.log import Log
from ardm.train.recipe import load_recipe
from ardm.train.trainer import Trainer

RESULTS = Path(__file__).parent / "results"
SEED = 0
QUICK = ("train.steps=4", "train.batch=4", "train.valid_items=4")
"""Overrides of any recipe for a smoke test."""


@dataclass
class Setting:
    """Folders and options of a measurement.

    data: folder of the data sets.  runs: folder of the runs.  quick: smoke test with a few steps and items.
    """

    data: Path
    runs: Path
    quick: bool = False
    log: Callable[[str], None] = print

    def items(self, wanted: int) -> int:
        """The number of items to measure on: `wanted`, or at most 8 in a smoke test."""
        return min(wanted, 8) if self.quick else wanted


@dataclass
class Result:
    """Figures of one measurement; `save` adds the circumstances."""

    name: str
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    budget: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    def add(
        self, key: str, value: float, error: float | None = None, unit: str = "", bound: bool = False, note: str = ""
    ) -> None:
        """Add one figure.  error: standard error of the value, None if it is not a mean over a sample."""
        entry: dict[str, Any] = {"value": rounded(value), "unit": unit, "is_bound": bound}
        if error is not None and math.isfinite(error):
            entry["error"] = rounded(error, 3)
        if note:
            entry["note"] = note
        self.figures[key] = entry

    def estimate(self, key: str, found: Estimate, note: str = "", nats: bool = False) -> None:
        """Add a figure from an `Estimate`, in bits per dimension or nats per item."""
        scale = found.sites * math.log(2) if nats else 1.0
        unit = "nats/item" if nats else "bits/dim"
        said = "; ".join(p for p in (found.estimator, f"{len(found.nats):,} items", note) if p)
        self.add(key, found.bits_per_dim * scale, found.bits_per_dim_error * scale, unit, found.is_bound, said)

    def save(self, command: str, folder: Path = RESULTS) -> Path:
        """Write the result atomically to FOLDER/NAME.json; return the path."""
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


def full(result: Result, found: Estimate) -> None:
    """Add `full calls`, and `items`: bits per dimension of every item, for paired comparisons on the same items."""
    result.estimate("full calls", found)
    bits = found.nats / found.sites / math.log(2)
    result.tables["items"] = [rounded(b, 5) for b in bits.tolist()]


def rounded(value: float, digits: int = 6) -> float:
    """The value rounded to `digits` significant digits."""
    return float(f"{float(value):.{digits}g}")


def machine() -> dict[str, Any]:
    """The processor, its cores and the threads used."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": "none"}


def seeded(*key: int) -> torch.Generator:
    """A generator whose seed depends only on SEED and the key."""
    return torch.Generator().manual_seed(hash((SEED, *key)) % 2**31)


def trained(
    setting: Setting,
    result: Result,
    recipe: str,
    data: str,
    changes: Sequence[str] = (),
    small: Sequence[str] = (),
    run: str = "",
) -> Bundle:
    """Return the averaged model of a result's run; train it if necessary, and set the result's budget.

    data: the data set's folder within `setting.data`.  changes: overrides of the recipe.  small: further ones for a
    smoke test.  run: name of the run's folder, default that of the result.  An interrupted run is resumed.  Raises ArdmError if the run folder has other settings.
    """
    run, chosen = run or result.name, [*changes, *((*QUICK, *small) if setting.quick else ())]
    settings = load_recipe(recipe, [f"data.folder={setting.data / data}", *chosen])
    folder = setting.runs / run
    done = folder / "budget.json"
    if not done.is_file():
        before = (
            json.loads((folder / "spent.json").read_text())["seconds"] if (folder / "spent.json").is_file() else 0.0
        )
        began, busy = time.time(), time.process_time()
        trainer = Trainer(settings, folder, resume=(folder / "checkpoint" / "state.json").is_file(), device="cpu")
        with Log(trainer) as log:
            for progress in trainer:
                line = log(progress)
                if line:
                    setting.log(f"{run}: {line}")
                if progress.step % settings.train.save_every == 0:
                    (folder / "spent.json").write_text(json.dumps({"seconds": before + time.process_time() - busy}))
        budget = {
            "recipe": recipe,
            "overrides": chosen,
            "steps": settings.train.steps,
            "batch": settings.train.batch,
            "parameters": sum(p.numel() for p in trainer.model.parameters()),
            "processor_seconds": round(before + time.process_time() - busy, 1),
            "wall_seconds_last": round(time.time() - began, 1),
        }
        done.write_text(json.dumps(budget, indent=1) + "\n")
    budget = json.loads(done.read_text())
    spent = json.loads((folder / "recipe.json").read_text())["train"]
    if budget["overrides"] != chosen or spent != json.loads(json.dumps(asdict(settings.train))):
        raise ArdmError(f"{folder} has a run with other settings; delete it, or name another folder with --runs")
    result.budget = budget
    bundle = load(folder / "model")
    bundle.model.eval()
    return bundle


def joined(parts: Sequence[Estimate]) -> Estimate:
    """Join the estimates of parts into one over all items."""
    return Estimate.joined(parts)


def read(folder: Path = RESULTS) -> dict[str, Mapping[str, Any]]:
    """All saved results, by name."""
    return {p.stem: json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))}


def evenly(items: torch.Tensor, count: int) -> torch.Tensor:
    """`count` items as int64, evenly spread over all."""
    return items[torch.arange(count) * len(items) // count].long()
