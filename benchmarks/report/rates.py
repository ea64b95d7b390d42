"""Rate against number of calls for any-order models, on held-out losses: planned, uniform and absorbing schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from common import Result, rounded, seeded
from torch import Tensor

from ardm import likelihood, schedule
from ardm.bundle import Bundle
from ardm.digits import Sites
from ardm.losscurve import LossCurve
from ardm.model import Model
from ardm.schedule import Schedule

BINS = 16


def held_out(
    model: Model, x: Tensor, passes: int, seed: int = 11, chunk: int = 32, grid: int = 24, subset: int | None = None
) -> LossCurve:
    """The loss curve of a model on held-out items, all evaluated at the same steps."""
    return likelihood.curve(model, x, passes, seeded(seed), chunk=chunk, grid=grid, subset=subset)


def budgets(stages: int, sites: int, most: int = 18) -> list[int]:
    """Numbers of calls from S to 512, evenly spaced on a log scale, with some round numbers, and S · D."""
    D = stages * sites
    top = min(D, 512)
    grid = {round(stages * (top / stages) ** (k / most)) for k in range(most + 1)} | {5, 10, 20, 50, 100, 200, 400}
    return sorted({n for n in grid if stages <= n <= top} | {D})


def table(result: Result, bundle: Bundle, curve: LossCurve, plan: LossCurve) -> None:
    """Add `rates`: bits per dimension by number of calls, planned on the losses `plan` and priced on `curve`.

    planned: the stages share the budget.  split: every stage gets the same (the paper's way).  uniform, absorbing (one
    stage only).  best: planned on `curve` itself, a lower limit for any plan made beforehand.
    """
    S, D = len(bundle.model.digits), math.prod(bundle.model.shape)
    fit, price = plan.monotone(), curve.monotone()
    scale = 1 / (D * math.log(2))
    kinds = ("calls", "planned", "split", "uniform", "absorbing", "best")
    rows: dict[str, list[float | None]] = {kind: [] for kind in kinds}
    for calls in budgets(S, D):
        rows["calls"].append(calls)
        made = {"uniform": Schedule.uniform(S, D, calls)}
        made["planned"] = Schedule.joint(fit, calls) if calls < S * D else made["uniform"]  # one call per symbol
        made["split"] = Schedule.optimal(fit, calls) if calls < S * D and S > 1 else made["planned"]
        made["best"] = Schedule.joint(price, calls) if calls < S * D else made["uniform"]
        for name, own in made.items():
            rows[name].append(rounded((own.priced(price).nats or math.nan) * scale))
        rows["absorbing"].append(rounded(schedule.absorbing_cost(price[0], calls) * scale) if S == 1 else None)
    result.tables["rates"] = rows
    result.tables["sites"], result.tables["stages"] = D, S
    full = math.fsum(price.ravel()) * scale
    result.add(
        "sum of held-out losses", full, unit="bits/dim", bound=True, note="one call per symbol, from the fitted curve"
    )
    if S == 1:
        for steps in (20, 1000, 10000):
            cost = schedule.absorbing_cost(price[0], steps) * scale
            result.add(f"absorbing, same network, {steps} steps", cost, unit="bits/dim", bound=True)


def shape(result: Result, curve: LossCurve) -> None:
    """Add `losses`: L_t in bits by stage and step, in bins, measured and fitted; and its largest rise."""
    S, D = curve.stages, curve.sites
    mean, fit = curve.mean(), curve.monotone()
    edges = np.unique(np.linspace(0, D, min(BINS, D) + 1).astype(int))
    rows: list[dict[str, list[float]]] = []
    worst = 0.0
    for s in range(S):
        total = np.add.reduceat(curve.total[s], edges[:-1])
        count = np.add.reduceat(curve.count[s], edges[:-1])
        seen = count > 0
        value = np.where(seen, total / np.maximum(count, 1), np.nan) / math.log(2)
        planned = np.add.reduceat(fit[s], edges[:-1]) / np.diff(edges) / math.log(2)
        rows.append(
            {
                "known": [float(k) for k in (edges[:-1] + edges[1:])[seen] / 2],
                "bits": [rounded(v) for v in value[seen]],
                "fitted": [rounded(v) for v in planned[seen]],
            }
        )
        worst = max([worst, *np.diff(value[seen])])
    result.tables["losses"] = rows
    weight = curve.count
    gap = np.where(np.isfinite(mean), mean - fit, 0.0)
    residual = math.sqrt(float((weight * gap**2).sum() / weight.sum())) / math.log(2)
    level = float((weight * np.where(np.isfinite(mean), mean, 0.0)).sum() / weight.sum()) / math.log(2)
    result.add("greatest rise from one bin of L_t to the next", worst, unit="bits", note=f"{BINS} bins per stage")
    result.add(
        "isotonic residual, root mean square", residual, unit="bits", note=f"for losses of {level:.2f} bits on average"
    )


def policies(
    result: Result, bundle: Bundle, plan: LossCurve, x: Tensor, calls: Sequence[int], passes: int, chunk: int = 32
) -> None:
    """Add the measured bound under the planned schedule of each number of calls."""
    fit = plan.monotone()
    S, D = len(bundle.model.digits), math.prod(bundle.model.shape)
    for n in calls:
        if not S <= n <= S * D:
            continue
        starts = Schedule.joint(fit, n).flat()
        found = likelihood.policy_bound(bundle.model, x, starts, passes, seeded(12, n), chunk=chunk)
        result.estimate(f"{n} calls", found)


@torch.no_grad()
def symmetry(result: Result, model: Model, x: Tensor, known: int, repeats: int = 4, chunk: int = 32) -> None:
    """C5: of the symbols predicted at once with `known` symbols known, does the next one cost as much as the last one?

    Adds the mean −log p of the first and of the last quarter of the hidden ranks; k at once cost k · L_t if they agree.
    """
    D = math.prod(x.shape[1:])
    hidden = D - known
    first, last, apart = [], [], []
    for repeat in range(repeats):
        for part in x.split(chunk):
            key = torch.rand(len(part), D, generator=seeded(13, repeat, len(apart)), dtype=torch.double)
            rank = key.argsort(1).argsort(1).view(part.shape)
            state = model.digits.truncate(part, (rank < known).long())
            sites = Sites.where(rank >= known)
            nats = -model(state).log_prob(sites, model.digits.read(part, state.depth, sites)).double() / math.log(2)
            place = (sites.of(rank) - known) * 4 // hidden
            for own, quarter in ((first, 0), (last, 3)):
                chosen = place == quarter
                total = nats.new_zeros(len(part)).index_add(0, sites.batch_index[chosen], nats[chosen])
                own.append(total / torch.bincount(sites.batch_index[chosen], minlength=len(part)))
            apart.append(first[-1] - last[-1])
    gap = torch.cat(apart)
    result.add(f"first quarter of what is hidden, {known} known", float(torch.cat(first).mean()), unit="bits/symbol")
    result.add(f"last quarter of what is hidden, {known} known", float(torch.cat(last).mean()), unit="bits/symbol")
    error = float(gap.std()) / math.sqrt(len(gap))
    result.add(
        f"difference, {known} known", float(gap.mean()), error, "bits/symbol", note=f"{len(gap):,} orders and items"
    )
