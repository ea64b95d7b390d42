"""A codec model: a program in integers, the orders it codes along, and one file that holds it all.

The file is a safetensors file (nothing in it is ever executed): tensors of integers, and in its metadata

    ardm-codec   1, the version of this file
    content      JSON: the program, the order, what kind of content it codes; with the tensors it is the *identity*
    golden       SHA-256 of the frequencies at a fixed state, by which a machine proves itself before it is used
    card         JSON: name, recipe, data, licence, figures; no part of the identity

The order is a tensor for each number of network calls: the step at which each digit of each channel becomes known,
over a cell that repeats across the item.

NumPy, no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ardm.ans import Ints
from ardm.errors import ArdmError, cause, out_of_memory
from ardm.exact.ask import AskedSites
from ardm.exact.frequencies import Rows
from ardm.exact.operations import Bound
from ardm.exact.order import Order
from ardm.exact.program import Arrays, Program, digest
from ardm.exact.stores import claims, elements
from ardm.schema import Schema

FORMAT = "1"
NAME = "codec.safetensors"
"""The name of the file in the folder of a model."""
KINDS = ("image", "text", "audio", "table")
"""What a model can code.  Never renumber or rename."""
ROOM = 2 << 30
"""Bytes that the numbers of a codec model may take, and what it makes of one item."""
NUMBER = 32
"""Bytes that a number of a model takes: as int64, as it is bounded, and as it is run."""
REGION = {"image": 1 << 20}
"""Sites of what a model of any size codes at once, by kind; of others 2^16."""
ROWS = 1 << 10
"""Sites at which rows are computed at once."""
MAX_OPS = 1 << 12
"""Operations of a program."""

Runner = Callable[[Ints, Ints, AskedSites], Rows]
"""value, depth (B, C, H, W) and the asked sites → their frequencies."""


@dataclass(frozen=True)
class CodecModel:
    """A program and how items are coded with it.

    kind: of what it codes.  lead: the channel that a plane on its own is coded as.
    schema: of tables, what their columns and values are called.
    alphabet: of text, the byte that each value stands for; empty: the byte itself.
    orders: by number of network calls, (S, C, h, w): the step at which each digit becomes known, over a repeating cell.
    default: the number of calls that is taken where none is named.  golden: 64 hex digits, what the arbiter says of it.
    """

    program: Program
    orders: Mapping[int, Ints]
    default: int
    kind: str = "image"
    lead: int = 0
    card: Mapping[str, Any] = field(default_factory=dict)
    golden: str = ""
    alphabet: bytes = b""
    schema: Schema | None = None

    def __post_init__(self) -> None:
        shape = (self.program.digits, self.program.channels)
        good = type(self.default) is int and type(self.lead) is int and isinstance(self.card, Mapping)
        good = good and self.default in self.orders and 0 <= self.lead < self.program.channels and self.kind in KINDS
        for calls, when in self.orders.items():
            good = good and when.ndim == 4 and when.shape[:2] == shape and when.size > 0 and calls >= 1
            good = good and bool(when.min() >= 0 and when.max() < calls and (np.diff(when, axis=0) > 0).all())
        if not good:
            raise ArdmError("a codec model holds orders that are none")
        if self.schema is not None and (self.kind != "table" or max(self.schema.columns) > self.program.classes):
            raise ArdmError(f"the schema of a codec model has columns of {max(self.schema.columns)} values")
        sizes = [self.program.tensor(op, "size").tolist() for op in self.program.ops if op.name == "segment"]
        if self.schema is not None and any(tuple(size) != self.schema.columns for size in sizes):
            raise ArdmError("the schema of a codec model has other columns than its program")
        if self.schema is not None and (self.program.channels > 1 or max(self.size)):
            raise ArdmError("a codec model of a table with a schema has one channel, and items of any size")
        letters = len(set(self.alphabet))
        if self.alphabet and (self.kind != "text" or letters != len(self.alphabet) or letters != self.program.classes):
            raise ArdmError(f"the alphabet of a codec model has {letters} letters for {self.program.classes} values")

    @property
    def name(self) -> str:
        """What the card calls it."""
        return str(self.card.get("name", "unnamed"))

    @property
    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "program": self.program.plain(),
            "kind": self.kind,
            "lead": self.lead,
            "default": self.default,
        }
        if self.alphabet:
            content["alphabet"] = list(self.alphabet)
        if self.schema is not None:
            content["schema"] = self.schema.to_values()
        return content

    @property
    def _tensors(self) -> dict[str, NDArray[Any]]:
        orders = {f"order.{calls}": when.astype(np.int32) for calls, when in self.orders.items()}
        return {**{f"program.{name}": tensor for name, tensor in self.program.tensors.items()}, **orders}

    @cached_property
    def identity(self) -> str:
        """64 hex digits that change with anything that decides a frequency."""
        return digest(self._content, self._tensors)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the items; (0, 0): any size."""
        return self.program.size

    def order(self, calls: int, height: int, width: int) -> Order:
        """The order of an item.  Raises ArdmError for a number of calls that the model does not have."""
        if calls not in self.orders:
            known = ", ".join(map(str, sorted(self.orders)))
            raise ArdmError(f"model {self.name} codes in {known} network calls, not in {calls}")
        return Order.repeat(self.orders[calls], self.program.base, height, width)

    def save(self, path: str | Path) -> None:
        """Write the file."""
        about = {
            "ardm-codec": FORMAT,
            "content": json.dumps(self._content, sort_keys=True, separators=(",", ":")),
            "golden": self.golden,
            "card": json.dumps(dict(self.card)),
        }
        Path(path).write_bytes(save({k: np.ascontiguousarray(v) for k, v in self._tensors.items()}, about))


def load(path: str | Path) -> CodecModel:
    """A codec model from its file, or from the folder that holds one.  Raises ArdmError where there is none."""
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        raise ArdmError(f"there is no codec model {path}; `ardm export` makes one of a trained model")
    count = elements(claims(path))
    if count * NUMBER > ROOM:
        raise ArdmError(f"{path} holds {count} numbers; the most that a codec model may hold is {ROOM // NUMBER}")
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if about.get("ardm-codec") != FORMAT:
            version = about.get("ardm-codec")
            raise ArdmError(f"{path} is no codec model of format {FORMAT}" + (f", but of {version}" if version else ""))
        content, card = json.loads(about["content"]), json.loads(about.get("card", "{}"))
        model = _model(content, tensors, card, about["golden"])
    except SafetensorError:
        raise ArdmError(f"{path} is no readable codec model: no safetensors file, or a damaged one") from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        if out_of_memory(error):
            raise MemoryError from error
        raise ArdmError(f"{path} is no readable codec model: {cause(error)}") from None
    return model


def _model(content: Any, tensors: Arrays, card: Any, golden: str) -> CodecModel:
    if any(t.dtype.kind not in "iu" for n, t in tensors.items() if n.startswith("order.")):
        raise ValueError("its orders are not integers")
    orders = {int(n[6:]): t.astype(np.int64) for n, t in tensors.items() if n.startswith("order.")}
    if len(content["program"].get("ops", ())) > MAX_OPS:
        raise ValueError(f"its program has more than {MAX_OPS} operations")
    weights = {n[8:]: t for n, t in tensors.items() if n.startswith("program.")}
    program = Program.parse(content["program"], weights)
    letters, named = content.get("alphabet", []), content.get("schema")
    if not isinstance(letters, list):
        raise TypeError("its alphabet is no list of bytes")
    schema = None if named is None else Schema.from_values(named)
    return CodecModel(
        program, orders, content["default"], content["kind"], content["lead"], card, str(golden), bytes(letters), schema
    )


def room(model: CodecModel, bounds: Mapping[str, Bound]) -> int:
    """Bytes that the maps of one item and the rows of some sites take while a program runs, by its bounds."""
    program, places = model.program, math.prod(model.size) or REGION.get(model.kind, 1 << 16)
    maps = places * sum(bound.planes for bound in bounds.values() if not bound.rows)
    maps += sum(op.integers["heads"] * places**2 for op in program.ops if op.name == "attention")
    return 8 * (maps + ROWS * sum(bound.planes for bound in bounds.values() if bound.rows))


def refuse_room(model: CodecModel, bounds: Mapping[str, Bound]) -> None:
    """ArdmError for a model that asks for more memory than any has; asked before it is run."""
    if room(model, bounds) > ROOM:
        raise ArdmError(
            f"model {model.name} needs {room(model, bounds) >> 20} MiB of memory for one item; the most is {ROOM >> 20} MiB"
        )


def fingerprint(model: CodecModel, run: Runner) -> str:
    """SHA-256 of the frequencies at three steps of coding a fixed item: 64 hex digits, the same on every machine."""
    program = model.program
    H, W = model.size if max(model.size) else (24, 40)
    order = model.order(model.default, H, W)
    c, y, x = np.mgrid[: program.channels, :H, :W]
    pattern = (y * 7 + x * 5 + c * 31 + (y * x * (3 + c)) % 23 * 4 + (x > W // 2) * (y % 3) * 40) % program.classes
    hashed = hashlib.sha256()
    steps = {model.default // 4, model.default // 2, model.default - 1}
    for reveal in (reveal for reveal in order if reveal.step in steps):
        value, depth = order.before(reveal.step, pattern[None])
        sites = order.sites(reveal, 1)[:64]
        rows = run(value, depth, sites)
        prefix = np.zeros(len(sites), dtype=np.int64)
        for stage, radix in enumerate(rows.radices):
            table = rows.table(stage, prefix)
            hashed.update(np.ascontiguousarray(table, dtype="<i8").tobytes())
            prefix = prefix * radix + table.argmax(axis=1)
    return hashed.hexdigest()
