"""Wrap a network of your own: any function or module from (value, depth) to logits.

    model = ardm.wrap(net, shape=(16,), classes=5)          # net(value, depth) → logits (B, 16, 5)
    x = ardm.sample(model, 8)                               # and ardm.fill, ardm.score

`net(value, depth)` is called with two tensors (B, *shape) int64.  depth says how many digits of each site are known (in
an order-agnostic model, base 0: 1 where known, else 0), and value what they say.  Unknown digits of value are 0, so a
network that ignores depth cannot tell "unknown" from "0".  It may write into both.  It returns logits at every site:
(B, *shape, K) of the values or, with head="digits", (B, *shape, S·b) of the digits of every stage, the most significant
first.  With context it is called as `net(value, depth, context)`.  The network may have any structure, since hidden values
never reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from torch import Tensor, nn

from ardm.digits import Digits, Partial
from ardm.errors import ArdmError
from ardm.features import Features, FeaturesAt
from ardm.heads import DigitHead, ValueHead
from ardm.inputs import number
from ardm.model import Model


class Wrapped(nn.Module):
    """A body whose features are the logits of a network; its parameters are those of the network."""

    def __init__(self, net: Callable[..., Tensor], outputs: int) -> None:
        super().__init__()
        self.net, self.outputs = net, outputs

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Logits at sites."""
        given = (state.value, state.depth, *(() if context is None else (context,)))
        logits = self.net(*(v.clone() for v in given))  # the network may write into its inputs
        wanted = (*state.value.shape, self.outputs)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
            found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else described(logits)
            raise ArdmError(f"the network must return logits {wanted}, those of each site last; it returned {found}")
        D = prod(state.shape)
        rows = logits.reshape(-1, self.outputs)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            return Features.plain(rows[batch_index * D + position])

        return features


def wrap(net: Callable[..., Tensor], shape: Sequence[int], classes: int, base: int = 0, head: str = "values") -> Model:
    """Make a model of the network `net`, a function or a module, called as described in this module.

    shape: of one item.  classes: K.  base: b, for depth upscaling in S digits; 0: whole values.
    head: "values" (logits of the K values) or "digits" (of S·b digits, stage after stage).
    `ardm.sample`, `fill` and `score` take the model, and so do `walk`, `likelihood` and `objective.bound_step`.  To add a
    loss curve: `ardm.Bundle(model, ardm.ModelConfig(shape=shape, classes=classes), curve=likelihood.curve(…))`.  Such a
    bundle cannot be saved, because only you can build the network again.
    Raises ArdmError for another head or base, and, when called, for logits of another shape.
    """
    if not callable(net):
        raise ArdmError(f"net must be a function or a module net(value, depth) → logits; got {described(net)}")
    shape = tuple(number(n, "a size of shape") for n in ((shape,) if isinstance(shape, int) else shape))
    if not shape:
        raise ArdmError("shape must have at least one axis; got ()")
    classes, base = number(classes, "classes", 2), number(base, "base", 0)
    digits = Digits(classes, base or classes)
    if head not in ("values", "digits"):
        raise ArdmError(f"head must be values or digits; got {head!r}")
    body = Wrapped(net, classes if head == "values" else len(digits) * digits.base)
    return Model(digits, shape, body, (ValueHead if head == "values" else DigitHead)(digits, 0))


def described(x: object) -> str:
    """What something is, for an error: "a tuple", "an int"."""
    name = type(x).__name__
    return "nothing" if x is None else f"a{'n' * (name[0].lower() in 'aeiou')} {name}"
