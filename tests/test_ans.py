"""The entropy coder: integer softmax against a slow one, streams against constriction, damage against checksums."""

import ast
import hashlib
import math
import zlib
from decimal import Decimal, getcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm import ans
from ardm.ans import EXP, GRID, IMPOSSIBLE, RANGE, TOTAL, Decoder, Encoder
from ardm.errors import ArdmError, CodecError

try:
    import constriction
except ImportError:
    constriction = None

needs_constriction = pytest.mark.skipif(constriction is None, reason="constriction has no wheel here")
BACKENDS = ["python", pytest.param("constriction", marks=needs_constriction)]


# --- helpers ----------------------------------------------------------------------------------------------------------


def logits_of(rng, rows, base, sharp=3.0, banned=0.0):
    """Random logits (rows, base); a share `banned` of symbols is impossible, at least one of each row is not."""
    logits = rng.normal(size=(rows, base)) * sharp
    impossible = rng.random((rows, base)) < banned
    impossible[np.arange(rows), rng.integers(0, base, rows)] = False
    logits[impossible] = -np.inf
    return logits


def table_of(rng, rows, base, sharp=3.0, banned=0.0):
    return ans.frequencies(ans.quantise(logits_of(rng, rows, base, sharp, banned)))


def draw(rng, freq):
    """One symbol of each row, drawn by its frequencies."""
    slot = rng.integers(0, TOTAL, len(freq))
    return (ans.cumulative(freq)[:, 1:] <= slot[:, None]).sum(axis=1)


def crc(symbols):
    return zlib.crc32(np.asarray(symbols, dtype="<i8").tobytes())


def encode(tables, data, check, bits=32, backend=ans.BACKEND):
    encoder = Encoder(backend)
    for freq, symbols in zip(tables, data, strict=True):
        encoder.push(*ans.intervals(freq, symbols))
    return encoder.finish(check, bits)


def decode(stream, tables, backend, check=None, bits=32):
    decoder = Decoder(stream, backend, bits)
    data = [decoder.pop(freq) for freq in tables]
    return data, decoder.close(check)


def constriction_encode(tables, data, check):
    """The stream as constriction writes it, from whole tables and one symbol at a time.  Not the code under test."""
    coder = constriction.stream.stack.AnsCoder(np.array([check, 1], dtype=np.uint32))
    pairs = [pair for freq, symbols in zip(tables, data, strict=True) for pair in zip(freq, symbols, strict=True)]
    for row, symbol in reversed(pairs):
        possible = np.flatnonzero(row)
        if len(possible) > 1:  # constriction knows neither impossible symbols nor certain ones
            model = constriction.stream.model.Categorical((row[possible] - 1).astype(np.float64), perfect=False)
            coder.encode_reverse(int(np.searchsorted(possible, symbol)), model)
    return coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")[::-1]


def slow_frequencies(row):
    """The integer softmax of one row of the grid in Python integers, by its definition."""
    top = max(row)
    weight = [0 if x == IMPOSSIBLE else int(EXP[min(top - x, GRID * RANGE - 1)]) for x in row]
    spare = TOTAL - sum(x != IMPOSSIBLE for x in row)
    freq = [0 if x == IMPOSSIBLE else 1 + w * spare // sum(weight) for x, w in zip(row, weight, strict=True)]
    freq[freq.index(max(freq))] += TOTAL - sum(freq)
    return freq


@st.composite
def problems(draw_):
    """Tables of several widths, with and without impossible symbols; data drawn from them, or uniformly."""
    rng = np.random.default_rng(draw_(st.integers(0, 2**32 - 1)))
    tables, data = [], []
    for _ in range(draw_(st.integers(0, 4))):
        rows, base = draw_(st.integers(0, 40)), draw_(st.sampled_from([1, 2, 3, 4, 16, 27, 256]))
        sharp, banned = draw_(st.sampled_from([0.0, 1.0, 6.0, 200.0])), draw_(st.sampled_from([0.0, 0.0, 0.3, 1.0]))
        freq = table_of(rng, rows, base, sharp, banned)
        if draw_(st.booleans()):
            symbols = draw(rng, freq)
        else:  # any possible symbol, however unlikely
            symbols = (rng.random(freq.shape) * (freq > 0)).argmax(axis=1)
        tables.append(freq)
        data.append(symbols)
    return tables, data, draw_(st.sampled_from([0, 1, 2**31, 2**32 - 1]))


# --- the table --------------------------------------------------------------------------------------------------------


def test_table_is_the_exponential_cut_off():
    getcontext().prec = 60
    exact = [math.floor((Decimal(-i) / GRID).exp() * 2**30) for i in range(GRID * RANGE)]
    assert EXP.tolist() == exact
    assert exact[-1] == 0  # impossible symbols come to lie here
    error = [2**30 * math.exp(-i / GRID) - int(e) for i, e in enumerate(EXP)]
    assert min(error) > -1e-6
    assert max(error) < 1


def test_table_is_pinned():
    assert EXP[:3].tolist() == [1073741824, 1040706261, 1008687095]
    digest = hashlib.sha256(EXP.astype("<i8").tobytes()).hexdigest()
    assert digest == "59171fbabd3d4dcbf14afea8167b41880d5d0fbb2bdab837037deeb2e2df9ef1"


def test_never_imports_torch():
    tree = ast.parse(Path(ans.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {
        "__future__", "ardm", "bisect", "collections", "constriction", "numpy", "typing",
    }  # fmt: skip
    assert {name for name in names if name.startswith("ardm")} == {"ardm.errors"}


# --- quantise ---------------------------------------------------------------------------------------------------------


def test_quantise_rounds_half_up():
    steps = np.array([[0.0, 0.49, 0.5, 1.5, -0.49, -0.5, -0.51, -1.5, 100.0]])
    assert ans.quantise(steps / 32).tolist() == [[0, 0, 1, 2, 0, 0, -1, -1, 100]]


def test_quantise_marks_the_impossible_and_saturates():
    grid = ans.quantise([[-np.inf, -1e300, 1e300, float(np.finfo(np.float32).min)]])
    assert grid.tolist() == [[IMPOSSIBLE, -(2**45), 2**45, -(2**45)]]
    assert ans.frequencies(grid).tolist() == [[0, 1, TOTAL - 2, 1]]


def test_quantise_sees_the_value_not_the_type():
    logits = np.random.default_rng(0).normal(size=(20, 9)).astype(np.float32)
    np.testing.assert_array_equal(ans.quantise(logits), ans.quantise(logits.astype(np.float64)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_quantise_refuses(bad):
    with pytest.raises(ArdmError, match=r"-inf for an impossible symbol; got .* in row 1"):
        ans.quantise([[0.0, 1.0], [2.0, bad]])


def test_quantise_refuses_other_shapes():
    with pytest.raises(ArdmError, match=r"shape \(N, b\)"):
        ans.quantise([0.0, 1.0])


# --- frequencies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [1, 2, 3, 16, 27, 256, 1000])
@pytest.mark.parametrize("sharp", [0.0, 1.0, 6.0, 1000.0])
@pytest.mark.parametrize("banned", [0.0, 0.4, 1.0])
def test_frequencies_sum_to_total(base, sharp, banned):
    logits = logits_of(np.random.default_rng(base), 300, base, sharp, banned)  # 300 rows of 1000 are several blocks
    freq = ans.frequencies(ans.quantise(logits))
    assert freq.dtype == np.int64
    assert freq.shape == logits.shape
    assert (freq.sum(axis=1) == TOTAL).all()
    assert ((freq >= 1) == np.isfinite(logits)).all()
    assert ((freq == 0) == np.isneginf(logits)).all()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.just(IMPOSSIBLE), st.integers(-900, 900)), min_size=5, max_size=5).filter(
            lambda row: max(row) > IMPOSSIBLE
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(-(2**40), 2**40),
)
def test_frequencies_equal_the_slow_ones(grid, shift):
    freq = ans.frequencies(grid).tolist()
    assert freq == [slow_frequencies(row) for row in grid]
    assert freq == ans.frequencies([[x if x == IMPOSSIBLE else x + shift for x in row] for row in grid]).tolist()


def test_frequencies_equal_the_slow_ones_over_several_blocks():
    grid = ans.quantise(logits_of(np.random.default_rng(5), 300, 257, 4.0, 0.1))
    assert grid.size > ans._BLOCK
    assert ans.frequencies(grid).tolist() == [slow_frequencies(row) for row in grid.tolist()]


def test_what_is_left_goes_to_the_first_of_the_widest():
    assert ans.frequencies([[-5000, 7, 7, 7]]).tolist() == [[1, 5592405, 5592405, 5592405]]
    assert ans.frequencies([[7, 7, 7]]).tolist() == [[5592406, 5592405, 5592405]]
    assert ans.frequencies([[IMPOSSIBLE, 0, 9, IMPOSSIBLE, 9, 9, 0]])[0].argmax() == 2


def test_one_possible_symbol_has_all():
    assert ans.frequencies([[-3]]).tolist() == [[TOTAL]]
    assert ans.frequencies([[IMPOSSIBLE, -3, IMPOSSIBLE]]).tolist() == [[0, TOTAL, 0]]


def test_frequencies_refuse_a_row_without_possible_symbols():
    grid = np.zeros((70_000, 2), dtype=np.int64)
    grid[69_000] = IMPOSSIBLE
    with pytest.raises(ArdmError, match="row 69000 of grid has no possible symbol"):
        ans.frequencies(grid)
    with pytest.raises(ArdmError, match="at least one symbol"):
        ans.frequencies(np.zeros((3, 0), dtype=np.int64))
    with pytest.raises(ArdmError, match="grid must be integers with 2 axes; got float64"):
        ans.frequencies(np.zeros((3, 2)))
    assert ans.frequencies(np.zeros((0, 4), dtype=np.int64)).shape == (0, 4)


@pytest.mark.parametrize("sharp", [1.0, 4.0, 10.0])
def test_price_of_integers(sharp):
    logits = logits_of(np.random.default_rng(1), 2000, 256, sharp)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    q = ans.frequencies(ans.quantise(logits)) / TOTAL
    price = (p * np.log2(np.where(p > 0, p, 1) / q)).sum(axis=1)
    assert price.min() > -1e-12
    assert price.mean() < 0.0002


def test_cumulative_and_intervals():
    freq = np.array([[0, 3, TOTAL - 3, 0], [TOTAL, 0, 0, 0]])
    assert ans.cumulative(freq).tolist() == [[0, 0, 3, TOTAL, TOTAL], [0, TOTAL, TOTAL, TOTAL, TOTAL]]
    start, width = ans.intervals(freq, [2, 0])
    assert start.tolist() == [3, 0]
    assert width.tolist() == [TOTAL - 3, TOTAL]
    with pytest.raises(ArdmError, match=r"symbols must lie in 0\.\.3; got 0\.\.4"):
        ans.intervals(freq, [0, 4])
    with pytest.raises(ArdmError, match=r"symbols must lie in 0\.\.3; got -1\.\.0"):
        ans.intervals(freq, [0, -1])
    with pytest.raises(ArdmError, match="1 symbols and 2 rows"):
        ans.intervals(freq, [0])


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=150, deadline=None)
@given(problem=problems())
def test_round_trip(backend, problem):
    tables, data, check = problem
    for bits in ans.CHECKS:
        decoded, found = decode(encode(tables, data, check % 2**bits, bits), tables, backend, check % 2**bits, bits)
        assert found == check % 2**bits
    for symbols, told in zip(decoded, data, strict=True):
        np.testing.assert_array_equal(symbols, told)


@needs_constriction
@settings(max_examples=100, deadline=None)
@given(problem=problems())
def test_bytes_are_those_of_constriction(problem):
    tables, data, check = problem
    for backend in ("python", "constriction"):
        assert encode(tables, data, check, backend=backend) == constriction_encode(tables, data, check)


@needs_constriction
def test_bytes_are_those_of_constriction_in_one_call():
    rng = np.random.default_rng(2)
    freq = table_of(rng, 5000, 256)
    symbols = draw(rng, freq)
    coder = constriction.stream.stack.AnsCoder(np.array([77, 1], dtype=np.uint32))
    family = constriction.stream.model.Categorical(perfect=False)
    coder.encode_reverse(symbols.astype(np.int32), family, (freq - 1).astype(np.float64))
    assert encode([freq], [symbols], 77) == coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")[::-1]


SIDES = st.sampled_from([0, 0, 0, 1, 2, 3, 1 << 12, (1 << 23) - 1])


@needs_constriction
@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(SIDES, SIDES, st.booleans()), max_size=40),
    st.sampled_from([1, 70, 3000]),
    st.sampled_from(ans.CHECKS),
    st.integers(0, 2**32 - 1),
)
def test_backends_write_alike(sides, repeat, bits, check):
    """Any intervals: at either end, of width 1, of width 2^24 and a little less; alternating, and in long runs."""
    rows = [(a, TOTAL - a - b) if wide else (a, 1 + b % 3) for a, b, wide in sides]
    start, width = np.repeat(np.array(rows, dtype=np.int64).reshape(-1, 2), repeat, axis=0).T
    streams = []
    for backend in ("python", "constriction"):
        encoder = Encoder(backend)
        for part in range(0, len(start), 1000):
            encoder.push(start[part : part + 1000], width[part : part + 1000])
        streams.append(encoder.finish(check % 2**bits, bits))
    assert streams[0] == streams[1]


@needs_constriction
def test_backends_write_alike_over_several_blocks():
    rng = np.random.default_rng(0)
    edges = np.sort(rng.integers(0, TOTAL + 1, (200_000, 2)), axis=1)
    start, width = edges[:, 0], np.maximum(edges[:, 1] - edges[:, 0], 1)
    start = np.minimum(start, TOTAL - width)
    start[50_000:90_000], width[50_000:90_000] = rng.integers(0, 2, 40_000), TOTAL - 1
    streams = []
    for backend in ("python", "constriction"):
        encoder = Encoder(backend)
        encoder.push(start, width)
        streams.append(encoder.finish(5))
    assert streams[0] == streams[1]


@needs_constriction
@pytest.mark.parametrize("base", [2, 3, 256, 4096])
def test_backends_read_alike_at_the_ends_of_float32(base):
    """Widths of 1, of 2^24 − b + 1, and odd ones near 2^24: nothing is rounded."""
    rng = np.random.default_rng(base)
    freq = np.ones((400, base), dtype=np.int64)
    for row in freq:
        cut = np.sort(rng.integers(0, TOTAL - base + 1, rng.integers(0, min(base, 5))))
        row[rng.choice(base, len(cut) + 1, replace=False)] += np.diff([0, *cut, TOTAL - base])
    stream = rng.bytes(2000) + b"\1"
    python, native = Decoder(stream, "python"), Decoder(stream, "constriction")
    np.testing.assert_array_equal(python.pop(freq), native.pop(freq))
    assert (python._state, python._left) == (native._state, native._left)


@pytest.mark.parametrize("backend", BACKENDS)
def test_how_symbols_are_grouped_does_not_matter(backend):
    rng = np.random.default_rng(3)
    freq = table_of(rng, 300, 16, 2.0, 0.05)
    symbols = draw(rng, freq)
    stream = encode([freq], [symbols], 9)
    for size in (1, 7, 100):
        parts = [slice(k, k + size) for k in range(0, 300, size)]
        assert encode([freq[p] for p in parts], [symbols[p] for p in parts], 9) == stream
        decoded, _ = decode(stream, [freq[p] for p in parts], backend, 9)
        np.testing.assert_array_equal(np.concatenate(decoded), symbols)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_tables_cross_blocks(backend):
    rng = np.random.default_rng(4)
    freq = table_of(rng, 700, 256)
    freq[600] = table_of(rng, 1, 256, 3.0, 0.9)[0]  # one block for Python between two for constriction
    symbols = draw(rng, freq)
    decoded, _ = decode(encode([freq], [symbols], 5), [freq], backend, 5)
    np.testing.assert_array_equal(decoded[0], symbols)


def test_golden():
    """Pinned for ever: logits to frequencies to bytes.  If this fails, older files no longer decode."""
    logits = [[0.0, -1.0, 2.5, -np.inf], [0.3, 0.3, 0.3, 0.3], [-np.inf, 9.0, -np.inf, -np.inf], [-30.0, 0.0, 5.0, 1.0]]
    freq = ans.frequencies(ans.quantise(logits))
    assert freq.tolist() == [
        [1238137, 455485, 15083594, 0],
        [4194304, 4194304, 4194304, 4194304],
        [0, 16777216, 0, 0],
        [1, 110282, 16367158, 299775],
    ]
    symbols = [[2, 3, 1, 0], [0, 0, 1, 2], [1, 2, 1, 3]]
    assert encode([freq] * 3, symbols, 0x12345678).hex() == "2150a32d1098d511f95d"
    assert Encoder().finish(0x12345678).hex() == "0112345678"


def test_golden_long():
    """The same for 2,000 symbols of 64, made by arithmetic and not by a random generator."""
    row, symbol = np.ogrid[:2000, :64]
    freq = ans.frequencies((row * 7919 + symbol * symbol * 104_729 + row * symbol * 31) % 601)
    stream = encode([freq], [np.arange(2000) * 37 % 64], 0xC0FFEE)
    assert (len(stream), zlib.crc32(freq.astype("<i8").tobytes()), zlib.crc32(stream)) == (3681, 0xB5D3E6D5, 0x8171CD57)


def test_certain_symbols_cost_nothing():
    freq = ans.frequencies([[IMPOSSIBLE, 5], [8, IMPOSSIBLE]] * 500)
    stream = encode([freq], [[1, 0] * 500], 2**32 - 1)
    assert stream.hex() == "01ffffffff"
    assert decode(stream, [freq], ans.BACKEND)[0][0].tolist() == [1, 0] * 500


@pytest.mark.parametrize(("bits", "most", "mean"), [(32, 41, 37), (16, 33, 29), (8, 33, 29), (0, 33, 29)])
def test_overhead(bits, most, mean):
    rng = np.random.default_rng(6)
    over = []
    for _ in range(300):
        rows, base = rng.integers(0, 400), rng.integers(2, 40)
        freq = table_of(rng, rows, base, rng.uniform(0, 5))
        symbols = draw(rng, freq)
        ideal = -np.log2(freq[np.arange(rows), symbols] / TOTAL).sum()
        over.append(8 * len(encode([freq], [symbols], int(rng.integers(0, 2**bits)), bits)) - ideal)
    assert max(over) < most  # 33 bits of initial state, or 24 after the first symbol, and up to 8 to fill the last byte
    assert np.mean(np.array(over) <= most - 1) > 0.9
    assert np.mean(over) < mean


# --- misuse -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "width"), [([0, 5], [1, 0]), ([0, -1], [1, 5]), ([0, TOTAL], [1, 1]), ([0, 1], [1, TOTAL]), ([0], [1, 1])]
)
def test_push_refuses(start, width):
    with pytest.raises(ArdmError, match=r"symbol 1 has start|the same length"):
        Encoder().push(start, width)


def test_impossible_symbols_are_refused_not_written():
    freq = ans.frequencies([[0, IMPOSSIBLE]])
    with pytest.raises(ArdmError, match="the model calls this symbol impossible"):
        Encoder().push(*ans.intervals(freq, [1]))


def test_push_keeps_a_copy():
    start, width = np.array([3]), np.array([5])
    encoder = Encoder()
    encoder.push(start, width)
    before = encoder.finish(1)
    start[0] = width[0] = 100
    assert encoder.finish(1) == before


@pytest.mark.parametrize(("check", "bits"), [(-1, 32), (2**32, 32), (256, 8), (1, 0)])
def test_finish_refuses(check, bits):
    with pytest.raises(ArdmError, match="check must lie in"):
        Encoder().finish(check, bits)


def test_checks_have_few_sizes():
    for made in (lambda: Encoder().finish(0, 24), lambda: Decoder(b"\1" * 9, bits=24)):
        with pytest.raises(ArdmError, match="a check has 32, 16, 8 or 0 bits; got 24"):
            made()


def test_streams_without_symbols():
    assert [Encoder().finish(0, bits).hex() for bits in ans.CHECKS] == ["0100000000", "010000", "0100", "01"]
    for bits in ans.CHECKS:
        stream = Encoder().finish(0, bits)
        assert Decoder(stream, bits=bits).close() == 0
        with pytest.raises(CodecError, match="do not begin with a coder state"):
            Decoder(stream[:-1], bits=bits)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("row", [[TOTAL, 1], [TOTAL - 1, 0], [TOTAL + 1, -1], []])
def test_pop_refuses_what_is_no_table(backend, row):
    with pytest.raises(ArdmError, match="sum to 2\\^24"):
        Decoder(Encoder().finish(0), backend).pop(np.array([row], dtype=np.int64))


def test_unknown_backend():
    with pytest.raises(ArdmError, match="backend must be"):
        Decoder(Encoder().finish(0), "rust")
    with pytest.raises(ArdmError, match="backend must be"):
        Encoder("rust")


def test_without_constriction(monkeypatch):
    monkeypatch.setattr(ans, "constriction", None)
    with pytest.raises(ArdmError, match="not installed; use 'python'"):
        Decoder(Encoder("python").finish(0), "constriction")
    with pytest.raises(ArdmError, match="not installed; use 'python'"):
        Encoder("constriction")
    assert Decoder(Encoder("python").finish(3), "python").close() == 3


# --- damage -----------------------------------------------------------------------------------------------------------


def accepted(stream, freq, backend):
    """The symbols that a careful caller accepts; None where anything reveals damage."""
    try:
        decoder = Decoder(stream, backend)
        symbols = decoder.pop(freq)
        return symbols if decoder.close() == crc(symbols) else None
    except CodecError:
        return None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("banned", [0.0, 0.3])
def test_no_damage_goes_unseen(backend, banned):
    rng = np.random.default_rng(7)
    freq = table_of(rng, 300, 16, 2.0, banned)
    symbols = draw(rng, freq)
    stream = encode([freq], [symbols], crc(symbols))
    np.testing.assert_array_equal(accepted(stream, freq, backend), symbols)
    flips = [(k, 1 << rng.integers(0, 8)) for k in range(len(stream)) for _ in range(3)]
    damaged = [stream[:k] + bytes([stream[k] ^ bit]) + stream[k + 1 :] for k, bit in flips]
    damaged += [stream[:k] for k in range(len(stream))] + [stream[k:] for k in range(1, len(stream))]
    damaged += [stream + rng.bytes(k) for k in range(1, 9)] + [rng.bytes(4 * k) + stream for k in range(1, 9)]
    damaged += [stream + bytes(k) for k in range(1, 9)]
    assert len(damaged) > 300
    assert [bad for bad in damaged if accepted(bad, freq, backend) is not None] == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_running_out_is_truncation(backend):
    rng = np.random.default_rng(8)
    freq = table_of(rng, 200, 16, 0.5)
    stream = encode([freq], [draw(rng, freq)], 0)
    decoder = Decoder(stream[40:], backend)  # the front is read last
    with pytest.raises(CodecError, match="truncated"):
        decoder.pop(freq)
    decoder = Decoder(stream, backend)
    decoder.pop(freq)
    decoder.close(0)
    for _ in range(2):  # more symbols than were pushed; and once at its end it stays there
        with pytest.raises(CodecError, match="truncated"):
            decoder.pop(freq)


@pytest.mark.parametrize("backend", BACKENDS)
def test_closing_early_or_with_another_check(backend):
    rng = np.random.default_rng(9)
    freq = table_of(rng, 200, 16, 0.5)
    decoder = Decoder(encode([freq], [draw(rng, freq)], 0xABCDEF), backend)
    decoder.pop(freq[:199])
    with pytest.raises(CodecError, match="does not end with its last symbol"):
        decoder.close()
    decoder.pop(freq[199:])
    assert decoder.close() == 0xABCDEF
    with pytest.raises(CodecError, match="checksum is 00abcdef, that of the decoded data 00000001"):
        decoder.close(1)


@pytest.mark.parametrize("stream", [b"", b"\1", b"\1\2\3\4", b"\0\1\2\3\4", bytes(50), b"\0" + b"\1" * 12])
def test_no_stream_at_all(stream):
    with pytest.raises(CodecError, match="truncated or damaged"):
        Decoder(stream)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=100, deadline=None)
@given(stream=st.binary(max_size=120), seed=st.integers(0, 1000), banned=st.sampled_from([0.0, 0.5]))
def test_any_bytes_end(backend, stream, seed, banned):
    """Noise decodes to possible symbols until it ends; it never hangs, and raises only CodecError."""
    freq = table_of(np.random.default_rng(seed), 60, 9, 2.0, banned)
    try:
        symbols = Decoder(stream, backend).pop(freq)
    except CodecError:
        return
    assert (np.take_along_axis(freq, symbols[:, None], axis=1) > 0).all()


def test_random_bytes_decode_to_samples():
    """Decompressing random bits is sampling: frequencies of symbols follow the table."""
    freq = np.repeat(ans.frequencies([[0, 32, -32, IMPOSSIBLE]]), 20_000, axis=0)
    symbols = Decoder(np.random.default_rng(10).bytes(8000) + b"\1").pop(freq)
    share = np.bincount(symbols, minlength=4) / len(symbols)
    np.testing.assert_allclose(share, freq[0] / TOTAL, atol=0.015)
    assert share[3] == 0
