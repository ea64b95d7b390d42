"""The body of Transformers for text and other sequences of symbols, and what bodies refuse."""

from __future__ import annotations

from torch import Tensor

from ardm.digits import Partial
from ardm.errors import ArdmError
from ardm.features import Features, FeaturesAt
from ardm.models.body import Prefix, RowBody, shifted
from ardm.models.config import ModelConfig
from ardm.nets import ColumnOutput, Transformer


class TransformerBody(RowBody):
    """Tokens → Transformer: over both sides, or causal in raster order on inputs shifted by one place.

    A token is a value or "unknown"; with stages, the value known so far and how many of its digits are known.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.single = config.causal == "single"
        self.trunk = transformer(config, self.number_of_rows, self.stages, causal=self.single)
        self.output = ColumnOutput(config.limits, config.width) if config.columns else None

    def forward(self, state: Partial, context: Tensor | None = None) -> FeaturesAt:
        """Features at sites; with columns, log-weights of their values."""
        rows = self.rows(state)
        refuse_length(self.config, rows.shape[1])
        condition = self.conditioned(state, context, self.trunk.embedding.weight)
        before = Prefix.of(state) if self.single else None
        rows = shifted(rows, self.config.classes) if self.single else rows
        h = self.trunk(rows, state.depth.flatten(1), condition)

        def features(batch_index: Tensor, position: Tensor) -> Features:
            out = self.trunk.read(h, batch_index, position)
            out = out if before is None else before.guarded(out, batch_index, position)
            return Features.plain(out if self.output is None else self.output(out, position))

        return features


def transformer(config: ModelConfig, rows: int, stages: int, causal: bool, split: bool = False) -> Transformer:
    """The Transformer of a configuration.  rows, stages, causal, split: as for `Transformer`."""
    heads = config.attention_heads
    if config.width % heads:
        raise ArdmError(f"heads must divide width {config.width}; got {heads}")
    if config.positions == "rotary" and config.width // heads % 2:
        raise ArdmError("rotary positions need heads of an even width: change width or heads")
    parts = 4 if split else 2
    if config.positions == "sinusoidal" and config.width % parts:
        raise ArdmError(f"sinusoidal positions need a width that is a multiple of {parts}; got {config.width}")
    return Transformer(
        rows, stages, config.width, heads, config.blocks, config.inner_width, config.positions, config.sites,
        config.modern, config.dropout, causal, split,
    )  # fmt: skip


def refuse_length(config: ModelConfig, length: int) -> None:
    """Raise ArdmError where learned positions do not fit the length of an item."""
    if config.positions == "learned" and length != config.sites:
        raise ArdmError(f"learned positions serve items of {config.sites} sites; got {length}: use rotary positions")


def refuse_digits(config: ModelConfig) -> None:
    """Raise ArdmError for values of several digits."""
    if len(config.digits) > 1:
        raise ArdmError(f"trunk {config.trunk} predicts whole values: leave base at 0; got {config.base}")


def refuse_context(context: Tensor | None) -> None:
    """Raise ArdmError for context, which networks along wavefronts do not take."""
    if context is not None:
        raise ArdmError("models of trunk recurrent, lattice or wavefront take no context")
