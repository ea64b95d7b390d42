"""Bodies for sound: the WaveNet, and a perceptron that reads the predictions of adaptive lattices."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ardm.digits import Partial, powers
from ardm.errors import ArdmError
from ardm.exact.native.library import filtered
from ardm.exact.operations.lattice import ERROR, Lattice
from ardm.features import Features, FeaturesAt
from ardm.models.body import Body, Prefix, centred, shifted
from ardm.models.config import ModelConfig
from ardm.models.wavefront import WalkedBody
from ardm.nets import LatticePerceptron, WaveNet
from ardm.nets.lattice import ENERGY, FRACTION, ORDER, ORDERS, PACES, RATES
from ardm.nets.wavenet import nearby
from ardm.precision import home, wide


class WaveBody(Body):
    """A sound → planes → WaveNet.

    Planes: the centre of what each place may still be, and one per stage that says whether its digit is known.  Style
    modern adds the mean and spread of the known neighbours and the deviation from the mean, since in 16 bits
    neighbouring levels differ by 0.00003; mean and spread also place a mixture.  Known digits are embedded as well.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, (4 if config.time else 1) * config.width)
        if not config.causal and config.kernel % 2 == 0:
            raise ArdmError(f"a kernel that looks to both sides has an odd width; got {config.kernel}")
        if config.embedding >= config.width:
            raise ArdmError(f"embedding must be less than width {config.width} in a WaveNet; got {config.embedding}")
        self.single, S, b = config.causal == "single", len(self.digits), self.digits.base
        width = config.embedding or (config.width // 4 if b <= 256 or not config.modern else 0)
        self.embedding = nn.Embedding(S * (b + 1), width) if width else None
        self.trunk = WaveNet(
            1 + S + 3 * config.modern, width, config.width, config.blocks, config.kernel, config.cycle, self.condition_width,
            config.dropout, causal=self.single,
        )  # fmt: skip

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at sites, in style modern with the mean and spread of the known neighbours."""
        like = self.trunk.end.weight
        condition = self.conditioned(state, context, like)
        before = Prefix.of(state) if self.single else None
        if self.single:
            state = Partial(shifted(state.value, 0), shifted(state.depth, 0))
        S, held = len(self.digits), state.to(home(state.depth.device))
        value, known = centred(held, self.digits, torch.double), held.depth.double() / S
        planes = [value, *((held.depth > s).double() for s in range(S))]
        mean = spread = None
        if self.config.modern:
            mean, spread = nearby(value, known, 2 / (self.config.classes - 1), self.single)
            planes += [mean, (value - mean) / spread * (held.depth > 0), spread.log() / 5]
            mean, spread = (x.to(wide(like.dtype)).to(like.device) for x in (mean, spread))
        h = self.trunk(torch.stack(planes, 1).to(wide(like.dtype)).to(like.device), self._embedded(state), condition)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            out = self.trunk.read(h, batch_index, position)
            out = out if before is None else before.guarded(out, batch_index, position)
            if mean is None or spread is None:
                return Features.plain(out)
            loc, scale = (x[batch_index, position].to(wide(out.dtype)) for x in (mean, spread))
            return Features(out, loc, scale)

        return features

    def _embedded(self, state: Partial) -> Tensor | None:
        """(B, E, L): the sum over stages of the row of a known digit, or of the stage's "unknown"."""
        if self.embedding is None:
            return None
        S, b = len(self.digits), self.digits.base
        stage = torch.arange(S, device=state.value.device)
        digit = state.value[..., None] // powers(b, S - 1 - stage) % b
        rows = torch.where(state.depth[..., None] > stage, digit, b) + (b + 1) * stage
        return self.embedding(rows).sum(-2).transpose(1, 2)


class LatticeBody(WalkedBody):
    """Samples → a bank of adaptive lattices → a perceptron.  Items (D,) of any length."""

    trunk: LatticePerceptron
    remembers = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        limit = (config.classes - 1) << FRACTION
        if limit >= 1 << ERROR - 1:
            raise ArdmError(f"trunk lattice takes at most 2^{ERROR - 1 - FRACTION} classes; got {config.classes}")
        self.bank = Lattice(ORDER, FRACTION, ENERGY, limit, RATES, ORDERS, PACES)
        self.trunk = LatticePerceptron(config.classes, config.width, config.blocks)

    def planes(self, state: Partial) -> Tensor:
        """(B, D, 1 + n) int64: the known samples in half steps, 0 elsewhere, and what the bank says before each of them."""
        value = ((2 * state.value - (self.digits.classes - 1)) * (state.depth > 0)).flatten(1)
        said = torch.from_numpy(filtered(self.bank, value.cpu().numpy())).to(value.device, torch.int64)
        return torch.cat([value[..., None], said], -1)
