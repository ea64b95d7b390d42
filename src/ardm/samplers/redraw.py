"""Block Gibbs sampling: hide a random share of an item, draw it again given the rest, and repeat.  It has no likelihood.

Along a plan every digit is revealed once, and the probabilities of these steps multiply to the likelihood of the item.  Here
a digit may be drawn many times.  What counts is the last one, and its probability is a sum over all paths that end in the
same item, which cannot be listed.  This and `remasking` are therefore functions, and no plans: nothing that scores or codes
takes them.

If the conditional distributions of a model agree with one joint distribution, and the hidden digits are redrawn one per
call, then this distribution stays what it is, and any other comes closer to it.  A trained network agrees only roughly, and
several digits per call are drawn as if they were independent: then it is a heuristic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ardm import inputs
from ardm.api import Array, Order, budget, bundle_of, generate, in_closed_form, started
from ardm.bundle import Bundle
from ardm.errors import ArdmError
from ardm.model import Model
from ardm.precision import home
from ardm.random_numbers import HIDING, REFINING, RandomNumbers
from ardm.walk import last


def refine(
    bundle: Bundle | Model,
    x: Array,
    sweeps: int = 1,
    share: float = 0.1,
    known: Array | None = None,
    calls: int | None = None,
    order: Order | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    context: Array | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Hide a random share of x (B, *shape), or of one item, draw it again given the rest, and repeat: block Gibbs sampling.

    sweeps: how often.  share: of the values that are not known beforehand, in (0, 1]; a sweep hides this share of each
    item, at least one value.  known: a mask of values that stay, of the shape of x or of one item.
    calls: per sweep, at most; as many as hidden digits for exact conditional draws.  Other arguments: see `ardm.fill`.
    The result has the shape of x, in int64, on its device, and no likelihood.
    Raises ArdmError for models of a single order, which cannot fill in the middle.
    """
    bundle, sweeps, share = bundle_of(bundle), inputs.number(sweeps, "sweeps"), share_of(share)
    refuse_single(bundle, "refined")
    now = inputs.items(x, bundle.model)
    kept = inputs.depths(torch.zeros_like(now, dtype=torch.bool) if known is None else known, now, bundle.model.digits)
    if known is not None and inputs.tensor(known).dtype not in (torch.bool, torch.uint8):
        raise ArdmError("known must be a mask of bool (or of uint8, 0 and 1): refinement hides whole values")
    spent, chosen = budget(bundle, calls, order, now[0].numel())
    context = inputs.context(context, len(now))
    own = RandomNumbers(seed).child(REFINING)
    for sweep in range(sweeps):
        numbers = own.child(sweep)
        start, plan = started(bundle, now, ~_hidden(kept > 0, share, numbers), spent, chosen, numbers)
        drawn = generate(bundle, plan, start, numbers, temperature, context, top_k, top_p)
        now = in_closed_form(bundle, last(drawn, start).value)
    now = now.to(x.device) if isinstance(x, Tensor) else now
    return now[0] if inputs.single(x, bundle.model) else now


def _hidden(kept: Tensor, share: float, numbers: RandomNumbers) -> Tensor:
    """(B, *shape) bool: a random share of the sites of each item that are not kept, at least one if there is one."""
    flat = kept.flatten(1).to(home(kept.device))
    key = numbers.child(HIDING).grid(len(flat), 1, flat.shape[1], flat.device)[:, 0].masked_fill(flat, 2.0)
    count = ((~flat).sum(1) * share).round().long().clamp(min=1)
    chosen = key.argsort(dim=1, stable=True).argsort(1) < count[:, None]
    return (chosen & ~flat).view(kept.shape).to(kept.device)


def share_of(share: float, least: float | None = None, name: str = "share") -> float:
    """A share in (0, 1]; from `least` on, where given."""
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    if not number or not (0 < share <= 1 or share == least):
        raise ArdmError(f"{name} must be a number above 0 and at most 1; got {share!r}")
    return float(share)


def refuse_single(bundle: Bundle, what: str) -> None:
    """Raise ArdmError for a model of a single order."""
    if bundle.config.causal in ("single", "wave"):
        raise ArdmError(f"{bundle.name} has a single order, and cannot be {what}: use a model of any order")
