"""ByteNet over both sides: residual blocks of dilated convolutions, as the protein models CARP and EvoDiff have them.

Written after the architecture of `ByteNetLM` (github.com/microsoft/protein-sequence-models,
sequence_models/convolutional.py), as github.com/microsoft/evodiff, evodiff/model.py, uses it; the blocks are those of
Kalchbrenner et al. (arXiv 1610.10099).  A block of dilation d, with an activation a of LayerNorms n:

    h ← h + wide(a(n3(conv_d(a(n2(narrow(a(n1(h)))))))))
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ardm.nets.products import Linear
from ardm.precision import widened


class ByteNetLayer(nn.Module):
    """A residual block; see the module.  gelu: the activation, GELU or else ReLU."""

    def __init__(self, width: int, inner: int, kernel: int, dilation: int, gelu: bool) -> None:
        super().__init__()
        self.gelu = gelu
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(inner), nn.LayerNorm(inner)
        self.narrow, self.wide = Linear(width, inner), Linear(inner, width)
        self.conv = nn.Conv1d(inner, inner, kernel, padding=dilation * (kernel - 1) // 2, dilation=dilation)

    def forward(self, h: Tensor) -> Tensor:
        """h (B, L, width) → the same shape."""
        x = self._active(self.norm2(self.narrow(self._active(self.norm1(h)))))
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return h + self.wide(self._active(self.norm3(x)))

    def _active(self, x: Tensor) -> Tensor:
        return F.gelu(x) if self.gelu else F.relu(x)


class ByteNet(nn.Module):
    """Token ids → normalised features at all places.  Beyond the ends stand zeros.

    rows, embedding: of the embedding.  inner: channels of the convolutions.  cycle: block i has dilation 2^(i mod cycle).
    """

    def __init__(
        self, rows: int, embedding: int, width: int, inner: int, layers: int, kernel: int, cycle: int, gelu: bool
    ) -> None:
        super().__init__()
        self.embedding, self.first = nn.Embedding(rows, embedding), Linear(embedding, width)
        self.layers = nn.ModuleList(ByteNetLayer(width, inner, kernel, 2 ** (i % cycle), gelu) for i in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, L) int64 → (B, L, width)."""
        h = self.first(self.embedding(ids))
        for layer in self.layers:
            h = layer(h)
        return widened(self.norm(h))
