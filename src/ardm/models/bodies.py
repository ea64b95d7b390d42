"""From a state to the input of a network, and from its output to features at the sites asked: one body a kind of data."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ardm.digits import Digits, Partial
from ardm.errors import ArdmError
from ardm.features import Features, FeaturesAt
from ardm.models.config import ModelConfig
from ardm.nets import ColumnOutput, Local, PaperUNet, Table, Transformer, UNet, WaveNet
from ardm.nets.wavenet import nearby
from ardm.precise import full, wide, widened

NO_LABEL = -(2**63)
"""Among labels, an item that has none."""


class Condition(nn.Module):
    """Context → one vector an item: a class label (B,) int64, a vector (B, V), and the number of known digits.

    The number of known digits is embedded as in the paper: sinusoids, then two layers of four times the width.
    required: whether an item without a label is refused, since none was seen in training.
    """

    required = False

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.config, self.width = config, width
        self.label = nn.Embedding(config.labels + 1, width) if config.labels else None
        self.vector = nn.Linear(config.vector, width) if config.vector else None
        self.time = None
        if config.time:
            self.time = nn.Sequential(nn.Linear(config.width // 2 * 2, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, depth: Tensor, context: Tensor | None, like: Tensor) -> Tensor:
        """(B, width) in the dtype of like; without context, the row kept for "no label" and no vector."""
        B = len(depth)
        out = like.new_zeros(B, self.width)
        if self.label is not None:
            out = out + self.label(self._rows(context, B, depth.device))
        elif self.vector is not None and context is not None:
            if context.shape != (B, self.config.vector):
                raise ArdmError(f"this model takes vectors ({B}, {self.config.vector}); got {tuple(context.shape)}")
            out = out + full(self.vector, context.to(wide(out.dtype))).to(out.dtype)
        elif context is not None:
            raise ArdmError("this model takes no context: set labels or vector in its configuration")
        if self.time is not None:
            dtype = wide(out.dtype)
            known = depth.flatten(1).sum(1).to(dtype) / depth[0].numel() / len(self.config.digits) * 1000
            half = self.config.width // 2
            rate = torch.exp(torch.arange(half, device=depth.device, dtype=dtype) * (-math.log(1e4) / (half - 1)))
            angle = known[:, None] * rate
            out = out + self.time(torch.cat([angle.sin(), angle.cos()], 1).to(out.dtype))
        return out

    def _rows(self, context: Tensor | None, items: int, device: torch.device) -> Tensor:
        """(B,): the rows of labels; the last one for none."""
        K = self.config.labels
        if context is None:
            if self.required:
                raise ArdmError(
                    f"this model was trained with a label for every item: give labels 0..{K - 1} (context, or --label)"
                )
            return torch.full((items,), K, device=device)
        if context.shape != (items,) or context.dtype != torch.long:
            found = f"{str(context.dtype).removeprefix('torch.')} {tuple(context.shape)}"
            raise ArdmError(f"this model takes one class label an item, 0..{K - 1}, int64 ({items},); got {found}")
        none = context == NO_LABEL
        wrong = ~none & ((context < 0) | (context >= K))
        if context.device.type == "cpu":  # elsewhere the embedding refuses row K + 1, and nobody waits for the device
            if wrong.any():
                raise ArdmError(f"class labels of this model lie in 0..{K - 1}; got {int(context[wrong][0])}")
            if self.required and none.any():
                raise ArdmError(
                    f"this model was trained with a label for every item: give labels 0..{K - 1} (context, or --label)"
                )
        return context.masked_fill(none, K).masked_fill(wrong, K + 1)


class ImageBody(nn.Module):
    """A state → input planes → trunk.  Each site shows the centre of what it may still be, and how much is known."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, self.digits = config, config.digits
        C, S = config.shape[0], len(self.digits)
        conditional = bool(config.labels or config.vector or config.time)
        width = (4 if config.time else 1) * config.width if conditional else 0
        self.condition = Condition(config, width) if conditional else None
        learnt = 0 if config.papers else config.embedding
        self.embedding = nn.Embedding(config.classes + 1, learnt) if learnt else None
        if config.trunk == "unet":
            sizes = {name: getattr(config, name) for name in ("levels", "attention", "dropout", "growth")}
            self.trunk: nn.Module = (
                PaperUNet(
                    C * S,
                    C,
                    config.classes,
                    config.embedding or config.width // 4,
                    config.width,
                    config.blocks,
                    condition=width,
                    **sizes,
                )
                if config.papers
                else UNet(C * (1 + S + learnt), C, config.width, config.blocks, condition=width, **sizes)
            )
        else:
            levels = config.classes - 1 if config.rounded else 0
            self.trunk = Local(C, config.width, config.blocks, config.radius, config.rings, width, levels)

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at the sites asked."""
        K, S = self.config.classes, len(self.digits)
        like = next(self.trunk.parameters())
        condition = None if self.condition is None else self.condition(state.depth, context, like)
        if self.condition is None and context is not None:
            raise ArdmError("this model takes no context: set labels or vector in its configuration")
        dtype = wide(like.dtype)  # half of it would merge values; the trunk narrows what it has read
        masks = [(state.depth > s).to(dtype) for s in range(S)]
        if self.config.papers:  # the paper's absorbing values: K // 2, or digits of 0
            shown = state.value if S > 1 else torch.where(state.depth > 0, state.value, K // 2)
            return self.trunk(shown, torch.cat(masks, 1), condition)
        block = torch.tensor([self.digits.base ** (S - d) for d in range(S + 1)], device=state.depth.device)[
            state.depth
        ]
        spare = torch.minimum(block, K - state.value) - 1
        centre = state.value + spare.to(dtype) / 2  # at depth 0: (K − 1) / 2, the paper's K // 2
        value = 2 * centre / (K - 1) - 1
        known = state.depth.to(dtype) / S
        if self.config.trunk != "unet":
            return self.trunk(value, known, condition)
        planes = [value, *masks]
        if self.embedding is not None:
            rows = torch.where(state.depth > 0, state.value, K)  # an extra class says "nothing known"
            planes.append(self.embedding(rows).permute(0, 1, 4, 2, 3).flatten(1, 2))
        return self.trunk(torch.cat(planes, 1), value, known, condition)


# --- sequences and tables ---------------------------------------------------------------------------------------------


class Body(nn.Module):
    """What the bodies of sequences and tables share: context, embedding rows of values, shifted inputs.

    width: of the vector that context becomes; 0: that of the network.
    """

    limit: Tensor
    offset: Tensor

    def __init__(self, config: ModelConfig, width: int = 0) -> None:
        super().__init__()
        self.config, self.digits = config, config.digits
        conditional = bool(config.labels or config.vector or config.time)
        self.condition_width = (width or config.width) if conditional else 0
        self.condition = Condition(config, self.condition_width) if conditional else None
        if config.columns or config.trunk == "mlp":
            limits = torch.tensor(config.limits)
            self.register_buffer("limit", limits, persistent=False)
            self.register_buffer("offset", limits.cumsum(0) - limits, persistent=False)

    def conditioned(self, state: Partial, context: Tensor | None, like: Tensor) -> Tensor | None:
        """(B, condition_width) of the context and of how much is known; ArdmError where it takes no context."""
        if self.condition is not None:
            return self.condition(state.depth, context, like)
        if context is not None:
            raise ArdmError("this model takes no context: set labels or vector in its configuration")
        return None

    def rows(self, state: Partial) -> Tensor:
        """(B, D): the embedding row of every site.  One table of K values and "unknown", or one for each column."""
        value, known = state.value.flatten(1), state.depth.flatten(1) > 0
        if not self.config.columns and self.config.trunk != "mlp":
            return torch.where(known, value, self.config.classes)
        if value.shape[1] != len(self.offset):
            raise ArdmError(f"this model is for items of {len(self.offset)} columns; got {value.shape[1]}")
        unknown = sum(self.config.limits) + torch.arange(value.shape[1], device=value.device)
        within = torch.minimum(
            value, self.limit - 1
        )  # a value that cannot be must not be read as one of the next column
        return torch.where(known, self.offset + within, unknown)

    def refuse_length(self, length: int) -> None:
        """ArdmError where learned positions are asked for another length than theirs."""
        own = self.config.sites
        if self.config.positions == "learned" and length != own:
            raise ArdmError(f"learned positions serve items of {own} sites; got {length}: use rotary ones")

    @property
    def number_of_rows(self) -> int:
        """How many rows the embedding needs."""
        tabular = self.config.columns or self.config.trunk == "mlp"
        return sum(self.config.limits) + self.config.sites if tabular else self.config.classes + 1

    @property
    def stages(self) -> int:
        """Rows of an embedding of depths: none where a site is known or not."""
        return len(self.digits) + 1 if len(self.digits) > 1 else 0


def leading(state: Partial) -> tuple[Tensor, Tensor]:
    """(B,) how many sites are known before the first that is not, in raster order; (B,) bool, whether some are after it."""
    known = (state.depth.flatten(1) > 0).long()
    first = known.cumprod(1).sum(1)
    return first, known.sum(1) > first


def refuse_gaps(known: tuple[Tensor, Tensor], batch_index: Tensor, position: Tensor) -> None:
    """A model of a single order answers only where all that comes before is known, and nothing after: of `leading`."""
    first, after = known
    early, late = position > first[batch_index], after[batch_index]
    if not (early | late).any():
        return
    if early.any():
        asked, gap = int(position[early][0]), int(first[batch_index][early][0])
        raise ArdmError(
            f"a model of a single order was asked for site {asked}, but site {gap} before it is not known; "
            "walk along plan.raster, or take a model of any order"
        )
    raise ArdmError(
        f"a model of a single order completes only what follows: site {int(first[batch_index][late][0])} is not known, but a site "
        "after it is, which it would not look at; leave unknown all that follows the first unknown site, or take a model "
        "of any order"
    )


def shifted(x: Tensor, start: float) -> Tensor:
    """x (…, L) one place later: what stands before each place, `start` before the first."""
    return torch.cat([torch.full_like(x[..., :1], start), x[..., :-1]], -1)


class SequenceBody(Body):
    """Tokens → Transformer: over both sides, or causal in raster order on inputs one place later.

    A token is a value, or "unknown"; with stages, the value known so far beside how many digits of it are known.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.single = config.causal == "single"
        self.trunk = Transformer(
            self.number_of_rows,
            self.stages,
            config.width,
            config.attends,
            config.blocks,
            config.within,
            config.positions,
            config.sites,
            config.gated,
            config.dropout,
            causal=self.single,
        )
        self.output = ColumnOutput(config.limits, config.width) if config.columns else None

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at the sites asked."""
        rows = self.rows(state)
        self.refuse_length(rows.shape[1])
        condition = self.conditioned(state, context, self.trunk.embedding.weight)
        before = leading(state) if self.single else None
        rows = shifted(rows, self.config.classes) if self.single else rows
        h = self.trunk(rows, state.depth.flatten(1), condition)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            if before is not None:
                refuse_gaps(before, batch_index, position)
            out = self.trunk.read(h, batch_index, position)
            if self.output is not None:
                out = self.output(out, position)
            return Features.plain(out)

        return features


class WaveBody(Body):
    """A sound → planes → WaveNet.

    Planes: the centre of what each place may still be, and one a stage that says whether its digit is known; modern
    ones also the mean and spread of the known neighbours and the deviation from it, since in 16 bits neighbouring
    levels differ by 0.00003.  They place a mixture, too.  Beside them, embeddings of the known digits.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, (4 if config.time else 1) * config.width)
        self.single, S, b = config.causal == "single", len(self.digits), self.digits.base
        width = config.embedding or (config.width // 4 if b <= 256 or not config.gated else 0)
        self.embedding = nn.Embedding(S * (b + 1), width) if width else None
        self.trunk = WaveNet(
            1 + S + 3 * config.gated,
            width,
            config.width,
            config.blocks,
            config.kernel,
            config.cycle,
            self.condition_width,
            config.dropout,
            causal=self.single,
        )

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at the sites asked."""
        like = self.trunk.end.weight
        condition = self.conditioned(state, context, like)
        before = leading(state) if self.single else None
        if self.single:
            state = Partial(shifted(state.value, 0), shifted(state.depth, 0))
        S = len(self.digits)
        value, known = centred(state, self.digits), state.depth.double() / S
        planes = [value, *((state.depth > s).double() for s in range(S))]
        mean = spread = None
        if self.config.gated:
            mean, spread = nearby(value, known, 2 / (self.config.classes - 1), self.single)
            planes += [mean, (value - mean) / spread * (state.depth > 0), spread.log() / 5]
        h = self.trunk(torch.stack(planes, 1).to(wide(like.dtype)), self._embedded(state), condition)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            if before is not None:
                refuse_gaps(before, batch_index, position)
            out = self.trunk.read(h, batch_index, position)
            if mean is None or spread is None:
                return Features.plain(out)
            dtype = wide(out.dtype)
            return Features(out, mean[batch_index, position].to(dtype), spread[batch_index, position].to(dtype))

        return features

    def _embedded(self, state: Partial) -> Tensor | None:
        """(B, E, L): the sum over stages of the row of a known digit, or of the stage's "unknown"."""
        if self.embedding is None:
            return None
        S, b = len(self.digits), self.digits.base
        places = torch.tensor([b ** (S - 1 - s) for s in range(S)], device=state.value.device)
        stage = torch.arange(S, device=places.device)
        digit = state.value[..., None] // places % b
        rows = torch.where(state.depth[..., None] > stage, digit, b) + (b + 1) * stage
        return self.embedding(rows).sum(-2).transpose(1, 2)


def centred(state: Partial, digits: Digits) -> Tensor:
    """The centre of what each site may still be, in [−1, 1] float64: 0 where nothing is known."""
    S, K = len(digits), digits.classes
    blocks = torch.tensor([digits.base ** (S - d) for d in range(S + 1)], device=state.depth.device)
    centre = state.value + (torch.minimum(blocks[state.depth], K - state.value) - 1).double() / 2
    return 2 * centre / (K - 1) - 1


class TableBody(Body):
    """Columns → perceptron → log-weights of the values of every column, from which those asked are gathered."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.trunk = Table(
            self.number_of_rows,
            config.sites,
            sum(config.limits),
            config.width,
            config.blocks,
            config.embedding or 16,
            config.within,
            self.stages,
            config.gated,
            config.dropout,
            config.direct,
        )

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Log-weights (N, K) at the sites asked; those of values that a column cannot take mean nothing."""
        condition = self.conditioned(state, context, self.trunk.out.weight)
        every = widened(self.trunk(self.rows(state), state.depth.flatten(1), condition))
        value = torch.arange(self.config.classes, device=every.device)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            column = torch.minimum(value, self.limit[position][:, None] - 1) + self.offset[position][:, None]
            index = batch_index[:, None] * every.shape[1] + column
            return Features.plain(every.flatten().gather(0, index.flatten()).view_as(index))

        return features
