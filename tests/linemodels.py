"""Tiny codec models of text, sounds and tables with arbitrary parameters, and items that suit them."""

import functools

import numpy as np
import torch

from ardm.bundle import Bundle
from ardm.codec.registry import coder as coder_of
from ardm.export.convert import export
from ardm.export.precision import Precision
from ardm.models.build import build
from ardm.models.config import ModelConfig
from ardm.orders import OrderConfig
from ardm.schema import Schema
from bundles import by_formula
from toys import generator, read_by

RASTER = OrderConfig("raster", calls=(8, 3))
SCHEMA = Schema(
    ("sex", "age", "note", "none"),
    (("f", "m"), ("1", "2", "3", "10", "20"), ("", "a,b", 'say "x"'), ("only",)),
)
"""Of the tiny table: numbers, cells that are quoted, an empty one, and a column of one value."""
LINE = {"trunk": "recurrent", "head": "values", "causal": "wave"}
SIZES = {
    "text": {"classes": 27, **LINE, "hashes": (1, 3), "bits": 5, "row": 4},
    "bytes": {"classes": 256, **LINE, "reach": (3,), "hashes": (2, 4), "bits": 4, "row": 3},
    "plain": {"classes": 5, **LINE},
    "sound": {"classes": 65536, "trunk": "lattice", "head": "mixture", "components": 3, "causal": "wave"},
    "8 bits": {"classes": 256, "trunk": "lattice", "head": "mixture", "components": 2, "causal": "wave"},
    "table": {"classes": 5, "trunk": "mlp", "head": "values", "columns": SCHEMA.columns},
    "classic": {"classes": 5, "trunk": "mlp", "head": "values", "columns": (3, 1, 5), "style": "classic"},
    "direct": {"classes": 5, "trunk": "mlp", "head": "values", "columns": (3, 1, 5), "direct": True},
    "one column": {"classes": 5, "trunk": "mlp", "head": "values", "columns": (5,)},
    "binary": {"classes": 2, "trunk": "mlp", "head": "values", "columns": (2,) * 6},
}  # fmt: skip
CARDS = {
    "text": {"recipe": {"data": {"name": "text", "alphabet": "27"}}},
    "sound": {"rate": 8000},
    "table": {"schema": SCHEMA.to_values()},
}
ORDERS = {"table": OrderConfig(), "binary": OrderConfig()}
"""Other than raster, and than the one order of networks along wavefronts."""


@functools.cache
def bundle(name, scale=1.0, **changes):
    """A tiny bundle of one of SIZES."""
    small = read_by(SIZES[name]["trunk"], width=8, blocks=2, embedding=4, hidden=12)
    settings = {**small, **SIZES[name], **changes}
    shape = (len(settings["columns"]),) if "columns" in settings else (24,)
    model = by_formula(build(ModelConfig(shape=shape, **settings)), scale)
    if settings.get("direct"):  # a weight is a hundred times the product of two parameters
        with torch.no_grad():
            model.body.trunk.direct.u.mul_(0.1), model.body.trunk.direct.v.mul_(0.1)
    order = OrderConfig() if settings.get("causal") == "wave" else ORDERS.get(name, RASTER)
    return Bundle(model, model.body.config if hasattr(model.body, "config") else ModelConfig(shape=shape, **settings),
                  order, card={"name": f"tiny {name}", **CARDS.get(name, {})})  # fmt: skip


def items(name, count=16, sites=24, seed=0):
    """(count, sites) items."""
    g, config = generator(seed), SIZES[name]
    if "columns" in config:
        limits = torch.tensor(config["columns"])
        return torch.randint(1 << 20, (count, len(limits)), generator=g) % limits
    if config["trunk"] == "lattice":
        K = config["classes"]
        loud = max(2.0, K * 0.001) * torch.rand(count, 1, generator=g)
        walk = torch.randn(count, sites, generator=g).cumsum(1) * loud
        return (walk + K // 2).round().long().clamp(0, K - 1)
    x = torch.randint(config["classes"], (count, sites), generator=g)
    return torch.where(torch.rand(count, sites, generator=g) < 0.6, x % 3, x)


@functools.cache
def exported(name, precision=(10, 10), scale=1.0, **changes):
    """What becomes of a tiny bundle."""
    few = items(name, 4, 8) if SIZES[name]["classes"] > 256 else items(name)  # in floats they take their time
    return export(bundle(name, scale, **changes), few, Precision(*precision))


def codec(name, **changes):
    return exported(name, **changes).codec


@functools.cache
def coder(name, calls=None, backend="float32", **changes):
    return coder_of(codec(name, **changes), calls, backend, "cpu", 1)


def sound(count, length, seed=0):
    """Samples (count, 1, length) of 16 bits."""
    return np.stack([items("sound", 1, max(length, 1), seed + k).numpy()[:, :length] for k in range(count)]).astype(
        "<u2"
    )
