"""Tiny data and models in folders, for the tests of the command line."""

import numpy as np
import torch

from ardm.bundle import Bundle
from ardm.losscurve import LossCurve
from ardm.models.build import build
from ardm.models.config import preset
from ardm.orders import OrderConfig


def make_data(folder):
    """Arrays (N, 3, 8, 8) of 16 values in three splits."""
    rng = np.random.default_rng(0)
    for name, number in (("train", 24), ("valid", 8), ("test", 8)):
        values = rng.integers(0, 16, (number, 3, 8, 8), dtype=np.uint8)
        values[0, 0, 0, 0] = 15
        np.save(folder / f"{name}.npy", values)


def make_model(folder, fixed=False, wave=False):
    """A small model with random weights, any-order, specialised on a plan, or along wavefronts."""
    config = preset("pictures-small" if wave else "centred-tiny", shape=(3, 8, 8), classes=16, width=16, blocks=1)
    order = OrderConfig("bayer", (6,), cell=8) if fixed else OrderConfig()
    curve = None if fixed or wave else LossCurve.exact(np.linspace(2.5, 1.0, 192)[None])
    model = build(config)
    with torch.no_grad():
        for p in model.head.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    Bundle(model, config, order, curve, {"name": folder.name}).save(folder)
