"""Logits to bytes and back: integer frequencies, and a stream coder (rANS) that is exact on every machine.

A symbol of frequency `width` owns an interval of the numbers 0..2^24−1, and probability p = width / 2^24:

    0              start            start + width                 2^24
    |----------------|=================|----------------------------|
      symbols before    this symbol          symbols after

The coder is one integer, the state x.  Encoding and decoding a symbol (Duda 2013, "range variant") are

    push:   x  ←  (x div width) · 2^24  +  start  +  (x mod width)          x grows by −log2 p bits
    pop:    c = x mod 2^24 lies in the interval of the symbol;
            x  ←  width · (x div 2^24)  +  c  −  start                      x shrinks by −log2 p bits

x is kept below 2^64: a push that would pass it first moves the low 32 bits of x out as a word, and a pop that falls below
2^32 takes the last word back in, as long as there is one.

The frequencies are a softmax in integers: logits are rounded to 1/32 nat, subtracted from the largest, and looked up in
a table of 2^30 · exp(−i/32).  With t the table entries of C possible symbols,

    width_j = 1 + ⌊ t_j · (2^24 − C) / Σ t ⌋,      and the first of the widest symbols gets the rest of 2^24.

Read me first:

* `quantise` is the only place that reads floats.  Two machines that agree on its result agree on everything after it.
* First pushed is first popped, although rANS is a stack: `Encoder` keeps the intervals and codes them backwards in
  `finish`.  Nothing is written before that; the stream begins with the coder's last state.
* The coder starts at x = 2^b + check, where check is a checksum of b bits from the caller: 32, 16, 8 or 0.  A start
  costs its bits, and this one leaves the checksum with the decoder at the end (`Decoder.close`).  The first symbol
  lifts a smaller state to about 2^24, so a stream without a check is still about three bytes longer than the ideal.
* Only that checksum reveals a damaged stream: damage decodes to other symbols, not to an error.
* An impossible symbol (logit −inf) has width 0: pushing it is an error, and no stream decodes to it.  The only possible
  symbol has width 2^24 and costs nothing.
* The bytes are those of constriction's `AnsCoder`, which decodes faster than Python and is used wherever it can be: it
  does not support symbols of width 0.  The loop in Python is the definition, and works everywhere.

NumPy, integers, no torch.  Shapes: N symbols, each one of b.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ardm.errors import ArdmError, CodecError

try:
    import constriction
except ImportError:  # no wheel for this platform: the loop in Python writes and reads the same bytes
    constriction = None

Ints: TypeAlias = NDArray[np.int64]
Backend: TypeAlias = Literal["constriction", "python"]

PRECISION = 24
"""The frequencies of a row sum to 2^PRECISION."""
TOTAL = 1 << PRECISION
"""The sum of the frequencies of a row."""
GRID = 32
"""Steps of the logit grid per nat."""
RANGE = 24
"""The table of exponentials ends this many nats below the largest logit."""
IMPOSSIBLE = -(1 << 62)
"""The grid value of an impossible symbol.  Those of possible symbols lie in ±2^61."""
BACKEND: Backend = "python" if constriction is None else "constriction"
"""The default backend of encoders and decoders."""

CHECKS = (32, 16, 8, 0)
"""The bits that a check may have."""

_LOW = 1 << 32  # the least state while words are left; such a state holds 33 to 64 bits
_WORD = _LOW - 1
_LIMIT = float(1 << 40)  # nats at which finite logits saturate, far from the limits of int64
_BLOCK = 1 << 16  # table entries processed at once; a few arrays of them fit the cache


def _table() -> Ints:
    """(GRID · RANGE,): ⌊2^30 · exp(−i / GRID)⌋, in Python integers of 120 bits, independent of any mathematics library."""
    one = 1 << 120
    ratio, term, k = 0, one, 0  # exp(−1 / GRID) = Σ (−1)^k / (GRID^k k!)
    while term:
        ratio += -term if k % 2 else term
        k += 1
        term //= GRID * k
    entries, power = [], one
    for _ in range(GRID * RANGE):
        entries.append(power >> 90)
        power = power * ratio >> 120
    return np.array(entries, dtype=np.int64)


EXP = _table()
"""The table of exponentials: 2^30 at index 0, and 0 from index 666, which is 21 nats below the largest."""


def _integers(name: str, x: ArrayLike, ndim: int) -> Ints:
    """An array of integers with `ndim` axes as int64, or ArdmError."""
    array = np.asarray(x)
    if array.ndim != ndim or (array.size and array.dtype.kind not in "iu"):
        raise ArdmError(f"{name} must be integers with {ndim} axes; got {array.dtype} of shape {array.shape}")
    return array.astype(np.int64, copy=False)


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the rows of a table (N, b); the entries of each slice fit the cache."""
    step = max(1, _BLOCK // max(1, shape[1]))
    return (slice(row, row + step) for row in range(0, shape[0], step))


# --- frequencies ------------------------------------------------------------------------------------------------------


def quantise(logits: ArrayLike) -> Ints:
    """Logits in nats (N, b) to the grid of 1/32 nat, ⌊32 l + 1/2⌋: (N, b) int64; −inf becomes IMPOSSIBLE.

    Equal float32 and float64 logits give the same result.  Finite logits saturate at ±2^40 nats.
    Raises ArdmError for NaN, +inf or another number of axes.
    """
    x = np.asarray(logits, dtype=np.float64)
    if x.ndim != 2:
        raise ArdmError(f"logits must have shape (N, b); got {x.shape}")
    if not (x < np.inf).all():
        row, symbol = np.argwhere(~(x < np.inf))[0]
        raise ArdmError(f"logits must be finite, or -inf for an impossible symbol; got {x[row, symbol]} in row {row}")
    grid = np.clip(x, -_LIMIT, _LIMIT)
    grid *= GRID
    grid += 0.5
    integers = np.floor(grid, out=grid).astype(np.int64)
    integers[np.isneginf(x)] = IMPOSSIBLE
    return integers


def frequencies(grid: ArrayLike) -> Ints:
    """The softmax in integers: grid (N, b), from `quantise`, to widths (N, b) int64; every row sums to 2^24.

    A possible symbol has width ≥ 1, an impossible one 0.  Adding a constant to a row changes nothing.  Compared with the
    float softmax of the same logits, the cost is below 0.0002 bits per symbol.
    Raises ArdmError for a row without a possible symbol.
    """
    grid = _integers("grid", grid, 2)
    result = np.empty_like(grid, order="C")
    if grid.size == 0 and len(grid):
        raise ArdmError(f"grid must offer at least one symbol; got shape {grid.shape}")
    for rows in _blocks(grid.shape):
        x, weight = grid[rows], result[rows]
        possible = x != IMPOSSIBLE
        if not possible.any(axis=1).all():
            raise ArdmError(f"row {rows.start + possible.any(axis=1).argmin()} of grid has no possible symbol")
        np.subtract(x.max(axis=1, keepdims=True), x, out=weight)
        np.minimum(weight, GRID * RANGE - 1, out=weight)
        EXP.take(weight.copy(), out=weight, mode="clip")  # ≤ 2^30; impossible symbols get the 0 at the end
        widths(weight, possible, out=weight)
    return result


def widths(mass: Ints, possible: NDArray[np.bool_] | None = None, out: Ints | None = None) -> Ints:
    """Masses (N, b) int64 to widths (N, b) int64 in proportion; every row sums to 2^24.

        width_j = 1 + ⌊ mass_j · (2^24 − C) / Σ mass ⌋,     the first of the widest gets the rest of 2^24

    C: the number of possible symbols of the row.  mass: at least 0, 0 where impossible, a row sums to 1..2^38.
    possible: (N, b); by default all.  out: array for the result; may be mass itself.
    """
    count = mass.shape[1] if possible is None else possible.sum(axis=1, keepdims=True)
    norm = mass.sum(axis=1, keepdims=True)
    out = np.multiply(mass, TOTAL - count, out=out)  # ≤ 2^62
    np.floor_divide(out, norm, out=out)
    out += 1 if possible is None else possible
    widest = out.argmax(axis=1)  # NumPy guarantees the first of equals
    out[np.arange(len(out)), widest] += TOTAL - out.sum(axis=1)
    return out


def cumulative(freq: ArrayLike) -> Ints:
    """Widths (N, b) to borders (N, b + 1) int64 from 0 to 2^24: symbol j owns [border_j, border_{j+1})."""
    freq = _integers("freq", freq, 2)
    borders = np.zeros((freq.shape[0], freq.shape[1] + 1), dtype=np.int64)
    np.cumsum(freq, axis=1, out=borders[:, 1:])
    return borders


def intervals(freq: ArrayLike, symbols: ArrayLike) -> tuple[Ints, Ints]:
    """The intervals of symbols (N,) under widths (N, b): start and width, (N,) each, for `Encoder.push`.

    Raises ArdmError for a symbol outside 0..b−1.
    """
    freq, symbols = _integers("freq", freq, 2), _integers("symbols", symbols, 1)
    if len(symbols) != len(freq):
        raise ArdmError(f"each symbol needs a row of freq; got {len(symbols)} symbols and {len(freq)} rows")
    if len(symbols) and not (symbols.min() >= 0 and symbols.max() < freq.shape[1]):
        raise ArdmError(f"symbols must lie in 0..{freq.shape[1] - 1}; got {symbols.min()}..{symbols.max()}")
    start, width = np.empty_like(symbols), np.empty_like(symbols)
    for rows in _blocks(freq.shape):
        place = (np.arange(len(freq[rows])), symbols[rows])
        width[rows] = freq[rows][place]
        start[rows] = freq[rows].cumsum(axis=1)[place] - width[rows]
    return start, width


# --- the stream -------------------------------------------------------------------------------------------------------


def refuse_check(bits: int) -> None:
    """Raise ArdmError for a number of bits that no check has."""
    if bits not in CHECKS:
        raise ArdmError(f"a check has {', '.join(map(str, CHECKS[:-1]))} or {CHECKS[-1]} bits; got {bits}")


def _refuse_backend(backend: str) -> None:
    """Raise ArdmError for an unknown backend, or one that is not installed."""
    if backend not in ("constriction", "python"):
        raise ArdmError(f"backend must be 'constriction' or 'python'; got {backend!r}")
    if backend == "constriction" and constriction is None:
        raise ArdmError(
            "backend 'constriction' is not installed; use 'python', which writes and reads the same streams"
        )


class Encoder:
    """Intervals to bytes, first in, first out.  One encoder makes one stream.

    backend: both write the same bytes.  Raises ArdmError if it is unknown or not installed.
    """

    def __init__(self, backend: Backend = BACKEND) -> None:
        _refuse_backend(backend)
        self._is_native = backend == "constriction"
        self._pushed: list[tuple[Ints, Ints]] = []

    def push(self, start: ArrayLike, width: ArrayLike) -> None:
        """Append N symbols by their intervals [start, start + width): (N,) integers each, in units of 2^-24.

        Raises ArdmError for a width of 0 (an impossible symbol), or an interval outside 0..2^24.
        """
        first, size = _integers("start", start, 1).copy(), _integers("width", width, 1).copy()
        if first.shape != size.shape:
            raise ArdmError(f"start and width must have the same length; got {len(first)} and {len(size)}")
        bad = (first < 0) | (size < 1) | (first > TOTAL - size)
        if bad.any():
            k = bad.argmax()
            raise ArdmError(
                f"symbol {k} has start {first[k]} and width {size[k]}; it needs 0 <= start, 1 <= width and "
                f"start + width <= 2^{PRECISION} (width 0: the model calls this symbol impossible)"
            )
        self._pushed.append((first, size))

    def finish(self, check: int, bits: int = 32) -> bytes:
        """The stream of everything pushed and of `check` in 0..2^bits−1, such as a CRC-32 of the data.

        bits: of the check: 32, 16, 8 or 0.  First the state without leading zero bytes (5 to 8 bytes, or fewer if no word
        follows), then the words, the last to leave the state first, all big-endian: a decoder reads from front to end.
        With 32 bits, the stream is less than 41 bits longer than the ideal −Σ log2 p, about 37 on average; with fewer, less
        than 33, about 20.  `check` is included.
        Raises ArdmError for a check out of range.
        """
        refuse_check(bits)
        if not 0 <= check < 1 << bits:
            raise ArdmError(f"check must lie in 0..2^{bits} - 1; got {check}")
        state, words = 1 << bits | int(check), np.zeros(0, dtype=np.uint32)
        if self._pushed:
            start, width = map(np.concatenate, zip(*self._pushed, strict=True))
            narrow = width < TOTAL  # a certain symbol changes nothing
            start, width = start[narrow], width[narrow]
            state, words = (self._constriction if self._is_native else self._python)(start, width, state)
        return state.to_bytes((state.bit_length() + 7) // 8, "big") + words[::-1].astype(">u4").tobytes()

    def _python(self, starts: Ints, widths: Ints, state: int) -> tuple[int, NDArray[np.uint32]]:
        """The last state and the words, first out first, by definition."""
        words = []
        for start, width in zip(starts[::-1].tolist(), widths[::-1].tolist(), strict=True):
            if state >> (64 - PRECISION) >= width:
                words.append(state & _WORD)
                state >>= 32
            quotient, rest = divmod(state, width)
            state = (quotient << PRECISION) + start + rest
        return state, np.array(words, dtype=np.uint32)

    def _constriction(self, starts: Ints, widths: Ints, state: int) -> tuple[int, NDArray[np.uint32]]:
        """`_python` with constriction, which knows no intervals but symbols: each interval becomes one of 2 or 3.

        The intervals of width 2^24 − 1 are symbols of 2; if they alternate with others too often, Python is faster.
        """
        few = widths == TOTAL - 1
        cuts = (np.flatnonzero(few[1:] != few[:-1]) + 1).tolist()
        if len(cuts) > len(widths) >> 6:
            return self._python(starts, widths, state)
        coder = constriction.stream.stack.AnsCoder(
            np.array([state & _WORD, state >> 32][: 1 + (state > _WORD)], np.uint32)
        )
        family = constriction.stream.model.Categorical(perfect=False)
        runs = zip([0, *cuts], [*cuts, len(widths)], strict=True)
        for start, stop in [(at, min(at + _BLOCK, e)) for b, e in runs for at in range(b, e, _BLOCK)][::-1]:
            coder.encode_reverse(*_as_symbols(starts[start:stop], widths[start:stop], family))
        left, state = coder.pos()
        return state, coder.get_compressed()[:left]


def _as_symbols(start: Ints, width: Ints, family: Any) -> tuple[NDArray[np.int32], Any, NDArray[np.float32]]:
    """Intervals as symbols of tables in which every symbol is possible, as constriction takes them: none is certain.

    The widths of a table, less 1, are exact in float32, and constriction adds the 1 again.
    """
    rest = TOTAL - start - width
    if width[0] == TOTAL - 1:  # as all others
        symbol, table = start, [np.where(start, 1, width), np.where(start, width, 1)]
    else:  # the parts before and after, or the other side in two
        first, last = start == 0, rest == 0
        symbol = 1 - first + last
        parts = ((width, start, 1), (rest - 1, width, start - 1), (1, rest, width))
        table = [np.where(first, a, np.where(last, c, b)) for a, b, c in parts]
    return symbol.astype(np.int32), family, (np.stack(table, axis=1) - 1).astype(np.float32)


class Decoder:
    """The bytes of an `Encoder` to symbols, in the order in which they were pushed.

    data: one whole stream.  backend: both give the same symbols.  bits: of its check.
    Raises CodecError if the bytes cannot be a stream, ArdmError if the backend is unknown or not installed.
    """

    def __init__(self, data: bytes, backend: Backend = BACKEND, bits: int = 32) -> None:
        refuse_check(bits)
        _refuse_backend(backend)
        split = min(len(data), 5 + (len(data) - 5) % 4)  # up to 8 bytes of state before, words after
        if 8 * len(data) <= bits or data[0] == 0:
            raise CodecError(f"truncated or damaged stream: {len(data)} bytes do not begin with a coder state")
        words = np.frombuffer(data, dtype=">u4", offset=split)[::-1]  # a stack: the next word is the last
        self._words: list[int] = words.tolist()
        self._left = len(self._words)
        self._bits, self._state = bits, int.from_bytes(data[:split], "big")
        self._ans: Any = None
        if backend == "constriction":
            any_state = [0, 1]  # `pop` sets it
            self._ans = constriction.stream.stack.AnsCoder(np.append(words, any_state).astype(np.uint32))
            self._family = constriction.stream.model.Categorical(perfect=False)

    @property
    def state(self) -> int:
        """The state x."""
        return self._state

    @property
    def words(self) -> bytes:
        """The words that were not read yet, 4 bytes each, the next first."""
        return np.array(self._words[: self._left][::-1], dtype=">u4").tobytes()

    def resume(self, state: int, left: int) -> None:
        """Go on from a state with the last `left` words, after symbols were popped elsewhere; raises as `pop` does."""
        if not 0 <= left <= self._left:
            raise ArdmError(f"a decoder with {self._left} words cannot go on with {left}")
        self._state, self._left = state, left
        self._refuse_end()

    def pop(self, freq: ArrayLike) -> Ints:
        """Pop N symbols, (N,) int64, under widths freq (N, b), whose rows sum to 2^24.

        Raises CodecError if the stream ends, ArdmError if freq is not a table of frequencies.
        """
        freq = _integers("freq", freq, 2)
        if freq.size <= _BLOCK:
            return self._pop(freq)
        return np.concatenate([self._pop(freq[rows]) for rows in _blocks(freq.shape)])

    def _pop(self, freq: Ints) -> Ints:
        """`pop` for a table of one block."""
        least = np.minimum.reduce(freq, axis=None, initial=TOTAL)
        if least < 0 or np.count_nonzero(np.add.reduce(freq, axis=1) != TOTAL):
            raise ArdmError(f"each row of freq must be widths >= 0 that sum to 2^{PRECISION}")
        native = self._ans is not None and least > 0 and freq.shape[1] > 1
        return self._pop_constriction(freq) if native else self._pop_python(freq)

    def _pop_python(self, freq: Ints) -> Ints:
        """`pop`, by definition."""
        step = freq.shape[1] + 1
        borders = cumulative(freq).reshape(-1).data
        state, symbols = self._state, []
        for row in range(0, len(borders), step):
            slot = state & (TOTAL - 1)
            piece = bisect_right(borders, slot, row, row + step) - 1  # the last border <= slot; its width is never 0
            start = borders[piece]
            state = (borders[piece + 1] - start) * (state >> PRECISION) + slot - start
            if state < _LOW and self._left:
                self._left -= 1
                state = state << 32 | self._words[self._left]
            symbols.append(piece - row)
        self._state = state
        self._refuse_end()
        return np.array(symbols, dtype=np.int64)

    def _refuse_end(self) -> None:
        """Raise CodecError after a symbol too many: states only shrink, and the last one holds the check."""
        if self._state >> self._bits == 0:
            raise CodecError("truncated stream: it ends before its last symbol")

    def _pop_constriction(self, freq: Ints) -> Ints:
        """`pop` with constriction, for tables in which every symbol is possible.

        constriction gives symbol j the width 1 + ⌊p_j (2^24 − b) / Σ p⌋; for p = width − 1 this is exact in float32.
        """
        weights = freq.astype(np.float32)
        weights -= 1
        self._ans.seek(self._left, self._state)
        symbols: Ints = self._ans.decode(self._family, weights).astype(np.int64)
        self._left, self._state = self._ans.pos()
        self._refuse_end()
        return symbols

    def close(self, check: int | None = None) -> int:
        """End decoding after the last symbol; returns the `check` that the encoder was given.

        check: the expected value, if known.  Raises CodecError if it differs, or if the stream does not end here.
        """
        if self._left or self._state >> self._bits != 1:
            raise CodecError("damaged stream: it does not end with its last symbol")
        found = self._state - (1 << self._bits)
        if check is not None and check != found:
            size = self._bits // 4
            raise CodecError(
                f"damaged stream: its checksum is {found:0{size}x}, that of the decoded data {check:0{size}x}"
            )
        return found
