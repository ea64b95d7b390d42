"""Trained models to codec models: a network in floats to a program in integers, with its orders and its cost.

Weights and activations are quantised after training: scales per channel from a few calibration states, 8 bits for both
inside the network, more where the certificate leaves room for them and they help.  Each kind of network has an exporter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor, nn

from ardm.bundle import Bundle
from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.exact.model import NAME, CodecModel, fingerprint, load
from ardm.exact.program import Program
from ardm.exact.reference import Reference
from ardm.export.calibrate import Examples, Scales
from ardm.export.centred import centred, context_obstacle
from ardm.export.coding import Coding, Cost, as_images, coding, cost
from ardm.export.lattice import lattice
from ardm.export.obstacles import unsupported as obstacles
from ardm.export.parts import trunk_of
from ardm.export.precision import COMPENSATED, FINER, SEARCH, Make, Precision
from ardm.export.recurrent import recurrent
from ardm.export.table import table
from ardm.export.unet import unet
from ardm.export.wavefront import wavefront
from ardm.heads import ColumnHead, DigitHead, Head, MixtureHead, ValueHead
from ardm.model import Model, evaluating
from ardm.nets.centred import Centred
from ardm.nets.lattice import LatticePerceptron
from ardm.nets.recurrent import Recurrent
from ardm.nets.table import Table
from ardm.nets.unet import UNet
from ardm.nets.wavefront import Wavefront

CALIBRATION = 128
"""Items to calibrate and to measure the cost with, by default."""
AIM = 0.003
"""Bits per dimension that exactness may cost."""
EXPORTERS: dict[type[nn.Module], Callable[[Model, Examples], Make]] = {
    Wavefront: wavefront,
    Recurrent: recurrent,
    LatticePerceptron: lattice,
    Table: table,
    UNet: unet,
    Centred: centred,
}
"""The exporter of each kind of network: it calibrates, and returns what makes the program of a precision."""
SEARCHES: dict[type[nn.Module], tuple[Precision, ...]] = {Wavefront: FINER, Recurrent: FINER, Centred: COMPENSATED}
"""The precisions to try, for kinds of networks that have their own."""
HEADS: tuple[type[Head], ...] = (ValueHead, ColumnHead, DigitHead, MixtureHead)
"""The heads that have operations in integers; not their subclasses, which have other distributions."""


@dataclass(frozen=True)
class Exported:
    """A codec model, its precision, and its cost on items that it was not calibrated with."""

    codec: CodecModel
    precision: Precision
    cost: Cost


def export(
    bundle: Bundle,
    items: Tensor,
    precision: Precision | None = None,
    scales: Mapping[str, Scales] | None = None,
    tried: Callable[[Exported], None] | None = None,
    seconds: float = math.inf,
) -> Exported:
    """The codec model of a trained one.

    items: (N, C, H, W) or (N, D) integers, like those that will be coded; the first half calibrates, the second
    measures the cost, which the card holds.
    precision: bits; by default the fewest (`precision.SEARCH`) that cost at most AIM bits per dimension.
    scales: of the inputs and outputs of layers, by name, where fine-tuning has fixed them; for trunk wavefront.
    tried: called with every attempt.  seconds: after so many no further precision is tried.
    Raises ArdmError where the network cannot be exported, and for scales of another network.
    """
    if len(items) < 2:
        raise ArdmError(
            f"an export needs at least 2 items, to calibrate and to measure the cost with; got {len(items)}"
        )
    end = monotonic() + seconds
    bundle = bundle.with_precision("float32")
    along, items = coding(bundle), as_images(items)
    half, trunk = len(items) // 2, trunk_of(bundle.model)
    if scales and not isinstance(trunk, Wavefront):
        kind = type(trunk or bundle.model.body).__name__
        raise ArdmError(f"only networks of trunk wavefront are exported with given scales; this one is a {kind}")
    search = next((found for kind, found in SEARCHES.items() if isinstance(trunk, kind)), SEARCH)
    with evaluating(bundle.model):
        make = exporter(bundle.model)(bundle.model, Examples(items[:half], along.cells, scales or {}))
        for bits in [precision] if precision else search:
            made = _measured(bundle, _codec(bundle, make(bits), along), bits, items[half:])
            if tried is not None:
                tried(made)
            if made.cost.bits_per_dim <= AIM or monotonic() > end:
                break
    return made


def with_codec(bundle: Bundle, items: Tensor, folder: Path | None = None, seconds: float = math.inf) -> Bundle:
    """The bundle with its codec model; folder: where it is kept, or read if it was exported from the same weights.

    seconds: as in `export`.  Raises ArdmError as `export`.
    """
    if folder is not None and (folder / NAME).is_file():
        kept = load(folder / NAME)
        if kept.card.get("of") == bundle.identity:
            return replace(bundle, codec=kept)
    made = replace(bundle, codec=export(bundle, items, seconds=seconds).codec)
    if folder is not None:
        made.save(folder)
    return made


def spread(items: Tensor, count: int) -> Tensor:
    """At most `count` of the items, evenly spread; which half of them comes first is no matter of their order."""
    return items[torch.linspace(0, len(items) - 1, min(count, len(items)), device="cpu").long().roll(len(items) // 2)]


def _codec(bundle: Bundle, program: Program, along: Coding) -> CodecModel:
    """The codec model of a program, with its fingerprint."""
    card = {**bundle.card, "of": bundle.identity}
    codec = CodecModel(
        program, {} if along.planned else along.cells, along.default, bundle.content, along.lead, card,
        alphabet=bundle.alphabet, schema=bundle.schema, planned=along.planned,
    )  # fmt: skip
    return replace(codec, golden=fingerprint(codec, Reference(program)))


def _measured(bundle: Bundle, codec: CodecModel, bits: Precision, items: Tensor) -> Exported:
    """A codec model with its cost on items."""
    found = cost(bundle, codec, items)
    about = {
        "weights": bits.weights,
        "activations": bits.activations,
        "cost": round(found.bits_per_dim, 5),
        "error": round(found.error, 5),
        "items": len(items),
    }
    return Exported(replace(codec, card={**codec.card, "integers": about}), bits, found)


def exporter(model: Model) -> Callable[[Model, Examples], Make]:
    """The exporter of a model.  Raises ArdmError where there is none."""
    if obstacle := _head_obstacle(model):
        raise ArdmError(obstacle)
    trunk = trunk_of(model)
    for kind, found in EXPORTERS.items():
        if isinstance(trunk, kind):
            return found
    raise ArdmError(f"a network of kind {type(trunk or model.body).__name__} cannot be exported")


def _head_obstacle(model: Model) -> str:
    """Why the head cannot be exported, as a sentence; "" if it can."""
    if type(model.head) in HEADS:
        return ""
    kind = type(model.head).__name__
    return f"a head of kind {kind} cannot be exported: train with model.head=mixture, values or digits"


def unsupported(bundle: Bundle) -> list[str]:
    """Reasons why a model cannot be exported, a sentence for each; empty if it can."""
    if not isinstance(bundle.model.digits, Digits):
        return ["its values are maps of your own; only digits of a base can be exported"]
    if bundle.config.end or (bundle.symbols is not None and bundle.symbols.is_named):
        return [
            "a codec of text codes bytes or 27 letters, without an end: train with data.alphabet=bytes and no data.each"
        ]
    head, trunk = _head_obstacle(bundle.model), trunk_of(bundle.model) or bundle.model.body
    found = [obstacle for obstacle in (head, context_obstacle(trunk)) if obstacle]
    if isinstance(trunk, tuple(EXPORTERS)):
        return found
    return found + (obstacles(trunk) or [f"there is no exporter for networks of kind {type(trunk).__name__}"])
