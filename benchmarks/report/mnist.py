"""Binarised MNIST: one small any-order convolutional network, trained on a new binarisation of each batch.

Measured on a fixed Bernoulli sample of the test images (`data.mnist(…, binarize="stochastic")`).  Papers use another
sample, the file of Salakhutdinov and Murray, so figures are close but not directly comparable.
"""

from __future__ import annotations

from common import Result, Setting, evenly, seeded, trained
from density import along_orders, ensemble

from ardm import data, likelihood

FEW = 48
"""Images for the ensemble of orders, which takes 784 calls of the network for each of 16 orders."""


def measure(setting: Setting) -> Result:
    """Train and measure the model."""
    result = Result("binarized-mnist")
    small = ("model.width=8",)
    model = trained(setting, result, "laptop/binarized-mnist", "mnist", (), small).model
    x = data.load("mnist", setting.data / "mnist", "test", binarize="stochastic").items.long()
    x = x[: setting.items(len(x))]
    whole = likelihood.bound(model, x, 1 if setting.quick else 4, seeded(40))
    result.estimate("random orders", whole, "unbiased for the mean over all orders of the exact figure", nats=True)
    if not setting.quick:
        nats = along_orders(model, evenly(x, FEW), 16, 41, chunk=128)
        ensemble(result, "1 order", whole, nats, nats[0])
        ensemble(result, "16 orders", whole, nats)
    result.notes.append("a Bernoulli sample of the test images of our own, not the fixed file of the literature")
    return result
