"""From a configuration to a model: which body and which head it names, and whether they go together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ardm.errors import ArdmError
from ardm.heads import ChainHead, ColumnHead, DigitHead, Head, MixtureHead, ValueHead
from ardm.model import Model
from ardm.models.bodies import Condition, ImageBody, SequenceBody, TableBody, WaveBody
from ardm.models.causal import CausalModel, PermutedBody
from ardm.models.config import PRESETS, ModelConfig, preset
from ardm.models.lines import TapsBody, WindowBody

__all__ = ["BODIES", "PRESETS", "Condition", "ImageBody", "Kind", "ModelConfig", "build", "preset"]

HEADS = ("values", "digits", "mixture", "chain")


@dataclass(frozen=True)
class Kind:
    """A trunk that a configuration can name: the body it stands in, and what that goes with.

    axes: of an item (0: any number).  heads: output families.  causal: values of `causal`.  columns: whether each site
    may have classes of its own.
    """

    body: Callable[[ModelConfig], nn.Module]
    axes: int = 0
    heads: tuple[str, ...] = HEADS
    causal: tuple[str, ...] = ("",)
    columns: bool = False


BODIES: dict[str, Kind] = {
    "unet": Kind(ImageBody, axes=3),
    "local": Kind(ImageBody, axes=3),
    "transformer": Kind(SequenceBody, causal=("", "single", "any"), columns=True),
    "wavenet": Kind(WaveBody, axes=1, causal=("", "single")),
    "window": Kind(WindowBody, heads=("values", "digits")),
    "taps": Kind(TapsBody, heads=("mixture",)),
    "mlp": Kind(TableBody, heads=("values",), columns=True),
}
"""Every trunk there is."""


def _head(config: ModelConfig) -> Head:
    if config.columns or config.trunk == "mlp":
        return ColumnHead(config.digits, config.limits)
    if config.papers:
        return ValueHead(config.digits, 0)  # the network ends in logits of K values
    if config.head == "mixture":
        return MixtureHead(config.digits, config.width, config.components)
    return {"values": ValueHead, "digits": DigitHead, "chain": ChainHead}[config.head](config.digits, config.width)


def build(config: ModelConfig, seed: int = 0) -> Model:
    """A new model with parameters drawn from `seed`; the global random state is left as it was.

    As any module of PyTorch it is made on the default device.  Raises ArdmError where the configuration names no such
    head, trunk or attention, or a size is out of range.
    """
    _refuse(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _assembled(config)


def _assembled(config: ModelConfig) -> Model:
    body = PermutedBody(config) if config.causal == "any" else BODIES[config.trunk].body(config)
    shape, head = tuple(config.shape), _head(config)
    if config.causal:
        return CausalModel(config.digits, shape, body, head)
    return Model(config.digits, shape, body, head)


def outline(config: ModelConfig) -> Model:
    """A model whose parameters have shapes and take next to no memory: what `build` would make.  Raises ArdmError as build."""
    _refuse(config)
    try:
        with torch.random.fork_rng(devices=[]), _Unfilled():
            return _assembled(config)
    except ArdmError:
        raise
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ArdmError(f"a model of these sizes cannot be built: {str(error).splitlines()[0]}") from None


class _Unfilled(TorchFunctionMode):
    """Large tensors are made on the device "meta", where they take no memory, and are not filled.

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


MOST: dict[str, int] = {
    "classes": 1 << 24, "components": 1 << 12, "width": 1 << 16, "blocks": 1 << 12, "levels": 16, "growth": 16,
    "radius": 64, "rings": 64, "embedding": 1 << 16, "labels": 1 << 24, "vector": 1 << 20, "heads": 1 << 12,
    "hidden": 1 << 20, "cycle": 30, "kernel": 1 << 10, "bits": 24, "row": 1 << 12,
}  # fmt: skip
"""The largest settings that are built: configurations come from files that others made."""
SMALL = 1 << 12
"""Elements of a tensor that an outline may hold."""
SITES = 1 << 22
"""Sites of an item, at most."""


def _refuse_huge(config: ModelConfig) -> None:
    for name, most in MOST.items():
        if getattr(config, name) > most:
            raise ArdmError(f"{name} may be at most {most}; got {getattr(config, name)}")
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


def _refuse(config: ModelConfig) -> None:
    """ArdmError for what cannot be built."""
    _refuse_huge(config)
    for name, allowed in {
        "head": HEADS,
        "trunk": tuple(BODIES),
        "attention": ("none", "middle", "all"),
        "positions": ("rotary", "learned", "sinusoidal"),
        "style": ("modern", "classic"),
        "causal": ("", "single", "any"),
    }.items():
        if getattr(config, name) not in allowed:
            shown = ", ".join(a or repr(a) for a in allowed)
            raise ArdmError(f"{name} must be one of {shown}; got {getattr(config, name)!r}")
    kind = BODIES[config.trunk]
    if not config.shape:
        raise ArdmError("shape () stands for that of the data: train with a data set, or give the shape of an item")
    if min(config.shape) < 1 or (kind.axes and len(config.shape) != kind.axes):
        wanted = {0: "positive sizes", 1: "shape (D,)", 3: "shape (C, H, W)"}[kind.axes]
        raise ArdmError(f"models of trunk {config.trunk} take {wanted}; got {config.shape}")
    if config.width < 4 or config.blocks < 0 or min(config.components, config.levels, config.growth, config.radius) < 1:
        raise ArdmError(
            "width must be at least 4, blocks 0 or more, and components, levels, growth and radius positive"
        )
    if (config.levels > 1 and config.blocks < 1) or (config.time and config.width % 2):
        raise ArdmError("several levels need blocks of at least 1, and time needs an even width")
    if min(config.rings, config.labels, config.vector, config.embedding) < 0 or not 0 <= config.dropout < 1:
        raise ArdmError("rings, labels, vector and embedding must be 0 or more, and dropout lie in [0, 1)")
    if min(config.heads, config.hidden) < 0 or min(config.kernel, config.cycle) < 1:
        raise ArdmError("heads and hidden must be 0 or more, and kernel and cycle at least 1")
    if config.labels and config.vector:
        raise ArdmError("context is either labels or a vector, not both")
    if config.head not in kind.heads:
        raise ArdmError(f"trunk {config.trunk} takes head {' or '.join(kind.heads)}; got {config.head!r}")
    if config.papers:
        if config.head != "values":
            raise ArdmError(f"the U-Net of style classic tells values: set model.head to values; got {config.head!r}")
        if config.embedding >= config.width:
            raise ArdmError(f"embedding must be less than width {config.width}; got {config.embedding}")
    if config.growth > 1 and config.trunk != "unet":
        raise ArdmError(f"growth is for trunk unet; got {config.trunk!r}")
    if config.direct and config.trunk != "mlp":
        raise ArdmError(f"direct connections are for trunk mlp; got {config.trunk!r}")
    if config.trunk == "transformer":
        _refuse_attention(config)
    if config.trunk in ("window", "taps") and len(config.digits) > 1:
        raise ArdmError(f"trunk {config.trunk} tells whole values: leave base at 0; got {config.base}")
    if config.trunk == "wavenet" and not config.causal and config.kernel % 2 == 0:
        raise ArdmError(f"a kernel that looks to both sides has an odd width; got {config.kernel}")
    if config.trunk == "wavenet" and config.embedding >= config.width:
        raise ArdmError(f"embedding must be less than width {config.width} in a WaveNet; got {config.embedding}")
    if config.columns:
        _refuse_columns(config, kind)
    if config.causal:
        _refuse_causal(config, kind)


def _refuse_attention(config: ModelConfig) -> None:
    if config.width % config.attends:
        raise ArdmError(f"heads must divide width {config.width}; got {config.attends}")
    if config.positions == "rotary" and config.width // config.attends % 2:
        raise ArdmError("rotary positions need heads of an even width: change width or heads")
    parts = 4 if config.causal == "any" else 2
    if config.positions == "sinusoidal" and config.width % parts:
        raise ArdmError(f"sinusoidal positions need a width that is a multiple of {parts}; got {config.width}")


def _refuse_columns(config: ModelConfig, kind: Kind) -> None:
    if not kind.columns or config.head != "values" or config.causal:
        raise ArdmError("columns need trunk mlp or transformer, head values, and no causal order")
    if len(config.columns) != config.sites or min(config.columns) < 1 or max(config.columns) > config.classes:
        raise ArdmError(
            f"columns must give each of the {config.sites} sites its number of classes, 1..{config.classes}; "
            f"got {len(config.columns)} from {min(config.columns)} to {max(config.columns)}"
        )


def _refuse_causal(config: ModelConfig, kind: Kind) -> None:
    if config.causal not in kind.causal:
        able = ", ".join(name for name, k in BODIES.items() if config.causal in k.causal)
        raise ArdmError(f"causal {config.causal!r} is for trunk {able}; got {config.trunk!r}")
    if len(config.digits) > 1 or config.time:
        raise ArdmError("causal models tell whole values (base 0), and take no time: what is known is a prefix")
