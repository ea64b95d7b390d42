"""Modules that have no operation in integers, and what to use instead."""

from __future__ import annotations

from torch import nn

from ardm.export.functions import FUNCTIONS
from ardm.nets.norms import GroupNorm, RMSNorm
from ardm.nets.products import Linear

_PLAIN: tuple[type[nn.Module], ...] = (
    nn.Linear,
    Linear,
    nn.GroupNorm,
    GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
    RMSNorm,
    nn.Embedding,
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    *FUNCTIONS,
)
_HINTS = {
    "BatchNorm": "use GroupNorm or LayerNorm, or fold it into the layer before it",
    "InstanceNorm": "use GroupNorm with a group for each channel",
    "LSTM": "use convolutions or attention",
    "GRU": "use convolutions or attention",
    "RNN": "use convolutions or attention",
    "MultiheadAttention": "use linear layers and torch.nn.functional.scaled_dot_product_attention",
    "Transformer": "build it of linear layers, LayerNorm and torch.nn.functional.scaled_dot_product_attention",
    "ConvTranspose": "use nearest-neighbour Upsample and a convolution",
    "MaxPool": "use AvgPool2d(2, ceil_mode=True)",
    "Adaptive": "use AvgPool2d(2, ceil_mode=True)",
    "Conv3d": "use Conv1d or Conv2d",
    "GLU": "use SiLU, ReLU or GELU, and a product",
    "ReLU": "use SiLU, ReLU or GELU",
    "ELU": "use SiLU, ReLU or GELU",
    "Hard": "use SiLU, ReLU or GELU",
    "Soft": "use SiLU, ReLU or GELU",
    "Mish": "use SiLU, ReLU or GELU",
    "PReLU": "use SiLU, ReLU or GELU",
}


def unsupported(model: nn.Module, path: str = "") -> list[str]:
    """The modules of a network that have no operation: a sentence for each, with its path, its type and a way out.

    Modules inside others are examined; what a module computes in functions rather than modules cannot be seen.
    path: of the network within a larger one.
    """
    obstacle = _obstacle(model)
    if obstacle:
        return [f"{path or 'the network'}: {obstacle}"]
    inner = ((f"{path}.{name}" if path else name, child) for name, child in model.named_children())
    return [sentence for name, child in inner for sentence in unsupported(child, name)]


def _obstacle(module: nn.Module) -> str | None:
    """Why one module, without those inside it, has no operation; None if it has one or only holds others."""
    kind = type(module)
    if kind.__module__.startswith("torch.") and kind.__name__.startswith(("MultiheadAttention", "Transformer")):
        return f"{kind.__name__} is not supported; {_hint(kind.__name__)}"
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return conv_obstacle(module)
    if isinstance(module, nn.AvgPool2d):
        plain = (module.kernel_size, module.stride, module.padding) in ((2, 2, 0), ((2, 2), (2, 2), 0))
        return None if plain else "AvgPool2d is supported with squares of 2; use AvgPool2d(2, ceil_mode=True)"
    if isinstance(module, nn.Upsample):
        plain = module.mode == "nearest"
        return None if plain else f"Upsample of mode {module.mode!r} is not supported; use mode 'nearest'"
    if (
        kind in _PLAIN
        or next(module.children(), None) is not None
        or isinstance(module, (nn.ModuleList, nn.ModuleDict))
    ):
        return None
    if isinstance(module, nn.Sequential):
        return None  # an empty one
    if not kind.__module__.startswith("torch."):
        return f"{kind.__name__} is not supported; build it of Linear, Conv1d, Conv2d, norms and SiLU, ReLU or GELU"
    return f"{kind.__name__} is not supported; {_hint(kind.__name__)}"


def _hint(name: str) -> str:
    found = [hint for part, hint in _HINTS.items() if part in name]
    return found[0] if found else "use Linear, Conv1d, Conv2d, norms, attention and SiLU, ReLU or GELU"


def conv_obstacle(layer: nn.Conv1d | nn.Conv2d) -> str | None:
    """Why a convolution has no operation; None if it has one."""
    kind = type(layer).__name__
    if layer.padding_mode != "zeros":
        return f"{kind} with padding_mode {layer.padding_mode!r} is not supported; use 'zeros'"
    if layer.groups != 1:
        return f"{kind} with {layer.groups} groups is not supported; use groups=1"
    if set(layer.stride) != {1}:
        return f"{kind} with stride {layer.stride} is not supported; use AvgPool2d(2, ceil_mode=True) and stride 1"
    if len(set(layer.dilation)) != 1:
        return f"{kind} with dilation {layer.dilation} is not supported; use one for both directions"
    spans = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    if not isinstance(layer.padding, str) and any(2 * int(p) != s for p, s in zip(layer.padding, spans, strict=True)):
        return f"{kind} with padding {layer.padding} changes the size of a map; use padding='same'"
    if layer.padding == "valid" and any(spans):
        return f"{kind} with padding 'valid' changes the size of a map; use padding='same'"
    return None
