"""A causal convolutional network along wavefronts: all values share their features, and one dense pass serves all.

A pixel (y, x) has the key x + 2y, and a step of the order reveals one channel of all pixels of one key.  Everything of
smaller key is known then: the pixels W, NW, N and NE, and beyond.  The first layer reads a window of known cells, less
the mean of the nearest; a block reads its own pixel and these four neighbours.  So a pixel's features never change once
they can be computed: training scores all positions in one pass, and a walk computes each pixel once (`Memory`).

A sequence is a picture of one row, whose blocks read one earlier place at dilations that grow.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ardm.features import Features, FeaturesAt
from ardm.nets import shifted
from ardm.nets.neighbours import FRACTION, UNIT
from ardm.precision import wide, widened

SLOPE = 2
"""The key of pixel (y, x) is x + SLOPE · y."""
ROWS, SIDE, REACH = 3, 3, 16
"""The first window: rows above and columns to each side of a pixel, and earlier places of a sequence."""

Cell: TypeAlias = tuple[int, int]
"""An offset (dy, dx)."""
Number = TypeVar("Number", int, Tensor)


def window(line: bool = False) -> list[Cell]:
    """The known cells of the first window: those of smaller key, row by row."""
    rows, left, right = (0, REACH, 0) if line else (ROWS, SIDE, SIDE)
    return [(dy, dx) for dy in range(-rows, 1) for dx in range(-left, right + 1) if key(dy, dx) < 0]


def key(y: Number, x: Number) -> Number:
    """The wavefront of a pixel, or of pixels."""
    return x + SLOPE * y


class Block(nn.Module):
    """h ← h + down · relu(up · relu(h at the taps)); down is 0 at the start.

    up: (V, taps · W), tap after tap.  dilation: of a sequence, whose taps are one earlier place and the place itself; 0
    for pictures, whose taps are NW, N, NE, W and the pixel itself.
    """

    def __init__(self, width: int, inner: int, dilation: int = 0) -> None:
        super().__init__()
        self.dilation = dilation
        self.taps: list[Cell] = [(0, -dilation), (0, 0)] if dilation else [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)]
        inputs = len(self.taps) * width
        self.up = nn.Parameter(torch.randn(inner, inputs) * (2 / inputs) ** 0.5)
        self.ub = nn.Parameter(torch.zeros(inner))
        self.down = nn.Parameter(torch.zeros(width, inner))
        self.db = nn.Parameter(torch.zeros(width))

    def forward(self, h: Tensor, across: int = 0) -> Tensor:
        """Every pixel of h (B, W, H, W') at once: computed in the dtype of the weights, added in that of h.

        across: W', if h is in the layout of `shifted` instead.
        """
        if across:
            return shifted.block(h, (self.up, self.ub, self.down, self.db), across)
        a = F.pad(F.relu(h).to(self.up.dtype), (self.dilation, 0, 0, 0) if self.dilation else (1, 1, 1, 0))
        t = F.relu(F.conv2d(a, self._kernel(), self.ub, dilation=(1, max(self.dilation, 1))))
        return h + F.conv2d(t, self.down[:, :, None, None], self.db).to(h.dtype)

    def _kernel(self) -> Tensor:
        """`up` as a kernel of 2 × 3 cells, the last of them 0, or of 1 × 2 cells."""
        rows, columns = (1, 2) if self.dilation else (2, 3)
        spare = rows * columns - len(self.taps)
        cells = self.up.view(len(self.up), len(self.taps), -1)
        whole = torch.cat([cells, cells.new_zeros(len(cells), spare, cells.shape[2])], 1)
        kernel = whole.view(len(cells), rows, columns, -1).permute(0, 3, 1, 2)
        return kernel.contiguous(memory_format=torch.channels_last)

    def rows(self, h: Tensor, near: Tensor) -> Tensor:
        """The same for rows h (…, W), from relu(h) at the taps of each, near (…, taps · W)."""
        t = F.relu(F.linear(near.to(self.up.dtype), self.up, self.ub))
        return h + F.linear(t, self.down, self.db).to(h.dtype)


class Wavefront(nn.Module):
    """The window of known cells, blocks, and one small layer for each channel.

    channels: C of the pictures.  width: W, of the features.  inner: V, inside the blocks.  blocks: their number.
    levels: K − 1; the neighbours' mean is rounded to an eighth of a level of K, as an integer network does.
    cycle: for sequences, block i has dilation 2^(i mod cycle); 0: pictures.
    """

    squares: Tensor
    offset: Tensor

    def __init__(self, channels: int, width: int, inner: int, blocks: int, levels: int, cycle: int = 0) -> None:
        super().__init__()
        self.channels, self.width, self.levels = channels, width, levels
        self.cells = window(line=cycle > 0)
        n = len(self.cells)
        self.register_buffer("offset", torch.tensor(self.cells), persistent=False)
        self.first = nn.Parameter(torch.randn(width, channels, n) * (0.5 * (channels * n) ** -0.5))
        self.known = nn.Parameter(torch.zeros(width, n))
        self.bias = nn.Parameter(torch.zeros(width))
        self.cycle = cycle
        self.blocks = nn.ModuleList(Block(width, inner, 2 ** (i % cycle) if cycle else 0) for i in range(blocks))
        self.lift = nn.Parameter(torch.randn(channels, width, width) * (2 / width) ** 0.5)
        self.own = nn.Parameter(torch.zeros(channels, width, channels))
        self.lift_bias = nn.Parameter(torch.zeros(channels, width))
        squares = torch.tensor([dy * dy + dx * dx for dy, dx in self.cells])
        self.register_buffer("squares", squares, persistent=False)  # integers, which a change of dtype does not round

    @property
    def near(self) -> Tensor:
        """(cells,): the weight of each cell in the mean, distance^−3."""
        return self.squares.float() ** -1.5

    # --- all pixels at once ---------------------------------------------------------------------------------------------

    def forward(self, value: Tensor) -> FeaturesAt:
        """value in [−1, 1], (B, C, H, W), of which sites of smaller key than the asked ones are read → features at sites."""
        f, mean = self._dense(value)
        pixels = value.shape[2] * value.shape[3]
        own = value.flatten(2).transpose(1, 2)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            at = batch_index, position % pixels
            return self.read(f[at], mean[at], own[at], position // pixels)

        return features

    def everywhere(self, value: Tensor) -> Features:
        """Features of all sites of value (B, C, H, W), item by item in the order of their positions."""
        f, mean = self._dense(value)
        own = value.flatten(2).transpose(1, 2)
        each = [self._channel(c, f, mean, own) for c in range(self.channels)]
        hidden = torch.stack([z for z, _ in each], 1).flatten(0, 2)
        loc = torch.stack([at for _, at in each], 1).flatten()
        return Features(hidden, loc, torch.full_like(loc, UNIT))

    def _dense(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H · W', W): relu(h) of every pixel, and (B, H · W', C): the mean of its known neighbours."""
        B, _, H, W = value.shape
        y, x = torch.arange(H, device=value.device), torch.arange(W, device=value.device)
        h, mean = self.stream(value, y.repeat_interleave(W), x.repeat(H))
        return F.relu(self.deep(h.view(B, H, W, -1))).flatten(1, 2), mean

    def deep(self, h: Tensor) -> Tensor:
        """h (B, H, W', W) after all blocks."""
        across = 0 if self.cycle or h.device.type != "cpu" or self._mixed(h) else h.shape[2]
        h = shifted.laid(h) if across else h.permute(0, 3, 1, 2)  # in memory, channels stay last
        for block in self.blocks:
            h = block(h, across)
        return shifted.pixels(h, across) if across else h.permute(0, 2, 3, 1)

    def _mixed(self, h: Tensor) -> bool:
        """Whether blocks compute in another dtype than that of h."""
        return torch.is_autocast_enabled(h.device.type) or any(p.dtype != h.dtype for p in self.blocks.parameters())

    def stream(self, value: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """h (B, n, W) after the first layer at n pixels of value (B, C, H, W), and their means (B, n, C).

        In float32 or better: bfloat16 would blur the low digits.
        """
        cells, inside = self._window(value, y, x)
        near = self.near.to(cells.dtype)
        mean = cells @ near / (inside @ near + 1e-9)
        fine = self.levels * 2**FRACTION
        mean = (mean * fine + 0.5).floor() / fine
        deviation = (cells - mean[..., None]) * inside / UNIT
        inputs = torch.cat([deviation.transpose(1, 2).flatten(2), inside.expand(len(value), -1, -1)], 2)
        weight = torch.cat([self.first.flatten(1), self.known], 1)
        with torch.autocast(value.device.type, enabled=False):
            return F.linear(inputs, weight.to(inputs.dtype), self.bias.to(inputs.dtype)), mean.transpose(1, 2)

    def _window(self, value: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The cells of n pixels (B, C, n, cells), 0 outside of the picture, and whether they are inside (n, cells)."""
        W = value.shape[3]
        dy, dx = self.offset.unbind(1)
        row, column = y[:, None] + dy, x[:, None] + dx
        inside = ((row >= 0) & (column >= 0) & (column < W)).to(value.dtype)
        place = (row.clamp(min=0) * W + column.clamp(0, W - 1)).flatten()
        cells = value.flatten(2).index_select(2, place).view(*value.shape[:2], *inside.shape)
        return cells * inside, inside

    # --- one layer for each channel -------------------------------------------------------------------------------------

    def read(self, f: Tensor, mean: Tensor, own: Tensor, channel: Tensor) -> Features:
        """Features of N sites from those of their pixels f (N, W), means (N, C), values (N, C) and channels (N,)."""
        hidden, loc = torch.zeros_like(f, dtype=wide(f.dtype)), torch.zeros_like(mean[:, 0])
        for c in range(self.channels):
            mine = (channel == c).nonzero()[:, 0]
            z, at = self._channel(c, f[mine], mean[mine], own[mine])
            hidden, loc = hidden.index_put((mine,), z), loc.index_put((mine,), at)
        return Features(hidden, loc, torch.full_like(loc, UNIT))

    def _channel(self, c: int, f: Tensor, mean: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """z (…, W) and location (…) of channel c, from the features of pixels and what channels before it show."""
        f, gap = widened(f), own - mean
        loc = mean[..., c] + gap[..., c - 1] if c else mean[..., 0]
        with torch.autocast(f.device.type, enabled=False):
            z = F.linear(f, self.lift[c].to(f.dtype), self.lift_bias[c].to(f.dtype))
            if c:
                z = z + F.linear(gap[..., :c] / UNIT, self.own[c, :, :c].to(f.dtype))
        return F.relu(z), loc


class Memory:
    """The features of the last wavefronts of a batch, so that a walk computes those of each pixel once.

    kept: (taps' reach + 1, B, H + 1, W) for each block: relu(h) of the wavefronts, each in place key mod their number, by
    row of the picture; what lies outside of it is 0.  A block reads whole runs of rows of earlier wavefronts.
    """

    def __init__(self, trunk: Wavefront, value: Tensor) -> None:
        B, _, self.height, self.across = value.shape
        self.trunk, self.last = trunk, -1
        self.blocks = [block for block in trunk.blocks if isinstance(block, Block)]
        taps = [tap for block in self.blocks for tap in block.taps]
        self.fronts = 1 - min((key(*tap) for tap in taps), default=0)
        self.kept = [
            value.new_zeros(self.fronts, B, self.height + 1, trunk.width, dtype=wide(value.dtype)) for _ in self.blocks
        ]
        self.top, self.features, self.mean = 0, value[:0], value[:0]

    def reach(self, front: int, value: Tensor) -> None:
        """Go on to a wavefront, no earlier than the last one; all values of smaller key are known in value (B, C, H, W).

        Then features (B, n, W) and mean (B, n, C) are those of its pixels, in rows `top` … `top` + n − 1.
        """
        for k in range(self.last + 1, front + 1):
            self._compute(k, value)
        self.last = front

    def __call__(self, value: Tensor, batch_index: Tensor, position: Tensor) -> Features:
        """Features of N sites in the last wavefront."""
        pixel, channel = position % (self.height * self.across), position // (self.height * self.across)
        at = batch_index, pixel // self.across - self.top
        return self.trunk.read(self.features[at], self.mean[at], value.flatten(2)[batch_index, :, pixel], channel)

    def _compute(self, k: int, value: Tensor) -> None:
        """Compute the features of wavefront k, and keep what later ones read of it."""
        self.top = max(0, -(-(k - self.across + 1) // SLOPE))
        y = torch.arange(self.top, min(self.height - 1, k // SLOPE) + 1, device=value.device)
        h, self.mean = self.trunk.stream(value, y, k - SLOPE * y)
        for block, kept in zip(self.blocks, self.kept, strict=True):
            kept[k % self.fronts] = 0
            kept[k % self.fronts, :, self.top + 1 : self.top + 1 + len(y)] = F.relu(h)
            h = block.rows(h, torch.cat([self._at(kept, k, len(y), *tap) for tap in block.taps], -1))
        self.features = F.relu(h)

    def _at(self, kept: Tensor, k: int, n: int, dy: int, dx: int) -> Tensor:
        """(B, n, W): relu(h) of the pixels of wavefront k, moved by (dy, dx)."""
        row = self.top + 1 + dy
        return kept[(k + key(dy, dx)) % self.fronts, :, row : row + n]
