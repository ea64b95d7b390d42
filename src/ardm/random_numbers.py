"""Random numbers that are a function of seed, item, site and digit: the same on every device, in every batch and order.

    numbers = RandomNumbers(seed=0)
    numbers.uniform(item, site, digit)       # in [0, 1), 53 bits
    numbers.child(3)                         # independent numbers, for another purpose

Each item is a SplitMix64 generator (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators") whose start
is a hash of the seed and of the item, and which is asked for its output number site + 2⁴⁸ · digit.  Only integers are added,
multiplied and shifted, modulo 2⁶⁴, so that a GPU gives the numbers of a CPU.

Functions that draw take such numbers or a torch.Generator.  A generator is a stream: each call takes 64 of its bits, on its
own device, as the seed of new numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ardm.errors import ArdmError
from ardm.inputs import generator as generator_of
from ardm.inputs import number
from ardm.precision import precise

GAMMA, FACTOR, LAST_FACTOR = (n - (1 << 64) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""The step of SplitMix64, which is 2⁶⁴ / φ, and the factors of its output function, as signed numbers."""
DIGIT = 1 << 48
"""How far apart the outputs of two digits of a site lie; items have fewer sites."""
DRAWS, ORDERS, HIDING, FILLING, REFINING, REMASKING = range(6)
"""Purposes: independent numbers for drawn digits, for the orders of items, and for what is hidden again; and for functions
that continue from samples, which may have been drawn with the same seed."""


def _signed(n: int) -> int:
    """The int64 that equals n modulo 2⁶⁴."""
    return (n + (1 << 63)) % (1 << 64) - (1 << 63)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """z >> bits of unsigned numbers."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def mixed(z: Tensor) -> Tensor:
    """The output function of SplitMix64, a bijection of int64 in which every bit of z changes half of the bits."""
    z = (z ^ _shifted(z, 30)) * FACTOR
    z = (z ^ _shifted(z, 27)) * LAST_FACTOR
    return z ^ _shifted(z, 31)


@dataclass(frozen=True, eq=False)
class RandomNumbers:
    """Uniform numbers of items.

    seed: a whole number below 2⁶⁴; or a tensor (), int64.  first: the number of the first item of a batch: items 2 and 3
    get the numbers that they have in a batch of four.  Raises ArdmError for other seeds and numbers.
    """

    seed: int | Tensor = 0
    first: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", number(self.first, "first", 0))
        if not isinstance(self.seed, Tensor):
            object.__setattr__(self, "seed", number(self.seed, "seed", 0))  # a number of NumPy would overflow
            if self.seed >= 1 << 64:
                raise ArdmError(f"seed must lie below 2**64; got {self.seed}")

    def uniform(self, item: Tensor, site: Tensor, digit: Tensor | int = 0) -> Tensor:
        """Float64 numbers in [0, 1), multiples of 2⁻⁵³, for indices int64 of one device that broadcast, on its `home`.

        item, digit: counted from 0.  site: flat position within the item, below 2⁴⁸.
        """
        start = mixed((item + self.first + 1) * GAMMA + self._start(item.device))
        output = mixed((site + digit * DIGIT + 1) * GAMMA + start)
        return precise(_shifted(output, 11)) * 2.0**-53

    def grid(self, items: int, digits: int, sites: int, device: torch.device | str = "cpu") -> Tensor:
        """(items, digits, sites): the numbers of all digits."""
        item, digit, site = (torch.arange(n, device=device) for n in (items, digits, sites))
        return self.uniform(item[:, None, None], site, digit[:, None])

    def child(self, purpose: int) -> RandomNumbers:
        """Independent numbers for the same items."""
        start = self._start(self.seed.device if isinstance(self.seed, Tensor) else torch.device("cpu"))
        seed = mixed(mixed(start + GAMMA) + _signed((purpose + 1) * GAMMA))
        return RandomNumbers(seed if isinstance(self.seed, Tensor) else int(seed) % (1 << 64), self.first)

    def _start(self, device: torch.device) -> Tensor:
        """(): the seed as a signed number."""
        if isinstance(self.seed, Tensor):
            return self.seed.to(device)
        return torch.full((), _signed(self.seed), dtype=torch.long, device=device)


Chance: TypeAlias = torch.Generator | RandomNumbers
"""What functions that draw take."""


def chance(given: Chance, name: str = "generator") -> Chance:
    """Random numbers or a generator, unchanged; raises ArdmError for anything else."""
    return given if isinstance(given, RandomNumbers) else generator_of(given, name)


def numbers_of(given: Chance) -> RandomNumbers:
    """The random numbers; those of a generator are new at each call."""
    if isinstance(given, RandomNumbers):
        return given
    low, high = -(1 << 63), (1 << 63) - 1
    return RandomNumbers(
        torch.randint(low, high, (), dtype=torch.long, generator=generator_of(given), device=given.device)
    )
