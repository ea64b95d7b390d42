"""From a configuration to a model: the one file that knows both the core and the networks."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ardm.digits import Digits, Partial
from ardm.errors import ArdmError
from ardm.heads import DigitHead, Head, MixtureHead, ValueHead
from ardm.model import Model
from ardm.nets import Local, UNet
from ardm.nets.local import Features


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the parameters of an image model.

    shape (C, H, W); classes K; base b (0: b = K, the order-agnostic ARDM; otherwise depth upscaling).
    head: "values" (softmax over K, data parametrisation), "digits" (softmax over b a stage, direct parametrisation) or
    "mixture" (of `components` discretised logistics).  trunk: "unet" (the paper's) or "local" (windows; any size).
    width, blocks, levels, attention, dropout: of the U-Net; width, blocks, radius, rings: of local windows.
    embedding: width of a learnt embedding of values beside the plain value (0: none); unknown values have their own row.
    labels: number of class labels (0: unconditional); vector: width of a conditioning vector (0: none).
    time: feed the number of known digits as well (redundant, for parity with the paper).
    rounded: round the neighbours' mean to an eighth of a level, so that a codec model in integers is told the same numbers.
    """

    shape: tuple[int, ...] = (3, 32, 32)
    classes: int = 256
    base: int = 0
    head: str = "mixture"
    components: int = 5
    trunk: str = "unet"
    width: int = 64
    blocks: int = 4
    levels: int = 1
    attention: str = "none"
    dropout: float = 0.0
    radius: int = 3
    rings: int = 2
    embedding: int = 0
    labels: int = 0
    vector: int = 0
    time: bool = False
    rounded: bool = True

    @property
    def digits(self) -> Digits:
        """The alphabet."""
        return Digits(self.classes, self.base or self.classes)


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"trunk": "unet", "width": 32, "blocks": 2, "levels": 1, "attention": "none"},
    "small": {"trunk": "unet", "width": 64, "blocks": 3, "levels": 2, "attention": "middle"},
    "medium": {"trunk": "unet", "width": 128, "blocks": 8, "levels": 1, "attention": "middle"},
    "paper": {
        "trunk": "unet",
        "width": 256,
        "blocks": 32,
        "levels": 1,
        "attention": "middle",
        "head": "values",
        "embedding": 64,
        "time": True,
    },
    "local-tiny": {"trunk": "local", "width": 64, "blocks": 1, "radius": 2, "rings": 1},
    "local": {"trunk": "local", "width": 256, "blocks": 3, "radius": 3, "rings": 2},
    "local-large": {"trunk": "local", "width": 512, "blocks": 4, "radius": 4, "rings": 2},
}
"""Named sizes; every field of `ModelConfig` can still be overridden."""


class Condition(nn.Module):
    """Context → one vector an item: a class label (B,) int64, a vector (B, V), and the number of known digits.

    The number of known digits is embedded as in the paper: sinusoids, then two layers of four times the width.
    """

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.config, self.width = config, width
        self.label = nn.Embedding(config.labels + 1, width) if config.labels else None
        self.vector = nn.Linear(config.vector, width) if config.vector else None
        self.time = None
        if config.time:
            self.time = nn.Sequential(nn.Linear(config.width // 2 * 2, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, depth: Tensor, context: Tensor | None, like: Tensor) -> Tensor:
        """(B, width); without context, the row kept for "no label" and no vector."""
        B = len(depth)
        out = like.new_zeros(B, self.width)
        if self.label is not None:
            if context is not None and (context.shape != (B,) or context.dtype != torch.long):
                raise ArdmError(f"this model takes one class label an item, int64 ({B},); got {tuple(context.shape)}")
            missing = torch.full((B,), self.config.labels, device=depth.device)
            out = out + self.label(missing if context is None else context)
        elif self.vector is not None and context is not None:
            if context.shape != (B, self.config.vector):
                raise ArdmError(f"this model takes vectors ({B}, {self.config.vector}); got {tuple(context.shape)}")
            out = out + self.vector(context.to(out.dtype))
        elif context is not None:
            raise ArdmError("this model takes no context: set labels or vector in its configuration")
        if self.time is not None:
            known = depth.flatten(1).sum(1).to(out.dtype) / depth[0].numel() / len(self.config.digits) * 1000
            half = self.config.width // 2
            rate = torch.exp(torch.arange(half, device=depth.device, dtype=out.dtype) * (-math.log(1e4) / (half - 1)))
            angle = known[:, None] * rate
            out = out + self.time(torch.cat([angle.sin(), angle.cos()], 1))
        return out


class ImageBody(nn.Module):
    """A state → input planes → trunk.  Each site shows the centre of what it may still be, and how much is known."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.digits = config, config.digits
        C, S = config.shape[0], len(self.digits)
        conditional = bool(config.labels or config.vector or config.time)
        width = (4 if config.time else 1) * config.width if conditional else 0
        self.condition = Condition(config, width) if conditional else None
        self.embedding = nn.Embedding(config.classes + 1, config.embedding) if config.embedding else None
        if config.trunk == "unet":
            planes = C * (1 + S + config.embedding)
            self.trunk: nn.Module = UNet(
                planes, C, config.width, config.blocks, config.levels, config.attention, config.dropout, width
            )
        else:
            levels = config.classes - 1 if config.rounded else 0
            self.trunk = Local(C, config.width, config.blocks, config.radius, config.rings, width, levels)

    def forward(self, state: Partial, context: Tensor | None = None) -> Features:
        """Features at the sites asked."""
        K, S = self.config.classes, len(self.digits)
        like = next(self.trunk.parameters())
        block = torch.tensor([self.digits.base ** (S - d) for d in range(S + 1)], device=state.depth.device)[
            state.depth
        ]
        centre = (
            state.value + (torch.minimum(block, K - state.value) - 1) / 2
        )  # at depth 0: (K − 1) / 2, the paper's K // 2
        value = (2 * centre / (K - 1) - 1).to(like.dtype)
        known = (state.depth / S).to(like.dtype)
        condition = None if self.condition is None else self.condition(state.depth, context, like)
        if self.condition is None and context is not None:
            raise ArdmError("this model takes no context: set labels or vector in its configuration")
        if self.config.trunk != "unet":
            return self.trunk(value, known, condition)
        planes = [value] + [(state.depth > s).to(like.dtype) for s in range(S)]
        if self.embedding is not None:
            rows = torch.where(state.depth > 0, state.value, K)  # an extra class says "nothing known"
            planes.append(self.embedding(rows).permute(0, 1, 4, 2, 3).flatten(1, 2))
        return self.trunk(torch.cat(planes, 1), value, known, condition)


def _head(config: ModelConfig) -> Head:
    if config.head == "mixture":
        return MixtureHead(config.digits, config.width, config.components)
    return (ValueHead if config.head == "values" else DigitHead)(config.digits, config.width)


def build(config: ModelConfig, seed: int = 0) -> Model:
    """A new model with parameters drawn from `seed`; the global random state is left as it was.

    Raises ArdmError where the configuration names no such head, trunk or attention, or a size is out of range.
    """
    for name, allowed in {
        "head": ("values", "digits", "mixture"),
        "trunk": ("unet", "local"),
        "attention": ("none", "middle", "all"),
    }.items():
        if getattr(config, name) not in allowed:
            raise ArdmError(f"{name} must be one of {', '.join(allowed)}; got {getattr(config, name)!r}")
    if len(config.shape) != 3 or min(config.shape) < 1:
        raise ArdmError(f"image models take shape (C, H, W); got {config.shape}")
    if config.width < 4 or config.blocks < 0 or config.components < 1 or config.levels < 1 or config.radius < 1:
        raise ArdmError("width must be at least 4, and blocks, components, levels and radius positive")
    if (config.levels > 1 and config.blocks < 1) or (config.time and config.width % 2):
        raise ArdmError("several levels need blocks of at least 1, and time needs an even width")
    if min(config.rings, config.labels, config.vector, config.embedding) < 0 or not 0 <= config.dropout < 1:
        raise ArdmError("rings, labels, vector and embedding must be 0 or more, and dropout lie in [0, 1)")
    if config.labels and config.vector:
        raise ArdmError("context is either labels or a vector, not both")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Model(config.digits, tuple(config.shape), ImageBody(config), _head(config))


def preset(name: str, **changes: Any) -> ModelConfig:
    """The configuration of a named size, with changes."""
    if name not in PRESETS:
        raise ArdmError(f"unknown size {name!r}; there are {', '.join(PRESETS)}")
    return dataclasses.replace(ModelConfig(**PRESETS[name]), **changes)
