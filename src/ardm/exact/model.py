"""A codec model: an integer network, the orders it codes along, and one file that holds both.

The file is a safetensors file, so loading it executes nothing: tensors of integers, and in its metadata

    ardm-codec   1, the version of this file
    content      JSON: the program, and the kind of content it codes; with the tensors it makes the *identity*
    golden       SHA-256 of the frequencies at fixed states: a machine has to reproduce it before it may code
    card         JSON: name, recipe, data, licence, figures; not part of the identity

A model that was trained along some orders holds a tensor for each number of network calls: the step that reveals each
digit of each channel, over a cell that repeats across the item.  A model of any order holds one order and its loss curve,
from which the steps of any number of calls are planned (`planned`).  A causal program along wavefronts has none of these:
its order follows from the size of an item.

It needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
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
from ardm.exact.ask import Ask, Runner
from ardm.exact.bounds import Bound
from ardm.exact.causal import numbers_held
from ardm.exact.frequencies import Rows
from ardm.exact.order import Order
from ardm.exact.planned import Planned, Steps, calls_of
from ardm.exact.program import Arrays, Program, digest
from ardm.exact.space import map_bytes
from ardm.exact.stores import claims, elements
from ardm.schema import Schema

FORMAT = "1"
NAME = "codec.safetensors"
"""The name of the file in the folder of a model."""
KINDS = ("image", "text", "audio", "table")
"""The kinds of content.  Never renumber or rename."""
ROOM = 2 << 30
"""The most bytes for the numbers of a codec model, and for the values of one item."""
NUMBER = 32
"""Bytes for each number of a model: as int64, in its bound, and as it is run."""
REGION = {"image": 1 << 20}
"""Sites that a model of any size codes at once, by kind; 2^16 for other kinds."""
ROWS = 1 << 10
"""Sites at which rows are computed at once."""
MAX_OPS = 1 << 12
"""The most operations of a program."""
MAX_CALLS = 1 << 20
"""A model codes items in fewer network calls than this, for which `codec.header` has a number."""


@dataclass(frozen=True)
class CodecModel:
    """An integer network and how it codes items.

    orders: by number of network calls, (S, C, h, w): the step that reveals each digit, over a repeating cell.
    planned: the one order of a model of any order instead, and its schedules.
    A program along wavefronts has neither: the order of an item follows from its size.
    default: the number of calls if none is given, 0 along wavefronts.  kind: of content.  lead: the channel that codes a plane on its own.
    golden: 64 hex digits, the fingerprint by the reference.
    alphabet: of text, the byte of each value; empty: the byte itself.  schema: of tables, the names of columns and values.
    Raises ArdmError where these contradict each other.
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
    planned: Planned | None = None

    def __post_init__(self) -> None:
        self._check_orders()
        if self.schema is not None:
            self._check_schema(self.schema)
        letters = len(set(self.alphabet))
        if self.alphabet and (self.kind != "text" or letters != len(self.alphabet) or letters != self.program.classes):
            raise ArdmError(f"the alphabet of a codec model has {letters} letters for {self.program.classes} values")

    def _check_orders(self) -> None:
        good = type(self.default) is int and type(self.lead) is int and isinstance(self.card, Mapping)
        good = good and self.kind in KINDS
        if self.wave:
            if not good or self.orders or self.planned or self.default or self.lead:
                raise ArdmError("a codec model along wavefronts has no other orders, and its channels in their order")
            return
        shape = (self.program.digits, self.program.channels)
        good = good and self.default in self.budgets and 0 <= self.lead < self.program.channels
        good = good and all(1 <= calls < MAX_CALLS for calls in self.budgets)
        if self.planned is not None:
            given = (len(self.planned.curve), len(self.planned.ranks))
            good = good and not self.orders and given == shape
        for calls, when in self.orders.items():
            good = good and when.ndim == 4 and when.shape[:2] == shape and when.size > 0
            good = good and bool(when.min() >= 0 and when.max() < calls and (np.diff(when, axis=0) > 0).all())
        if not good:
            raise ArdmError("a codec model holds invalid orders")

    def _check_schema(self, schema: Schema) -> None:
        if self.kind != "table" or max(schema.columns) > self.program.classes:
            raise ArdmError(f"the schema of a codec model has columns of {max(schema.columns)} values")
        sizes = [self.program.tensor(op, "size").tolist() for op in self.program.ops if op.name == "segment"]
        if any(tuple(size) != schema.columns for size in sizes):
            raise ArdmError("the schema of a codec model has other columns than its program")
        if self.program.channels > 1 or max(self.size):
            raise ArdmError("a codec model of a table with a schema has one channel, and items of any size")

    @property
    def name(self) -> str:
        """The name on the card."""
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
        orders: dict[str, Any] = {f"order.{calls}": when for calls, when in self.orders.items()}
        if self.planned is not None:
            orders = {"ranks": self.planned.ranks, "curve": self.planned.curve}
            orders |= {f"schedule.{calls}": np.array(starts) for calls, starts in self.planned.schedules.items()}
        orders = {name: tensor.astype(np.int32) for name, tensor in orders.items()}
        return {**{f"program.{name}": tensor for name, tensor in self.program.tensors.items()}, **orders}

    @cached_property
    def identity(self) -> str:
        """64 hex digits that change with anything that affects a frequency."""
        return digest(self._content, self._tensors)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the items; (0, 0) for any size."""
        return self.program.size

    @property
    def wave(self) -> int:
        """The slope of the wavefronts along which it codes; 0: it has orders."""
        return self.program.wave

    @property
    def budgets(self) -> tuple[int, ...]:
        """The numbers of network calls whose steps it holds, ascending; none along wavefronts."""
        return tuple(sorted(self.orders if self.planned is None else self.planned.schedules))

    def steps(self, calls: int) -> Steps:
        """The steps of this many network calls: the number itself, or a schedule that is planned now, for the file to hold.

        Raises ArdmError where a model of any order has no such schedule.
        """
        return calls if self.planned is None or calls in self.budgets else self.planned.starts(calls)

    def order(self, steps: Steps, height: int, width: int) -> Order:
        """The order of an item.  Raises ArdmError for a number of calls that the model does not have, or a misfit schedule.

        A model along wavefronts has 0 calls.
        """
        if self.wave and steps == 0:
            return Order.wave((self.program.channels, height, width), self.wave, self.program.base)
        if self.wave:
            raise ArdmError(f"model {self.name} codes along wavefronts, and not in {calls_of(steps)} network calls")
        return Order.repeat(self._cell(steps), self.program.base, height, width)

    def _cell(self, steps: Steps) -> Ints:
        """(S, C, h, w): the steps of a cell."""
        if isinstance(steps, int) and steps not in self.budgets:
            known = ", ".join(map(str, self.budgets))
            raise ArdmError(f"model {self.name} codes in {known} network calls, not in {steps}")
        if isinstance(steps, int):
            return self.orders[steps] if self.planned is None else self.planned.when(self.planned.schedules[steps])
        if self.planned is None:
            raise ArdmError(f"model {self.name} codes in steps of its own, and not by a schedule of the file")
        self.planned.refuse(steps)
        return self.planned.when(steps)

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
    """Load a codec model from its file or folder.  Raises ArdmError if there is none, or if it is damaged."""
    path = Path(path)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        raise ArdmError(f"there is no codec model {path}; `ardm export` makes one from a trained model")
    count = elements(claims(path))
    if count * NUMBER > ROOM:
        raise ArdmError(f"{path} holds {count} numbers; the most that a codec model may hold is {ROOM // NUMBER}")
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if about.get("ardm-codec") != FORMAT:
            version = about.get("ardm-codec")
            raise ArdmError(
                f"{path} is not a codec model of format {FORMAT}" + (f", but of {version}" if version else "")
            )
        content, card = json.loads(about["content"]), json.loads(about.get("card", "{}"))
        model = _model(content, tensors, card, about["golden"])
    except SafetensorError:
        raise ArdmError(f"{path} is not a readable codec model: it is not a safetensors file, or is damaged") from None
    except (OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        if out_of_memory(error):
            raise MemoryError from error
        raise ArdmError(f"{path} is not a readable codec model: {cause(error)}") from None
    return model


def _model(content: Any, tensors: Arrays, card: Any, golden: str) -> CodecModel:
    held = {n: t for n, t in tensors.items() if not n.startswith("program.")}
    if any(t.dtype.kind not in "iu" for t in held.values()):
        raise ValueError("its orders are not integers")
    orders = {int(n[6:]): t.astype(np.int64) for n, t in held.items() if n.startswith("order.")}
    if len(content["program"].get("ops", ())) > MAX_OPS:
        raise ValueError(f"its program has more than {MAX_OPS} operations")
    weights = {n[8:]: t for n, t in tensors.items() if n.startswith("program.")}
    program = Program.parse(content["program"], weights)
    letters, named = content.get("alphabet", []), content.get("schema")
    if not isinstance(letters, list):
        raise TypeError("its alphabet is not a list of bytes")
    schema = None if named is None else Schema.from_values(named)
    return CodecModel(
        program,
        orders,
        content["default"],
        content["kind"],
        content["lead"],
        card,
        str(golden),
        bytes(letters),
        schema,
        _planned(held),
    )


def _planned(held: Arrays) -> Planned | None:
    """The order of a model of any order; None of another."""
    if "ranks" not in held:
        return None
    schedules = {int(n[9:]): tuple(t.tolist()) for n, t in held.items() if n.startswith("schedule.")}
    return Planned(held["ranks"].astype(np.int64), held["curve"].astype(np.int64), schedules)


def room(model: CodecModel, bounds: Mapping[str, Bound]) -> int:
    """Bytes for the maps of one item and the rows of ROWS sites while a program runs, from its bounds; of a causal
    program, for the rows and wavefronts of a square item that are kept at once.
    """
    program, places = model.program, math.prod(model.size) or REGION.get(model.kind, 1 << 16)
    if program.wave:
        return 8 * numbers_held(program, bounds, math.isqrt(places))
    scores = sum(op.integers["heads"] * places**2 for op in program.ops if op.name == "attention")
    rows = ROWS * sum(bound.planes for bound in bounds.values() if bound.kind != "map")
    return places * map_bytes(program, bounds) + 8 * (scores + rows)


def refuse_room(model: CodecModel, bounds: Mapping[str, Bound]) -> None:
    """Raise ArdmError for a model that needs more than ROOM, before it is run."""
    needed = room(model, bounds)
    if needed > ROOM:
        raise ArdmError(
            f"model {model.name} needs {needed >> 20} MiB of memory for one item; the limit is {ROOM >> 20} MiB"
        )


def fingerprint(model: CodecModel, run: Runner) -> str:
    """SHA-256 of frequencies while a fixed item is coded: 64 hex digits, the same on every machine.

    At three steps, of 64 sites at most; or, along wavefronts, of a sweep and of every step of a walk with a memory.
    """
    H, W = model.size if max(model.size) else (24, 40) if model.kind == "image" else (1, 240)
    hashed = hashlib.sha256()
    if model.wave:
        large, small = ((1, 240), (1, 54)) if model.kind == "audio" else ((12, 20), (6, 9))
        _hash_sweep(hashed, model, run, _pattern(model, *large))
        _hash_walk(hashed, model, run, _pattern(model, *small), keep=True)
    else:
        _hash_walk(hashed, model, run, _pattern(model, H, W), keep=False)
    return hashed.hexdigest()


def _pattern(model: CodecModel, H: int, W: int) -> Ints:
    """A fixed item (1, C, H, W)."""
    c, y, x = np.mgrid[: model.program.channels, :H, :W]
    pattern = y * 7 + x * 5 + c * 31 + (y * x * (3 + c)) % 23 * 4 + (x > W // 2) * (y % 3) * 40
    if model.kind == "audio":  # around the middle, so that filters have something to follow
        pattern = model.program.classes // 2 + x * x % 89 * (x % 32)
    return (pattern % model.program.classes)[None]


def _hash_walk(hashed: Any, model: CodecModel, run: Runner, item: Ints, keep: bool) -> None:
    """Add the frequencies of three steps of coding an item, or of all with a memory."""
    order = model.order(model.default, *item.shape[2:])
    memory, last = run.memory(item.shape) if keep else None, len(order.reveals) - 1
    for k in range(last + 1) if keep else sorted({last // 4, last // 2, last}):
        reveal = order.reveals[k]
        value, depth = order.before(reveal.step, item)
        sites = order.sites(reveal, 1)[:64]
        for table in _likeliest(run(Ask(value, depth, sites, memory)), len(sites)):
            hashed.update(np.ascontiguousarray(table, dtype="<i8").tobytes())


def _hash_sweep(hashed: Any, model: CodecModel, run: Runner, item: Ints) -> None:
    """Add the frequencies at all sites, in their order: stage after stage."""
    found: list[Ints] = []
    for sites, rows in run.sweep(item):
        where = np.ravel_multi_index(sites.index, item.shape)
        for stage, table in enumerate(_likeliest(rows, len(sites))):
            if stage == len(found):
                found.append(np.zeros((item.size, table.shape[1]), dtype=np.int64))
            found[stage][where] = table
    for table in found:
        hashed.update(np.ascontiguousarray(table, dtype="<i8").tobytes())


def _likeliest(rows: Rows, count: int) -> Iterator[Ints]:
    """The frequencies of each stage, given the likeliest symbols of the stages before it."""
    prefix = np.zeros(count, dtype=np.int64)
    for stage, radix in enumerate(rows.radices):
        table = rows.table(stage, prefix)
        yield table
        prefix = prefix * radix + table.argmax(axis=1)
