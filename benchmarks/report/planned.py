"""The paper's own codec: models of any order, in integers, along planned schedules of several budgets (C17, C18, C20)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from common import Result, Setting, rounded, seeded
from torch import Tensor

from ardm import api, data, likelihood
from ardm.bundle import Bundle, load
from ardm.codec import registry
from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.decode import decompress
from ardm.codec.describe import describe
from ardm.codec.encode import compress
from ardm.codec.model_coder import ModelCoder
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
        code, files, lost = _alone(coder, items[:many])
        failed += lost
        result.add(f"{calls} calls, code", *_mean(code), unit="bits/dim", note=f"{many} test images")
        result.add(f"{calls} calls, files", *_mean(files), unit="bits/dim", note="all bytes")
        bits["code"][str(calls)], bits["files"][str(calls)] = _rounded(code), _rounded(files)
        if calls <= MOST:
            bits["bound"][str(calls)] = _rounded(_policy(bundle, x[:many].long(), calls, passes))
            result.add(f"{calls} calls, bound of the policy", *_mean(bits["bound"][str(calls)]), "bits/dim", True, said)
        setting.log(f"{result.name}: {calls} calls, code {np.mean(code):.4f}, files {np.mean(files):.4f}")
    result.tables["bits"] = bits
    together, lost = _together(registry.coder(path, TOGETHER, "auto", "cpu", 1), items[: 2 if setting.quick else None])
    result.add(f"{TOGETHER} calls, archive", together, unit="bits/dim", note=f"{len(items)} test images, all bytes")
    result.add("items that did not come back", float(failed + lost), unit="items")
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


def _alone(coder: ModelCoder, items: Sequence[Content]) -> tuple[list[float], list[float], int]:
    """Bits per dimension of the code (−log2 of its probability) and of the file of each item, and how many were lost."""
    code, files, lost = [], [], 0
    for item in items:
        code.append(coder.measure(item) / item.samples.size)
        file, _ = compress(item, coder)  # uses what was measured
        coder.forget()
        files.append(8 * len(file) / item.samples.size)
        lost += not np.array_equal(decompress(file, lambda *_: coder).samples, item.samples)
    return code, files, lost


def _together(coder: ModelCoder, items: Sequence[Content]) -> tuple[float, int]:
    """Bits per dimension of one archive of all items, and how many were lost."""
    file, _ = compress_archive(items, coder=coder)
    found = open_archive(file).items(lambda *_: coder)
    lost = sum(not np.array_equal(a.samples, b.samples) for a, b in zip(items, found, strict=True))
    return 8 * len(file) / sum(item.samples.size for item in items), lost


def _mean(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error, None for one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def _rounded(values: Sequence[float]) -> list[float]:
    """Bits per dimension of every item, for comparisons on the same items."""
    return [rounded(value, 5) for value in values]
