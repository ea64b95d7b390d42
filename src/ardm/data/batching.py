"""Batches of a training run: endless streams of indices, and random mirroring and turning of images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from ardm.errors import ArdmError


def batches(items: int, batch: int, seed: int, start: int = 0) -> Iterator[Tensor]:
    """An endless stream of index batches (batch,) int64, all full: every epoch in an order of its own.

    Epoch e is a permutation of 0..items−1 drawn from (seed, e).  A batch may end one epoch and begin the next, and an
    item may then occur twice in it.
    start: number of the first batch; the stream continues exactly as one from 0 does after `start` batches, without
    walking there.
    Raises ArdmError for counts below 1 or a negative start.
    """
    if items < 1 or batch < 1 or start < 0:
        raise ArdmError(f"batches needs items >= 1, batch >= 1, start >= 0; got {items}, {batch}, {start}")
    return _batches(items, batch, seed, start)


def _batches(items: int, batch: int, seed: int, start: int) -> Iterator[Tensor]:
    epoch, offset = divmod(start * batch, items)
    left = _epoch(items, seed, epoch)[offset:]
    while True:
        while len(left) < batch:
            epoch += 1
            left = torch.cat([left, _epoch(items, seed, epoch)])
        yield left[:batch].clone()
        left = left[batch:]


def _epoch(items: int, seed: int, epoch: int) -> Tensor:
    digest = hashlib.sha256(f"{seed} {epoch}".encode()).digest()  # so that (1, 2) and (2, 1) have nothing in common
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
    return torch.randperm(items, generator=generator, device="cpu")


def augment(batch: Tensor, generator: torch.Generator, flip: bool = True, rot90: bool = False) -> Tensor:
    """Mirror each image left to right with probability 1/2, and turn it by 0, 90, 180 or 270 degrees.

    batch: (B, C, H, W).  All draws come from the generator: B coins, then (with rot90) B turns.  The paper's best image
    models are trained with both.
    Raises ArdmError where batch is not a batch of images, or not square with rot90.
    """
    if batch.ndim != 4 or (rot90 and batch.shape[2] != batch.shape[3]):
        want = "(B, C, H, W) with H = W" if rot90 else "(B, C, H, W)"
        raise ArdmError(f"augment takes a batch of images {want}; got {tuple(batch.shape)}")
    if flip:
        batch = torch.where(_draw(2, batch, generator) == 1, batch.flip(-1), batch)
    if rot90:
        turns = _draw(4, batch, generator)
        upright = batch
        for quarters in (1, 2, 3):
            batch = torch.where(turns == quarters, upright.rot90(quarters, (-2, -1)), batch)
    return batch


def _draw(sides: int, batch: Tensor, generator: torch.Generator) -> Tensor:
    """A number in 0..sides−1 for each item: (B, 1, 1, 1)."""
    drawn = torch.randint(sides, (len(batch), 1, 1, 1), generator=generator, device=generator.device)
    return drawn.to(batch.device)
