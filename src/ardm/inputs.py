"""User input: converted to what the library computes with, or refused, all in one place.

Values are tensors or NumPy arrays of any integer type (or bool, where K = 2), on any device; they become int64 on the
device of the model.  A mask is bool, or uint8 of 0 and 1; other integers are depths, the digits known of each site.  Where
the model has a shape, an item without a batch becomes a batch of one.  Everything else raises ArdmError.

lazy, in several functions: do not look at values on an accelerator, which would wait for it.
"""

from __future__ import annotations

import operator
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ardm.errors import ArdmError
from ardm.precision import home

WHOLE = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64, torch.bool,
)  # fmt: skip
"""Accepted types of values."""
PADDING = -1
"""In place of a number of known digits: padding, a site that is never known, never predicted and not counted."""


def device_of(model: object) -> torch.device | None:
    """The device of a model; None for one without parameters, such as a function."""
    if not isinstance(model, nn.Module):
        return None
    return next((v.device for v in chain(model.parameters(), model.buffers())), None)


def number(value: Any, name: str, least: int = 1) -> int:
    """A whole number of at least `least`, from Python or NumPy."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        found = operator.index(value)
    except TypeError:
        raise ArdmError(f"{name} must be a whole number of at least {least}; got {value!r}") from None
    if found < least:
        raise ArdmError(f"{name} must be at least {least}; got {found}")
    return found


def generator(given: Any, name: str = "generator") -> torch.Generator:
    """The generator; raises ArdmError for anything else, and for a seed says what to write."""
    if not isinstance(given, torch.Generator):
        seed = given if isinstance(given, int) and not isinstance(given, bool) else 0
        raise ArdmError(
            f"{name} must be a torch.Generator; got {given!r:.40}: write torch.Generator().manual_seed({seed})"
        )
    return given


def seeded(seed: Any, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on the `home` of a device, from a seed, a whole number of 64 bits."""
    found = number(seed, "seed", 0)
    if found >= 1 << 64:
        raise ArdmError(f"seed must lie below 2**64; got {found}")
    return torch.Generator(home(torch.device(device))).manual_seed(found)


def tensor(x: Any, name: str = "x") -> Tensor:
    """A tensor as it is, or a copy of an array as a tensor, of any type."""
    if isinstance(x, np.ma.MaskedArray):
        raise ArdmError(f"{name} is a masked array: give its data, and its mask as an argument of its own")
    if isinstance(x, (np.ndarray, np.generic)):
        if x.dtype.kind not in "biuf":
            raise ArdmError(f"{name} must hold numbers; got an array of {x.dtype}: convert it with .astype")
        if x.dtype.kind == "f" and x.dtype.itemsize > 8:
            raise ArdmError(
                f"{name} must hold numbers of at most 64 bits; got an array of {x.dtype}: convert it with .astype"
            )
        array = np.asarray(x)
        return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape).copy())
    if not isinstance(x, Tensor):
        raise ArdmError(f"{name} must be a tensor or a NumPy array; got {type(x).__name__}: convert it with np.asarray")
    if x.device.type == "meta" or x.layout != torch.strided:
        kind = "device meta, which holds no values" if x.device.type == "meta" else f"layout {x.layout}"
        raise ArdmError(f"{name} must be a dense tensor; got one of {kind}")
    return x


def integers(x: Any, name: str = "x") -> Tensor:
    """Whole numbers of any type as int64.  Values are looked at only in uint64, and for errors."""
    found = tensor(x, name)
    if found.dtype == torch.long:
        return found
    if found.dtype not in WHOLE:
        shown = f", such as {found.detach().reshape(-1)[0].item()}" if found.numel() else ""
        grad = ".detach()" if found.requires_grad else ""
        needs = " that requires grad" if found.requires_grad else ""
        written = name if name.isidentifier() else ""  # only a name can stand in code
        raise ArdmError(
            f"{name} must hold whole numbers; got {found.dtype}{needs}{shown}: quantise it, or convert it with "
            f"{written}{grad}.long() if its values are whole"
        )
    if found.dtype == torch.uint64 and (high := found.view(torch.int64) < 0).any():
        value = int(found[high][0].item())
        raise ArdmError(f"{name} must hold whole numbers below 2**63; got {value}")
    return found.long()


def items(x: Any, model: Any, name: str = "x", lazy: bool = False) -> Tensor:
    """Items (B, *shape) int64 on the device of a model; a single item becomes a batch of one.

    model: anything with `digits`; its `shape`, if it has one, decides what an item is.
    """
    found, K = integers(x, name), int(model.digits.classes)
    own = getattr(model, "shape", None)
    shape = None if own is None else tuple(own)
    if not found.numel():
        raise ArdmError(f"{name} must hold at least one item; got shape {tuple(found.shape)}")
    if shape is not None and found.ndim == len(shape):
        found = found[None]
    rest = tuple(found.shape[1:])
    while shape is not None and len(rest) > len(shape) and rest[0] == 1:  # a sequence stored as an image of one row
        rest = rest[1:]
    wrong = not rest if shape is None else len(rest) != len(shape)
    if wrong or (shape is not None and len(shape) == 3 and rest[0] != shape[0]):
        own_shape = "(B, *shape)" if shape is None else f"(B, {', '.join(map(str, shape))}), or {shape} for one item"
        raise ArdmError(f"{name} must have the shape {own_shape}; got {tuple(x.shape)}")
    if x.dtype in (torch.bool, np.dtype(bool)) and K != 2:
        raise ArdmError(
            f"{name} holds truth values, and the model has {K} classes: give values 0..{K - 1}; a mask of what is "
            "known is an argument of its own"
        )
    if not lazy or found.device.type == "cpu":
        low, high = int(found.min()), int(found.max())
        if low < 0 or high >= K:
            bad = ((found < 0) | (found >= K)).nonzero()[0].tolist()
            raise ArdmError(
                f"{name} must hold values in 0..{K - 1}; got {low}..{high}, first {int(found[tuple(bad)])} at {tuple(bad)}"
            )
    device = device_of(model)
    return found if device is None else found.to(device)


def columns(x: Tensor, known: Tensor, model: Any, name: str = "x", lazy: bool = False) -> None:
    """Raise ArdmError where a known value of x (B, D) is impossible in its column: the network would misread it.

    known: which values count, broadcast to x.  Does nothing for models without columns.
    """
    limits = getattr(getattr(model, "head", None), "limits", None)
    if limits is None or x.shape[1:] != limits.shape or (lazy and x.device.type != "cpu"):
        return
    wrong = known.expand_as(x) & (x >= limits.to(x.device))
    if wrong.any():
        item, column = wrong.nonzero()[0].tolist()
        raise ArdmError(
            f"column {column} takes values 0..{int(limits[column]) - 1}; {name} gives {int(x[item, column])} there, in item "
            f"{item} (columns and items are counted from 0)"
        )


def single(x: Any, model: Any) -> bool:
    """Whether x is one item without a batch."""
    return getattr(model, "shape", None) is not None and x.ndim == len(model.shape)


def depths(known: Any, x: Tensor, digits: Any, name: str = "known", lazy: bool = False, least: int = 0) -> Tensor:
    """The digits known of each site of x (B, *shape), from a mask or depths of its shape, or of one item for all.

    least: the smallest depth, 0; or PADDING, where sites may be padding.
    """
    found, stages = tensor(known, name), len(digits)
    mask = found.dtype in (torch.bool, torch.uint8)
    if found.dtype not in WHOLE:
        raise ArdmError(
            f"{name} must be a mask of bool (or of uint8, 0 and 1), or integers that count known digits; got {found.dtype}: "
            f"write {name} > 0.5, for example"
        )
    if tuple(found.shape) not in (tuple(x.shape), tuple(x.shape[1:]), (1, *x.shape[1:])):
        raise ArdmError(
            f"x and {name} must have the same shape; got {tuple(x.shape)} and {tuple(found.shape)} (a mask of one item serves all)"
        )
    found = found.to(x.device)
    if found.numel() and (not lazy or x.device.type == "cpu"):
        most = 1 if mask else stages
        low, high = int(found.long().min()), int(found.long().max())
        if low < (0 if mask else least) or high > most:
            hint = f": write {name} > 0, or give depths in another type of integer" if mask else ""
            kind = "a mask of uint8 holds 0 (unknown) and 1 (known)" if mask else f"depths lie in {least}..{most}"
            raise ArdmError(f"{name}: {kind}; got {low}..{high}{hint}")
    found = found.long() * stages if mask else found.long()
    return found.expand_as(x)


def padded(padding: Any, x: Tensor) -> Tensor:
    """(B, *shape) bool: the sites of x that are padding.

    padding: a mask of bool (or of uint8), of the shape of x or of one item for all; or integers of another type, the
    lengths (B,) of sequences (B, D), behind which all is padding.
    """
    found = tensor(padding, "padding")
    if found.dtype in (torch.bool, torch.uint8):
        return depths(found, x, (None,), "padding") > 0
    lengths, D = integers(found, "padding, a mask or lengths,").to(x.device), x.shape[-1]
    if x.ndim != 2 or tuple(lengths.shape) not in ((len(x),), ()):
        raise ArdmError(
            f"padding must be a mask of the shape {tuple(x.shape)} of x, or the lengths ({len(x)},) of sequences; got "
            f"{found.dtype} {tuple(found.shape)}"
        )
    if ((lengths < 0) | (lengths > D)).any():
        raise ArdmError(f"lengths lie in 0..{D}; got {int(lengths.min())}..{int(lengths.max())}")
    return torch.arange(D, device=x.device) >= lengths.expand(len(x))[:, None]


def beforehand(x: Tensor, model: Any, given: Any = None, padding: Any = None, name: str = "given") -> Tensor | None:
    """(B, *shape): the digits of each site of x that are known beforehand, or PADDING; None: neither is said.

    given: a mask or depths, see `depths`.  padding: see `padded`; where both are said of a site, it is padding.
    Raises ArdmError as these, and for a given value that is impossible in its column.
    """
    if given is None and padding is None:
        return None
    known = torch.zeros_like(x) if given is None else depths(given, x, model.digits, name, least=PADDING)
    columns(x, known > 0, model)
    return known if padding is None else known.masked_fill(padded(padding, x), PADDING)


def counted(known: Any, name: str = "depth") -> Tensor:
    """A mask of bool or uint8, or whole numbers, unchanged, for `depths`; raises ArdmError for anything else."""
    found = tensor(known, name)
    return found if found.dtype in WHOLE else integers(found, name)


def context(given: Any, batch: int, device: torch.device | None = None, lazy: bool = False) -> Tensor | None:
    """Class labels (B,) int64 or vectors (B, V) of any integer or float type; a single label serves all items.

    lazy, for training, also keeps the gradients of vectors.
    """
    if given is None:
        return None
    if isinstance(given, int) and not -(1 << 63) <= given < 1 << 63:
        raise ArdmError(f"context must be a class label or vectors; got {given}")
    found = (
        torch.tensor(given, device="cpu")
        if isinstance(given, int) and not isinstance(given, bool)
        else tensor(given, "context")
    )
    if found.is_floating_point():
        if (not lazy or found.device.type == "cpu") and not found.isfinite().all():
            raise ArdmError("context must be finite; it holds NaN or infinity")
    elif found.dtype in WHOLE and found.dtype != torch.bool:
        found = found.long()
        found = found.expand(batch) if not found.ndim else found
    elif found.dtype != torch.bool:
        raise ArdmError(f"context must be class labels or vectors; got {found.dtype}")
    if not found.ndim or len(found) != batch:
        raise ArdmError(f"context must be one class label or vector per item, {batch} in all; got {tuple(found.shape)}")
    found = found if lazy else found.detach()
    return found if device is None else found.to(device)


def refuse_training(network: nn.Module) -> None:
    """Raise ArdmError where dropout or a batch norm is in training mode: a state would have another score each time."""
    for name, m in network.named_modules():
        share = getattr(m, "p" if isinstance(m, nn.modules.dropout._DropoutNd) else "dropout", 0.0)
        dropout = isinstance(share, float) and share > 0
        if m.training and (dropout or isinstance(m, nn.modules.batchnorm._BatchNorm)):
            kind = "dropout" if dropout else "batch norm"
            raise ArdmError(
                f"the model is in training mode, with {kind} in {name or 'itself'}: call model.eval() first"
            )
