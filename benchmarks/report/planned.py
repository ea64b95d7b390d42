"""The paper's own codec: models of any order, in integers, along planned schedules of several budgets (C17, C18, C20)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from coded import alone, mean, together
from common import Result, Setting, rounded, seeded
from torch import Tensor

from ardm import api, data, likelihood
from ardm.bundle import Bundle, load
from ardm.codec import registry
from ardm.codec.describe import describe
from ardm.codec.encode import compress
from ardm.content import Content, Kind
from ardm.plan import shuffled

MODELS = {
    "any-order": "cifar10-any-order",
    "upscale-4": str(Path(__file__).parents[2] / "checkpoints" / "cifar10-any-order-upscale4"),
}
BUDGETS = {20: 12, 50: 12, 100: 12, 500: 4}
"""Numbers of network calls, and on how many test images each is measured: the first ones of the test set."""
TOGETHER = 50
"""The number of calls in which an archive is made."""
CHUNK = 4
"""Images that the network sees at once."""
MOST = 100
"""The largest number of calls for which the bound of the policy is measured in floats."""


def measure(setting: Setting, name: str) -> Result:
    """Files, code lengths and the bound of the policy by number of calls; an archive; everything decoded and compared."""
    result, path = Result(f"planned-{name}"), MODELS[name]
    bundle = load(path)
    x = data.load("cifar10", setting.data / "cifar10", "test").items[: max(BUDGETS.values())]
    items = [Content(Kind.IMAGE, np.ascontiguousarray(picture.numpy())) for picture in x]
    bits: dict[str, dict[str, list[float]]] = {"code": {}, "files": {}, "bound": {}}
    failed, passes = 0, 1 if setting.quick else 2
    said = f"exact along {passes} random orders of each image, in floats"
    for calls, many in BUDGETS.items():
        many = 1 if setting.quick else many
        coder = registry.coder(path, calls, "auto", "cpu", 1)
        made = alone(coder, items[:many])
        failed += made.lost
        result.add(f"{calls} calls, code", *mean(made.code), unit="bits/dim", note=f"{many} test images")
        result.add(f"{calls} calls, files", *mean(made.file), unit="bits/dim", note="all bytes")
        bits["code"][str(calls)], bits["files"][str(calls)] = _rounded(made.code), _rounded(made.file)
        if calls <= MOST:
            bits["bound"][str(calls)] = _rounded(_policy(bundle, x[:many].long(), calls, passes))
            result.add(f"{calls} calls, bound of the policy", *mean(bits["bound"][str(calls)]), "bits/dim", True, said)
        setting.log(f"{result.name}: {calls} calls, code {np.mean(made.code):.4f}, files {np.mean(made.file):.4f}")
    result.tables["bits"] = bits
    archive = together(registry.coder(path, TOGETHER, "auto", "cpu", 1), items[: 2 if setting.quick else None])
    result.add(f"{TOGETHER} calls, archive", archive.file, unit="bits/dim", note=f"{len(items)} test images, all bytes")
    result.add("items that did not come back", float(failed + archive.lost), unit="items")
    header = [
        frame.header_bytes for frame in describe(compress(items[0], registry.coder(path, 20, "auto", "cpu", 1))[0])
    ]
    result.add("header", float(sum(header)), unit="bytes")
    result.budget = {"bundled model": bundle.name, "parameters": sum(p.numel() for p in bundle.model.parameters())}
    return result


def _policy(bundle: Bundle, x: Tensor, calls: int, passes: int) -> list[float]:
    """Bits per dimension of every image in floats, along random orders of its own in the steps of the schedule.

    Their mean over orders is the bound of the policy.  Random steps would estimate it too, with a hundred times the noise.
    """
    S, starts, generator = len(bundle.model.digits), api.schedule(bundle, calls).flat(), seeded(60, calls)
    total = torch.zeros(len(x), dtype=torch.double)
    for _ in range(passes):
        for k in range(0, len(x), CHUNK):
            part = x[k : k + CHUNK]
            plan = shuffled(S, part.shape[1:], generator, len(part)).coarsen(starts)
            total[k : k + CHUNK] += likelihood.exact(bundle.model, plan, part).nats
    return (total / (passes * x[0].numel() * math.log(2))).tolist()


def _rounded(values: Sequence[float]) -> list[float]:
    """Bits per dimension of every item, for comparisons on the same items."""
    return [rounded(value, 5) for value in values]
