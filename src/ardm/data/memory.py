"""Data sets in memory: tensors, NumPy arrays and PyTorch data sets, checked, with a validation set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ardm import inputs
from ardm.content import Content
from ardm.data import cuts
from ardm.data.dataset import ALL, Dataset, smallest
from ardm.data.folders import fraction, in_split
from ardm.data.records import learned, rows
from ardm.data.samples import text_keys
from ardm.data.texts import symbols_of
from ardm.errors import ArdmError
from ardm.inputs import PADDING
from ardm.schema import Schema
from ardm.symbols import ended

MEMORY = "memory"
"""The name of data in memory, in the recipe of a run."""
INTENSITIES = range(16, 256)
"""Pictures whose largest value lies here have 256 classes, unless their number is given."""
ITEM = "an item is an array of integers, or (array, label) with one integer as its label"


def pair(
    x: Any,
    valid: Any = None,
    labels: Any = None,
    classes: int = 0,
    table: bool = False,
    rate: int = 0,
    given: Any = None,
    padding: Any = None,
    alphabet: str = "",
    codec: bool = False,
    records: bool = False,
) -> tuple[Dataset, Dataset]:
    """The training and the validation items of a fit, as data sets of the same classes.

    x: a tensor or an array of integers (N, *shape); a map-style PyTorch data set, or a list, of items or of (item, label); or
    a `Dataset`.  Sequences (n,) of different lengths are padded.  valid: the same, or (items, labels); None takes 5 % of x, to which a stable hash of its number assigns each
    item.
    labels: (N,) integers from 0; True takes those that come with x, None and False leave them out.
    classes: K; 0: largest value + 1, and 256 for pictures with a largest value in INTENSITIES.
    table: columns have classes of their own.  rate: of sounds, samples per second.
    given, padding: of x: what is known beforehand, a mask or digits known, and what is padding, a mask or lengths (N,), as for
    `ardm.score`; those of `valid` come with a `Dataset`, or with sequences of different lengths.
    Lists of str, in x and valid, are texts, each with an end behind it; alphabet: see `data.text`, default the characters of x.
    codec: of texts: in bytes and without an end, as a codec codes them (`cuts.texts`).  records: or as
    rows of a table, where what varies in them repeats its values (`ardm.data.records`).
    Raises ArdmError, naming the argument, for what is not integers of one shape in 0..K−1, and for too few items.
    """
    if alphabet and not is_texts(x):
        raise ArdmError(
            f"alphabet is for a list of str, and x is a {type(x).__name__} of values that have one: leave it out"
        )
    if alphabet not in ("", "bytes") and codec:
        raise ArdmError(f"codecs of texts read bytes: leave alphabet out; got {alphabet!r}")
    if is_texts(x):
        if valid is not None and not is_texts(valid):
            raise ArdmError(f"x is a list of texts; valid must be one too, and is a {type(valid).__name__}")
        return _coded_alone(x, valid, records) if codec else _written(x, valid, alphabet or "characters")
    train, other = _marked(_read(x, "x", labels), given, padding), None
    if valid is not None:
        part, marks = valid if isinstance(valid, tuple) and len(valid) == 2 else (valid, None)
        marks = marks if marks is not None and labels is not None and labels is not False else None
        wanted = labels is not None and labels is not False and _brings_labels(part)
        other = _marked(_read(part, "valid", marks if marks is not None else wanted), None, None)
        _refuse_other_meaning(train, other)
        train, other = _alike(train, other)
        if other.shape != train.shape:
            raise ArdmError(
                f"the items of valid have shape {tuple(other.shape)}, those of x {tuple(train.shape)}: give the same"
            )
    both = [train] if other is None else [train, other]
    both = _alphabet(both, classes, table)
    both = [replace(part, rate=rate or part.rate) for part in both]
    if other is None and both[0].overlapping:
        raise ArdmError(
            f"the items of {both[0].name} overlap, so that items held out from them would be known from others: give valid=, such "
            'as ardm.data.load(…, split="valid")'
        )
    return (both[0], both[1]) if other is not None else _divided(both[0])


def _refuse_other_meaning(train: Dataset, valid: Dataset) -> None:
    """Raise ArdmError where the same values stand for something else in the validation items, which would be misread."""
    for name in ("symbols", "schema", "rate"):
        mine, theirs = (_meaning(getattr(part, name)) for part in (train, valid))
        if mine and theirs and mine != theirs:
            raise ArdmError(
                f"the values of {valid.name} do not mean those of {train.name}: each has a {name.removesuffix('s')} of its own; "
                f"load the validation items with {name}=x.{name}"
            )


def _meaning(found: Any) -> Any:
    """What decides the meaning of values: of a table, names, values and bins of its columns, and not how its lines end."""
    return (found.names, found.categories, found.edges) if isinstance(found, Schema) else found


def _brings_labels(x: Any) -> bool:
    """Whether labels may come with items: a bare tensor or array has none."""
    return not isinstance(x, (Tensor, np.ndarray)) and (not isinstance(x, Dataset) or x.labels is not None)


def is_texts(x: Any) -> bool:
    """Whether data are a list of str."""
    return isinstance(x, (list, tuple)) and bool(x) and all(isinstance(text, str) for text in x)


def _written(x: Sequence[str], valid: Any, alphabet: str) -> tuple[Dataset, Dataset]:
    """Texts as items of the same length, that of the longest and its end."""
    sets = [("x", x)] if valid is None else [("x", x), ("valid", valid)]
    data = {name: _utf8(texts, name) for name, texts in sets}
    symbols = symbols_of(alphabet, True, lambda: b"".join(data["x"]))
    encoded = {
        name: [symbols.encode(text, f"text {n} of {name}") for n, text in enumerate(t)] for name, t in data.items()
    }
    length = 1 + max(len(values) for both in encoded.values() for values, _ in both)
    found = []
    for name, both in encoded.items():
        values, sizes = ended(both, length, symbols, 0)
        items = torch.from_numpy(values.astype(smallest(symbols.classes)))
        part = "train" if name == "x" else name
        made = Dataset(items, symbols.classes, f"{MEMORY}/{part}", symbols=symbols, bytes=torch.from_numpy(sizes))
        found.append(made)
    return (found[0], found[1]) if valid is not None else _divided(found[0])


def _utf8(texts: Sequence[str], name: str) -> list[bytes]:
    """Texts in UTF-8.  Raises ArdmError for surrogates, which it does not have."""
    try:
        return [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        wrong, at = error.object, error.start
        raise ArdmError(
            f"text {list(texts).index(wrong)} of {name} holds {wrong[at]!r} at {at}, half a character, which UTF-8 cannot write"
        ) from None


def _coded_alone(x: Sequence[str], valid: Any, records: bool) -> tuple[Dataset, Dataset]:
    """Texts that a codec codes, each alone; near-duplicates are held out together, as `ardm fit` does."""
    data = _utf8(x, "x")
    train, other = [Content.of_bytes(text) for text in data], []
    if valid is None:
        held = _held(text_keys(data)).tolist()
        train, other = ([one for one, out in zip(train, held, strict=True) if out == part] for part in (False, True))
    else:
        other = [Content.of_bytes(text) for text in _utf8(valid, "valid")]
    if records and (schema := learned(train, other)):
        return rows(train, schema, f"{MEMORY}/train"), rows(other, schema, f"{MEMORY}/valid")
    both = [
        cuts.texts([content.samples.tobytes() for content in part], f"{MEMORY}/{name}")
        for name, part in (("train", train), ("valid", other))
    ]
    return _alike(both[0], both[1])


def padded(sequences: Sequence[Tensor], length: int = 0) -> tuple[Tensor, Tensor]:
    """Sequences (n,) of one type as items (N, length), zero behind their ends, and `given` (N, length) int8: PADDING there.

    length: 0: that of the longest.
    """
    longest = max([length, *map(len, sequences)])
    items = sequences[0].new_zeros(len(sequences), longest)
    given = torch.full((len(sequences), longest), PADDING, dtype=torch.int8, device="cpu")
    for n, sequence in enumerate(sequences):
        items[n, : len(sequence)], given[n, : len(sequence)] = sequence, 0
    return items, given


def _marked(found: Dataset, given: Any, padding: Any) -> Dataset:
    """Items with what is known beforehand and what is padding.  Raises ArdmError where the items already say it."""
    x, own = found.items, found.given
    if own is None and given is None and padding is None:
        return found
    if own is not None and not (given is None and padding is None):
        raise ArdmError("x says itself what is given and what is padding: leave given and padding out")
    if own is None:
        own = torch.zeros(x.shape, dtype=torch.int8, device="cpu")
        own = own if given is None else inputs.depths(given, x, range(ALL), "given", least=PADDING).to(torch.int8)
        own = own if padding is None else own.masked_fill(inputs.padded(padding, x), PADDING)
    return replace(found, items=x.masked_fill(own == PADDING, 0), given=own)


def _alike(one: Dataset, two: Dataset) -> tuple[Dataset, Dataset]:
    """Two sets of sequences of equal lengths, where one says what is padding."""
    if one.items.ndim != 2 or two.items.ndim != 2 or (one.given is None and two.given is None):
        return one, two
    length = max(one.shape[0], two.shape[0])
    return _longer(one, length), _longer(two, length)


def _longer(found: Dataset, length: int) -> Dataset:
    more = length - found.shape[0]
    if not more:
        return found
    given = torch.zeros(found.items.shape, dtype=torch.int8, device="cpu") if found.given is None else found.given
    return replace(found, items=F.pad(found.items, (0, more)), given=F.pad(given, (0, more), value=PADDING))


# --- reading --------------------------------------------------------------------------------------------------------------


def _read(x: Any, name: str, labels: Any) -> Dataset:
    """Items of any integers, whose classes are not known yet, unless x is a `Dataset`; labels as in `pair`."""
    if isinstance(x, Dataset):
        if x.grey:
            raise ArdmError(f"the items of {name} are intensities to sample from: binarise them first (data.binarize)")
        found, marks = x, x.labels
    else:
        plain = isinstance(x, (Tensor, np.ndarray))
        items, marks, given = (_items(x, name), None, None) if plain else _gathered(x, name)
        if not items.numel():
            raise ArdmError(f"{name} holds no values; its shape is {tuple(items.shape)}")
        found = Dataset(items, 0, f"{MEMORY}/{'train' if name == 'x' else name}", given=given)
    return replace(found, labels=_labels(marks, labels, len(found), name))


def _items(x: Tensor | np.ndarray[Any, Any], name: str) -> Tensor:
    """A tensor or an array as items (N, *shape) on the CPU."""
    found = _whole(x, name)
    if found.ndim < 2:
        raise ArdmError(f"{name} must hold items (N, *shape); its shape is {tuple(found.shape)}")
    return found


def _whole(x: Any, name: str) -> Tensor:
    """Whole numbers of any type, on the CPU; for floats the error says how to make them whole."""
    found = inputs.tensor(x, name)
    if found.is_floating_point() and found.numel():
        if not found.isfinite().all():
            raise ArdmError(f"{name} holds NaN or infinity: remove such items, and give integers 0..K−1")
        low, high = float(found.min()), float(found.max())
        if low >= 0 and high <= 1 and not (found == found.round()).all():
            raise ArdmError(
                f"{name} must hold integers 0..K−1; got floats in {low:.3g}..{high:.3g}: for 8-bit pictures give "
                "(255 * x).round().to(torch.uint8), and PILToTensor in place of ToTensor in torchvision"
            )
    if found.dtype not in inputs.WHOLE:
        found = inputs.integers(found, name)
    elif found.dtype in (torch.uint16, torch.uint32, torch.uint64, torch.bool):
        found = inputs.integers(found, name)  # types that PyTorch computes little with
    return found.detach().cpu()


def _gathered(source: Any, name: str) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The items and labels of a map-style data set or a list, and what is padding where sequences differ in length."""
    _refuse_source(source, name)
    items: list[Tensor] = []
    marks: list[int] = []
    for n, (item, mark) in enumerate(_parts(source, name)):
        found = _whole(_array(item, f"item {n} of {name}"), f"item {n} of {name}")
        line = found.ndim == 1 and bool(items) and items[0].ndim == 1 and not isinstance(source, Tensor)
        if items and ((found.shape != items[0].shape and not line) or found.dtype != items[0].dtype):
            raise ArdmError(
                f"item {n} of {name} is {found.dtype} {tuple(found.shape)}, item 0 {items[0].dtype} "
                f"{tuple(items[0].shape)}: all must be alike; crop, pad or convert them"
            )
        items.append(found)
        if mark is not None:
            marks.append(inputs.number(mark.item() if hasattr(mark, "item") else mark, f"label {n} of {name}", 0))
    if not items:
        raise ArdmError(f"{name} holds no items")
    if items[0].ndim == 0:
        raise ArdmError(f"the items of {name} are single numbers; an item is an array of integers, such as (D,)")
    if len(marks) not in (0, len(items)):
        raise ArdmError(f"{len(marks)} of the {len(items)} items of {name} have a label: give one to all, or to none")
    labels = torch.tensor(marks, device="cpu") if marks else None
    if len({item.shape for item in items}) > 1:
        both = padded(items)
        return both[0], labels, both[1]
    return torch.stack(items), labels, None


def _array(item: Any, name: str) -> Any:
    """An item as a tensor or an array; a picture of Pillow as (C, H, W)."""
    if isinstance(item, Tensor):
        return item
    try:
        found = np.asarray(item)
    except ValueError:
        raise ArdmError(f"{name} is a {type(item).__name__} of parts of different sizes: {ITEM}") from None
    if hasattr(item, "getbands"):
        return found[None] if found.ndim == 2 else np.moveaxis(found, -1, 0)
    return found


def _parts(source: Any, name: str) -> Iterator[tuple[Any, Any]]:
    """(item, label or None) of each item."""
    for n in range(len(source)):
        item = source[n]
        mark = None
        if isinstance(item, (tuple, list)):
            if len(item) == 2 and _is_item(item[0]) and _is_label(item[1]):
                item, mark = item
            elif len(item) == 1 and isinstance(item[0], (Tensor, np.ndarray)):
                item = item[0]  # of a TensorDataset without labels
        several = isinstance(item, (tuple, list)) and any(isinstance(v, (Tensor, np.ndarray)) and v.ndim for v in item)
        if several or isinstance(item, (dict, str, bytes)):
            of = f" of {len(item)} arrays" if several else ""
            raise ArdmError(f"item {n} of {name} is a {type(item).__name__}{of}: {ITEM}")
        yield item, mark


def _is_item(value: Any) -> bool:
    """Whether the first of two values is an item, and the second its label; otherwise both are values of an item."""
    return isinstance(value, Tensor) or hasattr(value, "getbands") or np.ndim(value) > 0


def _is_label(value: Any) -> bool:
    """Whether the second of two values is one number, by itself or as a vector of one."""
    return np.ndim(value) == 0 or (isinstance(value, (Tensor, np.ndarray)) and tuple(value.shape) == (1,))


def _refuse_source(x: Any, name: str) -> None:
    """Raise ArdmError for what is neither a map-style data set nor a list, saying what to give."""
    hint = ""
    if isinstance(x, (str, bytes)) or hasattr(x, "__fspath__"):
        hint = ': read files with ardm.data.load("text", path), or "images", "sounds", "table", "array"'
    elif hasattr(x, "dataset") and not hasattr(x, "__getitem__"):
        hint = ": give the data set of the loader (.dataset); batches are made here"
    elif hasattr(x, "to_numpy"):
        hint = ': give integers, x.to_numpy(); ardm.data.load("table", "file.csv") keeps the names of a table'
    elif not (hasattr(x, "__getitem__") and hasattr(x, "__len__")) or isinstance(x, dict):
        hint = ": give a tensor, an array, or a data set with __getitem__ and __len__"
    if hint:
        raise ArdmError(f"{name} is a {type(x).__name__}, which holds no items{hint}")


def _labels(found: Tensor | None, wanted: Any, items: int, name: str) -> Tensor | None:
    """The labels to use, (N,) int64; wanted: as in `pair`."""
    if wanted is None or wanted is False:
        return None
    if wanted is True:
        if found is None:
            way = "valid=(items, labels)" if name == "valid" else "labels=y"
            raise ArdmError(f"labels should come with {name}, and there are none: give {way}")
        return found.long()
    marks = inputs.integers(np.asarray(wanted) if isinstance(wanted, (list, tuple)) else wanted, "labels").cpu()
    if marks.shape != (items,):
        raise ArdmError(
            f"labels must be one integer per item of {name}, {items} in all; got shape {tuple(marks.shape)}"
        )
    if int(marks.min()) < 0:
        raise ArdmError(f"labels count from 0; got {int(marks.min())}")
    return marks


# --- classes, columns and parts -------------------------------------------------------------------------------------------


def _alphabet(parts: list[Dataset], classes: int, table: bool) -> list[Dataset]:
    """The parts in the smallest type that holds their classes, the same for all; columns for a table."""
    low, high = min(int(p.items.min()) for p in parts), max(int(p.items.max()) for p in parts)
    if low < 0:
        hint = ": for 16-bit sound add 32768" if parts[0].items.dtype == torch.int16 else ": add an offset"
        raise ArdmError(f"x must hold values 0..K−1; got {low}..{high}{hint}")
    known = parts[0].classes or (256 if len(parts[0].shape) == 3 and high in INTENSITIES else high + 1)
    K = inputs.number(classes, "classes", 2) if classes else max(known, 2)
    if high >= K:
        raise ArdmError(f"x must hold values 0..{K - 1}, because classes is {K}; got {low}..{high}")
    columns = parts[0].columns
    if columns and (wrong := (_largest(parts) >= torch.tensor(columns, device="cpu")).nonzero()[:, 0].tolist()):
        raise ArdmError(
            f"column {wrong[0]} has {columns[wrong[0]]} classes; got the value {int(_largest(parts)[wrong[0]])}"
        )
    columns = columns or (_columns(parts) if table else ())
    kind = torch.from_numpy(np.empty(0, smallest(K))).dtype
    return [replace(p, items=p.items.to(kind), classes=max(columns) if columns else K, columns=columns) for p in parts]


def _columns(parts: list[Dataset]) -> tuple[int, ...]:
    """The classes of each column: its largest value + 1, in all parts."""
    if len(parts[0].shape) != 1:
        raise ArdmError(f"a table has items (columns,); these have shape {tuple(parts[0].shape)}")
    return tuple((_largest(parts) + 1).tolist())


def _largest(parts: list[Dataset]) -> Tensor:
    """The largest value of each site, (*shape)."""
    return torch.stack([part.items.long().amax(0) for part in parts]).amax(0)


def _divided(whole: Dataset) -> tuple[Dataset, Dataset]:
    """Training and validation items; at least one of each."""
    held = _held([f"row {n}" for n in range(len(whole))])
    name = whole.name.partition("/")[0]
    parts = [whole.subset(~held), whole.subset(held)]
    return replace(parts[0], name=f"{name}/train"), replace(parts[1], name=f"{name}/valid")


def _held(keys: Sequence[str]) -> Tensor:
    """(items,) bool: the items to validate with, by a hash of their keys; some, but not all.

    Items of the same key stay together, unless all have the same.
    """
    if len(keys) < 2:
        raise ArdmError(f"a fit needs at least 2 items, one of them to validate with; got {len(keys)}: give valid=")
    if len(set(keys)) < 2:
        keys = [f"row {n}" for n in range(len(keys))]
    held = torch.tensor([in_split(key, "valid") for key in keys], device="cpu")
    if not held.any() or held.all():
        first = min(keys, key=fraction)
        held = torch.tensor([key == first for key in keys], device="cpu")
    return held
