"""Config → model: the table of trunks, the heads, and limits checked before memory is spent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ardm.errors import ArdmError
from ardm.heads import ChainHead, ColumnHead, DigitHead, Head, LaplaceHead, MixtureHead, ValueHead
from ardm.model import Model
from ardm.models.causal import CausalModel, PermutedBody
from ardm.models.config import ModelConfig
from ardm.models.ending import EndingCausalModel, EndingModel
from ardm.models.images import CentredBody, PaperUNetBody, UNetBody
from ardm.models.sound import LatticeBody, WaveBody
from ardm.models.tables import TableBody
from ardm.models.text import TransformerBody
from ardm.models.wavefront import RecurrentBody, WavefrontBody

HEADS: dict[str, Callable[[ModelConfig], Head]] = {
    "values": lambda config: ValueHead(config.digits, config.features),
    "digits": lambda config: DigitHead(config.digits, config.features),
    "mixture": lambda config: MixtureHead(config.digits, config.features, config.components),
    "laplace": lambda config: LaplaceHead(config.digits, config.features, config.components),
    "chain": lambda config: ChainHead(config.digits, config.features),
}
"""All heads by name."""
MODELS: dict[tuple[bool, bool], type[Model]] = {
    (False, False): Model,
    (True, False): CausalModel,
    (False, True): EndingModel,
    (True, True): EndingCausalModel,
}
"""The class of a model by whether it is causal, and whether a class ends its items."""
SHARED = ("shape", "classes", "base", "head", "components", "trunk", "width", "blocks")
"""The settings that every trunk reads."""
CONTEXT = ("labels", "vector", "time")
ANY = (*CONTEXT, "rates")
"""Settings of the trunks of any-order models."""


@dataclass(frozen=True)
class Kind:
    """A trunk that a configuration can name.

    body: makes the body.  axes: of an item (0: any number).  heads: output families that fit.
    causal: values of the setting `causal` that it takes.  reads: its settings beside `SHARED`; None: it may read all.
    """

    body: Callable[[ModelConfig], nn.Module]
    axes: int = 0
    heads: tuple[str, ...] = tuple(HEADS)
    causal: tuple[str, ...] = ("",)
    reads: tuple[str, ...] | None = None


def _unet(config: ModelConfig) -> nn.Module:
    return PaperUNetBody(config) if config.is_paper_unet else UNetBody(config)


def _transformer(config: ModelConfig) -> nn.Module:
    return PermutedBody(config) if config.causal == "any" else TransformerBody(config)


BODIES: dict[str, Kind] = {
    "unet": Kind(_unet, axes=3, reads=(*ANY, "dropout", "style", "embedding", "levels", "growth", "attention")),
    "centred": Kind(CentredBody, axes=3, reads=(*ANY, "levels", "growth", "hidden", "rounded")),
    "transformer": Kind(
        _transformer,
        causal=("", "single", "any"),
        reads=(*ANY, "dropout", "style", "hidden", "columns", "causal", "heads", "positions", "end"),
    ),
    "wavenet": Kind(
        WaveBody,
        axes=1,
        causal=("", "single"),
        reads=(*ANY, "dropout", "style", "embedding", "causal", "kernel", "cycle"),
    ),
    "wavefront": Kind(
        WavefrontBody, heads=("mixture", "laplace"), causal=("wave",), reads=("hidden", "causal", "cycle")
    ),
    "recurrent": Kind(
        RecurrentBody,
        axes=1,
        heads=("values",),
        causal=("wave",),
        reads=("hidden", "causal", "dropout", "embedding", "reach", "hashes", "bits", "row", "counts", "count_bits"),
    ),
    "lattice": Kind(LatticeBody, axes=1, heads=("mixture",), causal=("wave",), reads=("causal",)),
    "mlp": Kind(
        TableBody,
        heads=("values",),
        reads=(*ANY, "dropout", "style", "embedding", "hidden", "columns", "direct"),
    ),
}
"""All trunks by name.  Add one of your own here: `BODIES["mine"] = Kind(MyBody)`."""


def build(config: ModelConfig, seed: int = 0) -> Model:
    """Make a new model, with parameters drawn from `seed`, on the default device; the global random state stays.

    Raises ArdmError for an unknown head, trunk or attention, a size out of range, and a setting that the trunk does not
    have.
    """
    _refuse(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _assembled(config)


def _assembled(config: ModelConfig) -> Model:
    body, head = BODIES[config.trunk].body(config), head_of(config)
    if isinstance(body, RecurrentBody):
        body.start(head)
    parts = config.digits, tuple(config.shape), body, head
    return MODELS[bool(config.causal), config.end](*parts, *([config.rates] if config.rates else []))


def reads(trunk: str, name: str) -> bool:
    """Whether a trunk reads a setting."""
    kind = BODIES.get(trunk)
    return kind is None or kind.reads is None or name in (*SHARED, *kind.reads)


def unread(config: ModelConfig) -> list[str]:
    """The settings that differ from their defaults and that the trunk does not read."""
    return [name for name in config.changed() if not reads(config.trunk, name)]


def readable(config: ModelConfig, given: Collection[str] = ()) -> ModelConfig:
    """The configuration with the default of every setting that its trunk does not read, except those in `given`."""
    defaults: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(config)}
    return dataclasses.replace(config, **{name: defaults[name] for name in unread(config) if name not in given})


def head_of(config: ModelConfig) -> Head:
    """The head of a configuration."""
    if config.columns or config.trunk == "mlp":
        return ColumnHead(config.digits, config.limits)
    if config.is_paper_unet:
        return ValueHead(config.digits, 0)  # the network ends in logits of K values
    return HEADS[config.head](config)


def outline(config: ModelConfig) -> Model:
    """Make the model that `build` would make, with next to no memory for its parameters.  Raises ArdmError as `build`."""
    _refuse(config)
    try:
        with torch.random.fork_rng(devices=[]), Unfilled():
            return _assembled(config)
    except ArdmError:
        raise
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ArdmError(f"a model of these sizes cannot be built: {str(error).splitlines()[0]}") from None


SMALL = 1 << 12
"""Elements of a tensor that an outline may hold."""


class Unfilled(TorchFunctionMode):
    """Make large tensors on the device "meta", where they take no memory, and leave them unfilled.

    Small ones are real: for arithmetic on "meta" PyTorch imports its compiler, which takes seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, name = kwargs or {}, func.__name__.strip("_")
        if name in ("empty", "zeros", "ones", "randn"):
            shape = args[0] if args and isinstance(args[0], (tuple, list)) else args
            if math.prod(shape) > SMALL:
                return torch.empty(shape, device="meta", dtype=given.get("dtype"))
        first = args[0] if args else given.get("tensor")
        scaled = name in ("mul", "rmul", "div") and isinstance(args[1], (int, float))
        if (scaled or name.endswith("normal")) and isinstance(first, torch.Tensor) and first.is_meta:
            return first
        return func(*args, **given)


# --- limits and misfits ----------------------------------------------------------------------------------------------------

CHOICES: dict[str, tuple[str, ...]] = {
    "head": tuple(HEADS),
    "attention": ("none", "middle", "all"),
    "positions": ("rotary", "learned", "sinusoidal"),
    "style": ("modern", "classic"),
    "causal": ("", "single", "any", "wave"),
}
MOST: dict[str, int] = {
    "classes": 1 << 24, "components": 1 << 12, "width": 1 << 16, "blocks": 1 << 12, "levels": 16, "growth": 16,
    "embedding": 1 << 16, "labels": 1 << 24, "vector": 1 << 20, "heads": 1 << 12,
    "hidden": 1 << 20, "cycle": 30, "kernel": 1 << 10, "bits": 24, "row": 1 << 12, "count_bits": 20,
}  # fmt: skip
"""The largest values of settings, since configurations may come from untrusted files."""
LEAST: dict[str, int] = {
    "width": 4, "blocks": 0, "components": 1, "levels": 1, "growth": 1, "kernel": 1, "cycle": 1,
    "labels": 0, "vector": 0, "embedding": 0, "heads": 0, "hidden": 0, "count_bits": 1,
}  # fmt: skip
SITES = 1 << 22
"""The largest number of sites of an item."""


def _refuse(config: ModelConfig) -> None:
    """Raise ArdmError for a configuration that cannot be built."""
    _refuse_types(config)
    _refuse_sizes(config)
    for name, allowed in {"trunk": tuple(BODIES), **CHOICES}.items():
        if getattr(config, name) not in allowed:
            shown = ", ".join(a or repr(a) for a in allowed)
            raise ArdmError(f"{name} must be one of {shown}; got {getattr(config, name)!r}")
    kind = BODIES[config.trunk]
    _refuse_shape(config, kind)
    _refuse_unread(config, kind)
    if (config.levels > 1 and config.blocks < 1) or (config.time and config.width % 2):
        raise ArdmError("several levels need blocks of at least 1, and time needs an even width")
    if config.labels and config.vector:
        raise ArdmError("context is either labels or a vector, not both")
    if config.head not in kind.heads:
        raise ArdmError(f"trunk {config.trunk} takes head {' or '.join(kind.heads)}; got {config.head!r}")
    if config.columns:
        _refuse_columns(config)
    if config.end and (len(config.shape) != 1 or len(config.digits) > 1 or config.columns or config.causal == "any"):
        raise ArdmError(
            "a class that ends items is for sequences of whole values (base 0, no columns), of any order or causal 'single'"
        )
    if config.causal or "" not in kind.causal:
        _refuse_causal(config, kind)


def _refuse_types(config: ModelConfig) -> None:
    """Raise ArdmError for values of another type than the default, which files and recipes cannot hold, but Python can."""
    types: dict[type, type | tuple[type, ...]] = {int: Integral, float: Real, bool: Integral, tuple: (tuple, list)}
    for field in dataclasses.fields(config):
        kind: type = type(field.default)
        value: Any = getattr(config, field.name)
        if not isinstance(value, types.get(kind, kind)):
            raise ArdmError(f"{field.name} must be of type {kind.__name__}; got {value!r}")
        if isinstance(value, (tuple, list)) and not all(isinstance(n, Integral) for n in value):
            raise ArdmError(f"{field.name} holds whole numbers; got {value!r}")


def _refuse_sizes(config: ModelConfig) -> None:
    for name, least in LEAST.items():
        if getattr(config, name) < least:
            raise ArdmError(f"{name} must be at least {least}; got {getattr(config, name)}")
    for name, most in MOST.items():
        if getattr(config, name) > most:
            raise ArdmError(f"{name} may be at most {most}; got {getattr(config, name)}")
    if not 0 <= config.dropout < 1:
        raise ArdmError(f"dropout must lie in [0, 1); got {config.dropout}")
    if len(config.shape) > 16 or config.sites > SITES:
        raise ArdmError(f"an item may have at most {SITES} sites along 16 axes; got {config.shape}")
    if (
        config.blocks * config.levels > MOST["blocks"]
        or len(config.hashes) > 64
        or max(config.reach, default=0) > 1 << 12
    ):
        raise ArdmError(
            f"at most {MOST['blocks']} blocks over all levels, 64 hashes and a reach of {1 << 12} are built; got "
            f"{config.blocks} blocks on {config.levels} levels, {len(config.hashes)} hashes and reach {config.reach}"
        )


def _refuse_shape(config: ModelConfig, kind: Kind) -> None:
    if not config.shape:
        raise ArdmError("shape () takes the shape of the data: train with a data set, or give the shape of an item")
    if min(config.shape) < 1 or (kind.axes and len(config.shape) != kind.axes):
        wanted = {0: "positive sizes", 1: "shape (D,)", 3: "shape (C, H, W)"}.get(kind.axes, f"{kind.axes} axes")
        raise ArdmError(f"models of trunk {config.trunk} take {wanted}; got {config.shape}")


def _refuse_unread(config: ModelConfig, kind: Kind) -> None:
    """Raise ArdmError for a setting that differs from its default and that the trunk does not read."""
    for name in unread(config):
        able = [trunk for trunk, other in BODIES.items() if other.reads is not None and name in other.reads]
        raise ArdmError(
            f"trunk {config.trunk} has no setting {name} (got {getattr(config, name)!r}); it has "
            f"{', '.join(kind.reads or ())}.  {name} is for trunk {' or '.join(able)}"
        )


def _refuse_columns(config: ModelConfig) -> None:
    if config.head != "values" or config.causal:
        raise ArdmError("columns need head values, and no causal order")
    if len(config.columns) != config.sites or min(config.columns) < 1 or max(config.columns) > config.classes:
        raise ArdmError(
            f"columns must give each of the {config.sites} sites its number of classes, 1..{config.classes}; "
            f"got {len(config.columns)} from {min(config.columns)} to {max(config.columns)}"
        )


def _refuse_causal(config: ModelConfig, kind: Kind) -> None:
    if not config.causal:
        raise ArdmError(f"trunk {config.trunk} has one order: set model.causal to {kind.causal[0]}")
    if config.causal not in kind.causal:
        able = ", ".join(name for name, k in BODIES.items() if config.causal in k.causal)
        raise ArdmError(f"causal {config.causal!r} is for trunk {able}; got {config.trunk!r}")
    if len(config.digits) > 1 or config.time or config.rates:
        raise ArdmError(
            "causal models predict whole values (base 0), and take no time and no rates: what is known is a prefix"
        )
