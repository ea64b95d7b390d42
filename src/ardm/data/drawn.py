"""Synthetic pictures: flat areas, gradients, lines and marks like text, for codecs that meet screenshots and charts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from ardm.data.published import Bytes


def drawn(count: int, size: int, generator: Generator) -> Bytes:
    """(count, 3, size, size): one kind of picture after the other; every third is grey."""
    items = np.empty((count, 3, size, size), np.uint8)
    for n in range(count):
        canvas = np.empty((size, size, 3))
        canvas[:] = _colour(generator)
        KINDS[n % len(KINDS)](canvas, generator)
        canvas = np.repeat(canvas.mean(2, keepdims=True), 3, 2) if n % 3 == 0 else canvas
        items[n] = canvas.round().clip(0, 255).astype(np.uint8).transpose(2, 0, 1)
    return items


def _colour(generator: Generator) -> np.ndarray:
    """(3,): often black, white or a grey, as in documents."""
    if generator.random() < 0.4:
        return np.full(3, float(generator.choice((0, 255, 255, 240, 128, 51))))
    return generator.integers(0, 256, 3).astype(float)


def areas(canvas: np.ndarray, generator: Generator) -> None:
    """A few rectangles, each of one colour."""
    size = len(canvas)
    for _ in range(int(generator.integers(0, 6))):
        (y, z), (x, w) = np.sort(generator.integers(0, size + 1, (2, 2)), 1)
        canvas[y:z, x:w] = _colour(generator)


def gradient(canvas: np.ndarray, generator: Generator) -> None:
    """From one colour to another in a direction; often with noise of a level or two."""
    y, x = np.mgrid[: len(canvas), : len(canvas)]
    angle = generator.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    share = (along - along.min()) / max(float(np.ptp(along)), 1.0)
    canvas += share[..., None] * (_colour(generator) - canvas) * generator.uniform(0.1, 1)
    canvas += generator.normal(size=canvas.shape) * float(generator.choice((0, 0, 0.5, 1, 2)))


def lines(canvas: np.ndarray, generator: Generator) -> None:
    """Straight lines, sharp or with soft edges."""
    y, x = np.mgrid[: len(canvas), : len(canvas)]
    soft = float(generator.choice((0.01, 0.5, 1.0)))
    for _ in range(int(generator.integers(1, 6))):
        angle = generator.choice((0, np.pi / 2, generator.uniform(0, np.pi)))
        far = abs(
            np.cos(angle) * (x - generator.uniform(0, len(x))) + np.sin(angle) * (y - generator.uniform(0, len(y)))
        )
        cover = ((generator.uniform(0.3, 2) - far) / soft + 0.5).clip(0, 1)
        canvas += cover[..., None] * (_colour(generator) - canvas)


def marks(canvas: np.ndarray, generator: Generator) -> None:
    """Rows of small random shapes that repeat, as letters do, in one colour."""
    height, width = (int(n) for n in generator.integers(4, 11, 2))
    letters = generator.random((6, height, width)) < generator.uniform(0.3, 0.6)
    letters[:, :, -1], letters[:, -1] = False, False
    across = -(-len(canvas) // width)
    rows = [np.concatenate(letters[generator.integers(0, 6, across)], 1) for _ in range(-(-len(canvas) // height))]
    ink = np.concatenate(rows)[: len(canvas), : len(canvas)] * generator.choice((1.0, 1.0, 0.6))
    canvas += ink[..., None] * (_colour(generator) - canvas)


KINDS: tuple[Callable[[np.ndarray, Generator], None], ...] = (areas, gradient, lines, marks)
