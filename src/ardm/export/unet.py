"""The paper's U-Net in integers: convolutions, norms, swish and attention over the whole item.

    stream     what blocks add to: at most `high`.  Scales of streams are powers of two apart, so that a shift brings a
               skip connection to the scale of what it joins
    norms      read a stream of one scale, make numbers of at most `high`
    swish      a table, from those to activations
    matrices   read activations, make streams

The time embedding depends on the number of known digits alone: it is a table with a row for each number.
The mean and the spread of the known neighbours, around which a mixture is placed, are quotients and roots of integers.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ardm.ans import GRID
from ardm.exact.program import Program
from ardm.export.builder import Layers, Value
from ardm.export.calibrate import Examples, Ranges, over_states
from ardm.export.functions import swish
from ardm.export.heads import softmax
from ardm.export.neighbours import Neighbours
from ardm.export.parts import affine_of, digits_of, expected, output_of, trunk_of
from ardm.export.precision import Make, Precision
from ardm.export.quantise import floats
from ardm.heads import MixtureHead
from ardm.model import Model
from ardm.nets.neighbours import SPREAD_FLOOR
from ardm.nets.unet import Attention, Block, UNet

EMBEDDED = 2047
"""The least integer for 1 in the embedding of a value."""


def unet(model: Model, examples: Examples) -> Make:
    """The exporter of U-Nets, without context.  Examples have the size of the model's items.

    Raises ArdmError where the model has another trunk, or where a size leaves the exact range of every container.
    """
    trunk = expected(trunk_of(model), UNet, "the network")
    digits_of(model)
    ranges = over_states(model, examples)
    return lambda bits: _Export(model, trunk, ranges, bits).program()


class _Export:
    """The layers of one network."""

    def __init__(self, model: Model, trunk: UNet, seen: Ranges, bits: Precision) -> None:
        self.model, self.trunk, self.seen = model, trunk, seen
        self.digits = digits_of(model)
        C, H, W = model.shape
        self.build = Layers(C, self.digits, bits, (H, W))
        norms = [m for m in trunk.modules() if isinstance(m, nn.GroupNorm)]
        planes, groups = max(m.num_channels for m in norms), min(m.num_groups for m in norms)
        self.high = min(self.build.high, (1 << 29) // (planes // groups * H * W))  # squares of the widest must fit
        self.condition: Value | None = None

    def program(self) -> Program:
        """The whole network."""
        trunk, build = self.trunk, self.build
        h = self._matrix("input", self._planes(), trunk.input, bits=build.bits.first)
        self.condition = self._condition()
        each = len(trunk.down) // trunk.levels
        skips, sizes = [h], []
        for i, pair in enumerate(trunk.down):
            h = self._pair(f"down{i}", pair, h)
            skips.append(h)
            if (i + 1) % each == 0 and i + 1 < len(trunk.down):
                sizes.append(h)
                h = Value(build.op("pool", f"pool{i}", [h.name]), h.scale)
                skips.append(h)
        before, between, after = trunk.middle
        h = self._block("middle0", before, h)
        h = self._extra("middle1", between, h)
        h = self._block("middle2", after, h)
        for i, pair in enumerate(trunk.up):
            h = self._pair(f"up{i}", pair, build.concat(f"both{i}", *build.alike(f"both{i}", h, skips.pop())))
            if (i + 1) % (each + 1) == 0 and sizes:
                h = Value(build.op("grow", f"grow{i}", [h.name, sizes.pop().name]), h.scale)
        return self._head(self._rows(h))

    # --- the input ------------------------------------------------------------------------------------------------

    def _planes(self) -> Value:
        """The planes of the input: the centre of the possible values, the known digits, and the embedding.

        All have one scale, so that one number of bits serves all weights.
        """
        build, digits, body = self.build, self.digits, self.model.body
        K, C = digits.classes, build.bounds["value"].planes
        embedding = getattr(body, "embedding", None)
        finer = 1 if embedding is None else max(1, EMBEDDED // (K - 1))
        scale, name = (K - 1.0) * finer, "value"
        if finer > 1:
            name = build.op("table", "finer", ["value"], {"table": np.arange(1 - K, K) * finer}, low=1 - K)
        parts = [Value(name, np.full(C, scale))]
        for s in range(len(digits)):
            more_known = (np.arange(len(digits) + 1) > s) * scale
            build.op("table", f"known{s}", ["depth"], {"table": more_known}, low=0)
            parts.append(Value(f"known{s}", np.full(C, scale)))
        if isinstance(embedding, nn.Embedding):
            table = floats(embedding.weight)
            known = build.op("known", "told", ["value", "depth"])
            parts.append(build.embed("embedding", known, table, scale))
        return build.concat("planes", *parts)

    def _condition(self) -> Value | None:
        """The conditioning vector after swish, a map of one place, by the number of known digits."""
        condition = getattr(self.model.body, "condition", None)
        if condition is None:
            return None
        C, H, W = self.model.shape
        count = C * H * W * len(self.digits) + 1 if getattr(condition, "time", None) is not None else 1
        depth = torch.arange(count, device="cpu")[:, None, None, None].expand(-1, C, H, W)[:, :1, :1, :1]
        with torch.no_grad():
            like = next(self.trunk.parameters())
            rows = torch.cat([_vectors(condition, d, C * H * W, like) for d in depth.split(256)])
        made = swish(floats(rows))
        scale = float(self.build.scale(np.abs(made).max(), self.build.top)[0])
        self.build.op("count", "condition", ["depth"], {"table": np.rint(made * scale)})
        return Value("condition", np.full(made.shape[1], scale))

    # --- blocks -------------------------------------------------------------------------------------------------------

    def _stream(self, *largest: float) -> float:
        """The scale of a stream, a power of two."""
        most = sum(largest)
        return 2.0 ** math.floor(math.log2(self.high / most)) if most > 0 else 1.0

    def _matrix(
        self, out: str, a: Value, layer: nn.Conv2d | nn.Linear, scale: float | None = None, bits: int | None = None
    ) -> Value:
        """A convolution or linear layer whose result is a stream."""
        scale = self._stream(self.seen.made(layer)) if scale is None else scale
        return self.build.conv(out, a, layer, np.array([scale]), self.high, bits)

    def _swished(self, out: str, h: Value, layer: nn.GroupNorm, then: nn.Module) -> Value:
        """norm → swish, as activations for the layer `then`."""
        build = self.build
        made = build.norm(out, h, layer, build.scale(self.seen.made(layer), build.table_top))
        return build.function(f"{out}.swish", made, swish, float(build.scale(self.seen.given(then))[0]))

    def _block(self, name: str, module: nn.Module, x: Value) -> Value:
        """norm → swish → convolution → (+ condition), twice, added to the input."""
        build, block = self.build, expected(module, Block, "a block of the network")
        h = self._matrix(f"{name}.conv1", self._swished(f"{name}.norm1", x, block.norm1, block.conv1), block.conv1)
        if block.condition is not None and self.condition is not None:
            more = self._matrix(f"{name}.condition", self.condition, block.condition)
            h = build.add(f"{name}.conditioned", h, more, self.high)
        a = self._swished(f"{name}.norm2", h, block.norm2, block.conv2)
        scale = self._stream(self.seen.made(block))
        if isinstance(block.skip, nn.Conv2d):
            x = self._matrix(f"{name}.skip", x, block.skip, scale, build.bits.first)
        else:
            scale = min(scale, x.one)
        return build.add(name, x, self._matrix(f"{name}.conv2", a, block.conv2, scale), self.high)

    def _extra(self, name: str, extra: nn.Module, x: Value) -> Value:
        """Attention; other modules do nothing."""
        if not isinstance(extra, Attention):
            return x
        build, width = self.build, len(x.scale)
        a = build.norm(f"{name}.norm", x, extra.norm, build.scale(self.seen.planes(extra.norm)), build.top)
        most = self.seen.planes(extra.qkv).reshape(3, width)
        top = build.top << 2
        one, other, by = build.scores(float(most[0].max()), float(most[1].max()), width, top)
        scale = [one, other, build.scale(most[2])]
        q, k, v = (
            build.conv(f"{name}.{part}", a, _part(extra.qkv, i, width), scale[i], top if i < 2 else build.top)
            for i, part in enumerate("qkv")
        )
        o = build.attention(f"{name}.attention", q, k, v, heads=1, by=by)
        stream = min(self._stream(self.seen.made(extra)), x.one)
        return build.add(name, x, self._matrix(f"{name}.out", o, extra.out, stream), self.high)

    def _pair(self, name: str, pair: nn.Module, x: Value) -> Value:
        block, extra = pair.children()
        return self._extra(f"{name}.extra", extra, self._block(name, block, x))

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _rows(self, h: Value) -> Value:
        """The features at the sites asked."""
        build, trunk, seen = self.build, self.trunk, self.seen
        channel = floats(trunk.channel)
        scale = build.scale(seen.made(trunk.norm) + np.abs(channel).max(), build.table_top)
        row = build.at("row", build.norm("norm", h, trunk.norm, scale))
        row = build.channel("site", row, channel)
        a = build.function("site.swish", row, swish, float(build.scale(seen.given(trunk.turn), build.high)[0]))
        weight, bias = affine_of(trunk.turn)
        made = build.scale(seen.made(trunk.turn), build.table_top)
        turned = build.linear("turn", a, weight, bias, made, build.table_top, build.bits.first)
        output = output_of(self.model)
        return build.function("features", turned, swish, float(build.scale(seen.given(output), build.high)[0]))

    def _head(self, a: Value) -> Program:
        """The last layer in the units of its head."""
        build, head = self.build, self.model.head
        if isinstance(head, MixtureHead):
            self._mixture(a, head)
            return build.program()
        weight, bias = affine_of(output_of(self.model))
        o = build.linear("output", a, weight, bias, np.array([float(GRID)]), 1 << 22, max(12, build.bits.first))
        softmax(build, head, o.name)
        return build.program()

    def _mixture(self, a: Value, head: MixtureHead) -> None:
        """Logistics around the neighbours' mean, in units of their spread."""
        build, K, M = self.build, self.digits.classes, head.components
        own, spread, near = self._near()
        placed, unit = near.placed, near.unit
        weight, bias = affine_of(output_of(self.model))
        grid, bits = np.array([float(GRID)]), max(12, build.bits.first)
        (wl, wm, ws), (bl, bm, bs) = weight.reshape(3, M, -1), bias.reshape(3, M)
        logits = build.linear("logits", a, wl, bl, grid, 1 << 22, bits)
        means = build.linear("means", a, wm, bm + floats(head.places), np.array([2.0**placed]), 64 << placed, bits)
        scales = build.linear("scales", a, ws, bs - 0.5, grid, 7 * GRID, bits)
        apart = build.op("gate", "apart", [means.name, build.op("concat", "spreads", [spread] * M)], by=unit)
        lo, hi = int(build.bounds[spread].lo[0]), int(build.bounds[spread].hi[0])
        less = -GRID * np.log(np.maximum(np.arange(lo, hi + 1), 1) / 2.0**unit)
        build.op("table", "fineness", [spread], {"table": np.rint(less)}, low=lo)
        build.op("less", "widths", [scales.name, "fineness"])
        build.op("concat", "output", [logits.name, apart, "widths"])
        widest = math.ceil(build.bounds["widths"].size.max())
        sharp = 7.0 - math.log(SPREAD_FLOOR * (K - 1))
        fine = max(0, min(48, 30 - math.ceil(sharp / math.log(2))))
        inverse = np.exp(np.minimum(-np.arange(-widest, widest + 1) / GRID, sharp)) * 2.0**fine
        tensors = {"inverse": np.rint(inverse), "places": np.zeros(M)}
        build.op(
            "mixture", "head", ["output", own], tensors,
            components=M, fraction=placed, bits=fine, rise=0, limit=(64 * K) << placed,
        )  # fmt: skip

    def _near(self) -> tuple[str, str, Neighbours]:
        """The neighbours' mean and spread of the site's channel."""
        build, near = self.build, Neighbours(self.build, self.digits)
        mean = near.mean("centre", near.placed)
        near.spread("spread", mean)
        own = [build.op("pick", f"own.{name}", [build.op("at", f"at.{name}", [name])]) for name in ("centre", "spread")]
        return own[0], own[1], near


def _part(layer: nn.Conv2d, part: int, width: int) -> nn.Linear:
    """Queries, keys or values alone, of the layer that makes all three."""
    mine = slice(part * width, (part + 1) * width)
    made = nn.utils.skip_init(nn.Linear, layer.in_channels, width, dtype=torch.double)
    with torch.no_grad():
        made.weight.copy_(layer.weight[mine, :, 0, 0])
        made.bias.copy_(expected(layer.bias, Tensor, "a bias")[mine])
    return made


def _vectors(condition: nn.Module, depth: Tensor, sites: int, like: Tensor) -> Tensor:
    """The conditioning vectors by number of known digits: depth (R, 1, 1, 1)."""
    whole = depth.to(like.dtype) / sites  # its sum over one site, divided by the number of sites
    found: Tensor = condition(whole, None, like)
    return found
