"""The contract of a benchmarked codec: encode and decode one content; every result is decoded and compared.

NumPy, no PyTorch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ardm.codec.header import Form
from ardm.content import Content, Samples
from ardm.errors import ArdmError

Encode: TypeAlias = Callable[[Content], bytes]
Decode: TypeAlias = Callable[[bytes, Form], Samples]
Make: TypeAlias = "Callable[[str, Setting], Codec | Absent]"


class Changed(ArdmError):  # noqa: N818
    """The data that a codec decoded differ from those that it encoded."""


@dataclass(frozen=True)
class Coding:
    """The result of coding items one by one; all of them were decoded and compared.

    sizes: bytes of each.  framing: total bytes of signatures, headers and lengths around the coded samples.
    encoding, decoding: total wall-clock seconds.
    """

    sizes: tuple[int, ...]
    framing: int
    encoding: float
    decoding: float


def accept_all(content: Content) -> str:
    """Refuse nothing."""
    return ""


def frameless(data: bytes) -> int:
    """Count no framing."""
    return 0


def never_together(items: Sequence[Content]) -> Coding | None:
    """For codecs whose files hold one item."""
    return None


@dataclass(frozen=True)
class Codec:
    """A way to code contents; the decoder gets the form: kind, shape, type, rate.

    version: of the libraries, for the record.  refuses: why it cannot hold a content; empty if it can.
    framing: bytes of a file that hold no samples.  together: codes all items as one file, decodes and compares them;
    None if they cannot share a file.  calls: network calls of a learned codec.
    shared: bytes that both sides need beforehand: a dictionary, a priming text, the weights of a model.
    outside: another program does the work, so its memory is not measured.
    """

    name: str
    version: str
    encode: Encode
    decode: Decode
    refuses: Callable[[Content], str] = accept_all
    framing: Callable[[bytes], int] = frameless
    together: Callable[[Sequence[Content]], Coding | None] = never_together
    calls: int = 0
    shared: int = 0
    outside: bool = False

    def compress(self, items: Sequence[Content], done: Callable[[], object] = lambda: None) -> Coding:
        """Code, decode and compare the items one by one; call `done` after each.  Raises Changed."""
        sizes, framing, encoding, decoding = [], 0, 0.0, 0.0
        for item in items:
            began = time.perf_counter()
            data = self.encode(item)
            middle = time.perf_counter()
            back = self.decode(data, Form.of(item))
            decoding += time.perf_counter() - middle
            encoding += middle - began
            same(self.name, item.samples, back)
            sizes.append(len(data))
            framing += self.framing(data)
            done()
        return Coding(tuple(sizes), framing, encoding, decoding)


@dataclass(frozen=True)
class Absent:
    """A codec that cannot be measured here, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Setting:
    """What codecs are made with.

    training: the bytes of other items.  threads: how many a codec may use.  bare: leave out the number that names a format.
    """

    training: Sequence[bytes] = ()
    threads: int = 1
    bare: bool = False


def same(name: str, given: Samples, back: Samples) -> None:
    """Raise Changed unless the decoded samples equal the given ones, shape and dtype included."""
    if back.dtype != given.dtype or not np.array_equal(given, back):
        raise Changed(
            f"{name} decodes different samples from those it encoded: its sizes mean nothing; please report this"
        )


def missing(remedy: str) -> str:
    """The reason given for a codec that is not installed."""
    return f"not installed ({remedy})"
