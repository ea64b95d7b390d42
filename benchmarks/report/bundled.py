"""Claims about one trained model, measured on the bundled models and CIFAR-10 test images, without training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Result, Setting, seeded
from rates import held_out, policies, shape, symmetry, table
from torch import Tensor

import ardm
from ardm import api, data, likelihood
from ardm.bundle import load
from ardm.codec import registry
from ardm.codec.describe import describe
from ardm.export.coding import cost
from ardm.export.quantise import Floats
from ardm.model import AnyModel
from ardm.orders import item_ranks
from ardm.plan import Plan, ranked, shuffled

RATES = Path(__file__).parents[2] / "docs" / "pictures" / "rate.json"
"""Results of benchmarks/codec_pictures.py: every size of model and the classical codecs."""


def pictures(setting: Setting, items: int) -> Tensor:
    """The first test images."""
    return data.load("cifar10", setting.data / "cifar10", "test").items[: setting.items(items)].long()


def curve(setting: Setting) -> Result:
    """C4, C5, C6, C24: the loss curve of the any-order model, and the cost of every budget."""
    result, bundle = Result("bundled-curve"), load("cifar10-any-order")
    x = pictures(setting, 32)
    measured = held_out(bundle.model, x, 1, chunk=4, subset=256)
    shape(result, measured)
    table(result, bundle, measured, bundle.curve)
    if not setting.quick:
        policies(result, bundle, bundle.curve, x, (20,), 2, chunk=4)
    symmetry(result, bundle.model, x[:16], 768, 1, chunk=4)
    result.budget = {"bundled model": bundle.name, "parameters": sum(p.numel() for p in bundle.model.parameters())}
    return result


ORDERS, CALLS = 10, 50
"""Random orders of C19, and the planned calls in which they are compared: one call per symbol would take hours."""


def orders(setting: Setting) -> Result:
    """C19: the exact code length in planned calls along ten random orders and four structured ones, on the same images."""
    result, bundle = Result("bundled-orders"), load("cifar10-any-order")
    x, calls = pictures(setting, 2 if setting.quick else 24), 4 if setting.quick else CALLS
    form, generator = tuple(x.shape[1:]), seeded(53)
    starts = api.schedule(bundle, calls).flat()
    random = []
    for n in range(2 if setting.quick else ORDERS):
        random.append(_along(bundle.model, shuffled(1, form, generator).coarsen(starts), x))
        result.add(f"random order {n}", float(random[-1].mean()), unit="bits/dim")
        setting.log(f"random order {n}: {random[-1].mean():.4f}")
    bits = np.stack(random)
    result.add("random orders, mean", float(bits.mean()), unit="bits/dim")
    result.add("random orders, greatest less least", float(np.ptp(bits.mean(1))), unit="bits/dim")
    result.add("random orders, standard deviation", float(bits.mean(1).std(ddof=1)), unit="bits/dim")
    result.add("random orders, standard deviation without chance", between(bits), unit="bits/dim")
    for name in ("bayer", "halton", "checkerboard", "raster"):
        ranks = torch.from_numpy(item_ranks(name, form, bundle.order.lead)).flatten()
        found = _along(bundle.model, ranked(ranks, form).coarsen(starts), x)
        result.add(name, float(found.mean()), unit="bits/dim")
        setting.log(f"{name}: {found.mean():.4f}")
    result.notes.append(f"{len(x)} test pictures, the same for every order, in {calls} planned calls")
    return result


def _along(model: AnyModel, plan: Plan, x: Tensor, chunk: int = 8) -> Floats:
    """Bits per dimension of every image along a plan."""
    parts = [likelihood.exact(model, plan, part).nats for part in x.split(chunk)]
    return torch.cat(parts).numpy() / math.log(2) / x[0].numel()


def between(bits: Floats) -> float:
    """The standard deviation of orders' means over all images there are, from (orders, images).

    Means over a few images also differ because an order suits some images more than others.  That part of their
    variance, which more images would remove, is subtracted.
    """
    n, m = bits.shape
    rest = bits - bits.mean(1, keepdims=True) - bits.mean(0, keepdims=True) + bits.mean()
    chance = float((rest**2).sum()) / ((n - 1) * (m - 1)) / m
    return math.sqrt(max(0.0, float(bits.mean(1).var(ddof=1)) - chance))


def filling(setting: Setting) -> Result:
    """C23: any part of an image can be known: it never changes, and it makes the rest cheaper."""
    result, bundle = Result("bundled-filling"), load("cifar10-any-order")
    x = pictures(setting, 16)
    for name, known in _masks(tuple(x.shape)).items():
        part = slice(0, 2)
        filled = ardm.fill(bundle, x[part], known[part], calls=10)
        kept = bool((filled[part] == x[part])[known[part]].all())
        result.add(f"{name}: given values that changed", 0.0 if kept else 1.0, unit="share")
        given = known.long() * len(bundle.model.digits)
        found = likelihood.bound(bundle.model, x, 4, seeded(50), given=given, chunk=4)
        result.add(
            f"{name}: the rest, given it",
            found.bits_per_dim,
            found.bits_per_dim_error,
            "bits a hidden dim",
            True,
        )
    whole = likelihood.bound(bundle.model, x, 4, seeded(51), chunk=4)
    result.estimate("nothing given", whole)
    return result


def _masks(form: tuple[int, ...]) -> dict[str, Tensor]:
    """Masks of known sites, (B, C, H, W) bool: a random half, the left half, all but a square, two of three channels."""
    _, _, H, W = form
    random = torch.rand(form, generator=seeded(52)) < 0.5
    left, frame, channels = (torch.zeros(form, dtype=torch.bool) for _ in range(3))
    left[..., : W // 2] = True
    frame[:] = True
    frame[..., H // 4 : 3 * H // 4, W // 4 : 3 * W // 4] = False
    channels[:, :2] = True
    return {"half at random": random, "left half": left, "all but the middle": frame, "red and green": channels}


def coding(setting: Setting) -> Result:
    """C17, C20: files of the bundled codec against its code length, and classical codecs."""
    result = Result("bundled-coding")
    name = registry.pictures()
    bundle, made = load(name), registry.model(name)
    x = pictures(setting, 12)
    D = math.prod(x.shape[1:])
    files = [ardm.compress(picture, name) for picture in x]
    back = all(torch.equal(ardm.decompress(f).long(), picture) for f, picture in zip(files, x, strict=True))
    bits = np.array([8 * len(f) / D for f in files])
    result.add("round trips that failed", 0.0 if back else 1.0, unit="share", note=f"{len(x)} test pictures")
    result.add(
        "files", float(bits.mean()), float(bits.std(ddof=1)) / math.sqrt(len(bits)), "bits/dim", note="all bytes"
    )
    headers = [frame.header_bytes for file in files for frame in describe(file)]
    result.add("header", float(np.mean(headers)), unit="bytes")
    found = cost(bundle, made, x)
    result.add("code length of the integers", found.exact, found.exact_error, "bits/dim")
    result.add("code length of the floats", found.model, unit="bits/dim")
    result.add("files over code length of the integers", float(bits.mean()) - found.exact, unit="bits/dim")
    result.add("integers over floats", found.bits_per_dim, found.error, "bits/dim")
    found_rates = _rows(RATES)
    result.tables["codecs"], result.tables["codecs_about"] = found_rates["rows"], found_rates["about"]
    result.budget = {"bundled model": bundle.name, "parameters": sum(p.numel() for p in bundle.model.parameters())}
    return result


def rates(setting: Setting) -> Result:
    """Results of codec_pictures.py and codec_rate.py for every kind of data: our levels and the classical codecs."""
    result = Result("coding")
    for path in sorted(RATES.parent.glob("rate*.json")):
        result.tables[path.stem] = _rows(path)
    result.notes.append(
        "copied from docs/pictures; measured by benchmarks/codec_pictures.py and codec_rate.py --set NAME"
    )
    return result


def _rows(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    rows = [
        {
            "name": row["name"],
            "calls": row.get("calls"),
            "bits": rounded_rate(row["bits_per_sample"]),
            "error": rounded_rate(row["standard_error"]),
            "archive": rounded_rate((row.get("together") or {}).get("bits_per_sample")),
            "headerless": rounded_rate(row.get("headerless_bits_per_sample")),
        }
        for row in found["rows"]
        if row.get("bits_per_sample")
    ]
    return {"rows": rows, "about": {key: found[key] for key in ("data", "date", "machine", "items")}}


def rounded_rate(value: float | None) -> float | None:
    """The value rounded to four decimals; None stays None."""
    return None if value is None else round(value, 4)
