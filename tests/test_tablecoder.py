"""CSV through a codec model of a table: texts come back byte for byte, and damage is found."""

import contextlib
import dataclasses
import resource
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ardm.ans import Decoder, Encoder
from ardm.codec import decode, encode, model_coder, regions, registry, table_coder, table_layout
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError
from ardm.schema import Schema
from linemodels import SCHEMA, coder, items
from linemodels import codec as model_of

BODY = dataclasses.replace(SCHEMA, header=False)
ROWS = items("table", 40).tolist()


def text(count=12, schema=SCHEMA):
    return schema.decode(ROWS[:count]).encode()


def cut(data, *rest, made=None):
    """A content, whether it is coded, and its file."""
    made = made or coder("table")
    content = Content.of_bytes(data)
    file, report = encode.compress(content, made)
    assert decode.decompress(file, lambda identity, calls: made) == content
    return file, report


def part(data, made=None, other=None):
    """The stream of one part, read by another coder."""
    made = made or coder("table")
    x = np.frombuffer(data, np.uint8).reshape(1, 1, -1)
    (coded,) = made.encode([[x]])
    stream = made.finish(coded, 7)
    (((found,), check),) = (other or made).decode([(stream, [x.shape])])
    assert found.tobytes() == data
    assert found.dtype == np.uint8
    assert check == 7
    return stream, coded[0]


# --- round trips ------------------------------------------------------------------------------------------------------

LINE = SCHEMA.decode([[0, 3, 1, 0]]).splitlines()[1] + "\n"
TEXTS = {
    "with its header": text(),
    "without": text(schema=BODY),
    "one row": BODY.decode(ROWS[:1]).encode(),
    "the header alone": text(0),
    "no last newline": text()[:-1],
    "ends with carriage return": text()[:-1] + b"\r",
    "CRLF": text(schema=dataclasses.replace(SCHEMA, line_ending="\r\n")),
    "mixed line endings": text() + text(schema=dataclasses.replace(SCHEMA, line_ending="\r\n")),
    "CR alone": text().replace(b"\n", b"\r"),
    "empty lines": text().replace(b"\n", b"\n\n"),
    "an empty line first": b"\n" + text(),
    "a value that is unknown, in the middle": text(5) + b"f,21,,only\n" + text(6, BODY),
    "every second line unknown": b"".join(line + b"\n? " + line + b"\n" for line in text(20, BODY).splitlines()),
    "cells too few": text() + b"f,1\n",
    "cells too many": text() + b"f,1,,only,more\n",
    "quoted though it need not be": text() + b'"f",1,,only\n' + text(3, BODY),
    "a quote that never ends": text() + b'f,1,"a\n' + text(3, BODY),
    "a newline within quotes": text() + b'f,1,"a\nb",only\n' + text(3, BODY),
    "spaces": text().replace(b",", b", "),
    "another delimiter": text().replace(b",", b";"),
    "a byte order mark": b"\xef\xbb\xbf" + text(),
    "not UTF-8": text() + b"\xff\xfe,1,,only\n" + text(3, BODY),
    "zeros": text() + b"\0\0\n" + text(2, BODY),
    "line separators of Unicode": text() + "f\u2028,\x85,\x0b,\x0c\n".encode() + text(2, BODY),
    "a huge row": text(3) + b"x" * 70000 + b"," * 5000 + b"\n" + text(3, BODY),
    "a huge cell": text(3) + b'"' + b"y" * 140000 + b'",1,,only\n' + text(3, BODY),
    "the same row often": LINE.encode() * 3000,
    "one byte": b"f",
    "a newline": b"\n",
    "nothing": b"",
    "no row at all": b"once upon a time\nthere was no table\n" * 9,
    "noise": np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8).tobytes(),
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_comes_back(name):
    data = TEXTS[name]
    cut(data)
    if 0 < len(data) < 10000:
        part(data)


def test_rows_are_coded_by_the_model_and_nothing_else_is():
    made = coder("table")
    assert isinstance(made, table_coder.TableCoder)
    file, report = cut(text(40))
    assert report.methods == {"coded": 1}
    header = len(text(0))
    _, coded = part(text(40))
    rows = np.array(ROWS)[None, None]
    (alone,) = model_coder.ModelCoder(made.model, made.calls, made._run, 1)._symbols(rows)
    assert coded.bits == pytest.approx(alone.bits + 8 * (3 + 3 + header + 3))
    assert len(file) < 0.4 * len(text(40))
    assert cut(text(40, BODY))[1].bits == pytest.approx(alone.bits + 72)


def test_what_stands_between_rows_costs_its_bytes():
    unknown = b"m,999,,only\n"
    _, clean = part(text(40))
    _, mixed = part(text(20) + unknown + BODY.decode(ROWS[20:40]).encode())
    assert mixed.bits == pytest.approx(clean.bits + 8 * (3 + len(unknown) + 3))


@pytest.mark.parametrize("together", [2, 7])
def test_many_rows_are_walked_in_items(together):
    whole = part(text(40))[0]
    made = registry.coder(model_of("table"), None, "float32", "cpu", 1)
    made.together = together
    assert len(part(text(40), made)[0]) - len(whole) in range(-5, 6)
    part(TEXTS["a value that is unknown, in the middle"], made)


def test_how_many_rows_are_walked_together():
    assert coder("table").together == 1 << 10
    assert table_layout.together(SCHEMA, 1 << 16) == (1 << 24) // (4 << 16)
    wide = Schema(tuple(map(str, range(300))), (("a",),) * 300)
    assert table_layout.together(wide, 1 << 16) == 1


@pytest.mark.parametrize("backend", ["float64", "int64", "numpy"])
@pytest.mark.parametrize("calls", [4, 1])
def test_the_same_bytes_from_every_backend(backend, calls):
    one, two = coder("table", calls), coder("table", calls, backend)
    for name in ("with its header", "every second line unknown"):
        assert part(TEXTS[name], one, two)[0] == part(TEXTS[name], two, one)[0]


def test_several_regions(monkeypatch):
    """A line that regions cut in two is a row in neither."""
    monkeypatch.setattr(regions, "CODED_RUN", 10)
    data = BODY.decode(items("table", 120, seed=4).tolist()).encode()
    file, report = cut(data)
    assert report.regions == -(-len(data) // 1024) == 2
    assert report.methods["coded"] == report.regions
    assert len(file) < 0.6 * len(data)


CELL = st.sampled_from(["f", "m", "1", "20", "", '"a,b"', '"say ""x"""', "only", "?", '"', "\xe9"])
LINES = st.lists(CELL, max_size=5).map(",".join) | st.sampled_from(["f,1,,only", 'm,20,"a,b",only'])
ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", ""])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(LINES, ENDS), max_size=12))
def test_whatever_lines_come_back(lines):
    data = "".join(line + end for line, end in lines).encode()
    if data:
        part(data)


# --- other schemas ----------------------------------------------------------------------------------------------------


def with_schema(schema, name="table"):
    model = dataclasses.replace(model_of(name), schema=schema)
    return registry.coder(model, None, "float32", "cpu", 1)


def test_schemas_of_other_delimiters_and_line_endings():
    for delimiter, ending in ((";", "\r\n"), ("\t", "\n")):
        schema = dataclasses.replace(SCHEMA, delimiter=delimiter, line_ending=ending)
        made = with_schema(schema)
        data = text(10, schema)
        _, coded = part(data, made)
        assert coded.bits < 4 * len(data)
        part(data.replace(b"\r\n", b"\n"), made)


def test_one_column_that_may_be_empty():
    """An empty single value is written as two quotes; an empty line is not a row."""
    schema = Schema(("a",), (("", "x", '"', ",", "\n"),))
    made = with_schema(schema, "one column")
    for data in (b'""\n', b"\n", b'""\nx\n\n""""\n","\n"\n"\nx', b'"\n"\n' * 3):
        part(data, made)
    assert part(b'""\nx\n' * 50, made)[1].bits < part(b"\n\n" * 50, made)[1].bits * 2


def test_values_of_many_bytes():
    schema = dataclasses.replace(SCHEMA, categories=(("\u00fc\u4e2d" * 30, "m"), *SCHEMA.categories[1:]))
    part(text(20, schema), with_schema(schema))


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_is_refused():
    made = coder("table")
    assert made.refuses(Content.of_bytes(text())) is None
    for name in ("no row at all", "noise", "nothing", "the header alone", "CRLF", "spaces"):
        assert "no line is a row" in made.refuses(Content.of_bytes(TEXTS[name]))
    assert "as CSV text" in made.refuses(Content(Kind.IMAGE, np.zeros((1, 4, 4), np.uint8), "png"))


def test_a_model_without_a_schema_takes_arrays():
    made = coder("classic")
    assert not isinstance(made, table_coder.TableCoder)
    x = items("classic").numpy().astype(np.uint8)[None]
    good = Content(Kind.ARRAY, x, "npy", layout="rows")
    assert made.refuses(good) is None
    file, report = encode.compress(good, made)
    assert not report.stored
    assert decode.decompress(file, lambda identity, calls: made) == good
    for bad in (x[:, :, :2], np.repeat(x, 2, axis=2), x[:, :, ::-1]):
        content = Content(Kind.ARRAY, np.ascontiguousarray(bad), "npy", layout="rows")
        assert "rows of 3 columns" in made.refuses(content)
        file, report = encode.compress(content, made)
        assert decode.decompress(file, lambda identity, calls: made) == content


def test_unknown_values_of_large_columns_take_no_time():
    """Looking up a row does not search for the nearest of 65,536 values, as errors for people do."""
    schema = dataclasses.replace(
        SCHEMA, categories=(*SCHEMA.categories[:3], tuple(f"value {n}" for n in range(1 << 16)))
    )
    lines = b"".join(b"f,1,,valeu %d\n" % n for n in range(300))  # codespell:ignore valeu
    with limited(seconds=5):
        assert all(table_layout._row(schema, line) is None for line in lines.splitlines(keepends=True))


def test_large_texts_take_linear_time():
    data = b"not a row of any table at all\n" * 50_000
    with limited(seconds=10):
        assert coder("table").refuses(Content.of_bytes(data))
        (plain, rows), *more = table_layout.pieces(BODY, data)
    assert (plain, rows, more) == (data, [], [])


# --- damage -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def limited(seconds=5, more=1 << 30):
    """Fail where the block takes longer, or more memory."""

    def late(*_):
        raise AssertionError("it hangs")

    held = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, held[1]))
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, held)


def test_every_damaged_byte_is_found():
    data = text(4) + b"?\n" + text(2, BODY)
    file, report = cut(data)
    assert not report.stored
    made = coder("table")
    with limited(seconds=60):
        for place in range(len(file)):
            for flip in (0x01, 0xFF):
                damaged = bytearray(file)
                damaged[place] ^= flip
                with pytest.raises(CodecError):
                    decode.decompress(bytes(damaged), lambda identity, calls: made)
        for length in range(len(file)):
            with pytest.raises(CodecError):
                decode.decompress(file[:length], lambda identity, calls: made)


def test_any_stream_ends():
    rng, made = np.random.default_rng(3), coder("table")
    with limited(seconds=20):
        for length in (1, 5, 30, 2000):
            for size in (1, 100, 1 << 22):
                stream = b"\1" + rng.integers(0, 256, length, dtype=np.uint8).tobytes()
                with contextlib.suppress(CodecError):
                    list(made.decode([(stream, [(1, 1, size)])]))


def forged(*numbers):
    """A stream that begins with these numbers and has one more word."""
    symbols = table_layout.symbols(b"".join(n.to_bytes(3, "big") for n in numbers))
    encoder = Encoder()
    encoder.push(*symbols)
    return encoder.finish(0)


@pytest.mark.parametrize(
    ("numbers", "length"),
    [
        ((102,), 100),
        (((1 << 24) - 1,), 100),
        ((1, 101), 100),
        ((1, 0, 26), 100),
        ((1, 0, (1 << 24) - 1), 100),
        ((2, 0, 25, 0, 1), 100),
        ((2, 0, 25, 1, 0), 100),
        ((0,), 100),
        ((1, 0, 0), 100),
        ((1, (1 << 22)), 1 << 22),
        ((1, 0, 1 << 20), 1 << 22),
        ((0,), 1 << 30),
    ],
)
def test_counts_that_cannot_be(numbers, length):
    """They are refused before anything of that size is allocated."""
    with limited(seconds=5, more=1 << 28), pytest.raises(CodecError):
        coder("table")._decoded_texts([Decoder(forged(*numbers))], [length])


def test_a_value_that_a_column_has_not():
    """A model whose program does not know its columns."""
    made = registry.coder(model_of("table"), None, "float32", "cpu", 1)
    made._schema = dataclasses.replace(BODY, categories=(("f",), ("1",), ("",), ("only",)))
    stream = part(text(20, BODY))[0]
    with pytest.raises(CodecError, match=r"cannot take|truncated|does not end|rows make"):
        list(made.decode([(stream, [(1, 1, len(text(20, BODY)))])]))


def test_another_model_is_not_taken_for_this_one():
    file, _ = cut(text())
    schema = dataclasses.replace(SCHEMA, categories=(SCHEMA.categories[0][::-1], *SCHEMA.categories[1:]))
    made = with_schema(schema)
    with pytest.raises(ArdmError):
        decode.decompress(file, lambda identity, calls: made)


# --- records ----------------------------------------------------------------------------------------------------------

FRAME = ('{"sex": "', '", "n":', ', "k": "', '", "of": ', "}")
RECORDS = dataclasses.replace(SCHEMA, header=False, frame=FRAME)


@pytest.mark.parametrize("backend", ["float32", "numpy"])
def test_a_record_takes_its_row_and_three_bytes(backend):
    made = with_schema(RECORDS)
    for row in ROWS[:20]:
        data = RECORDS.decode([row]).removesuffix("\n").encode()
        assert RECORDS.row(data.decode()) == row
        _, coded = part(data, made)
        bits = part(BODY.decode([row]).encode())[1].bits - 8 * 9
        assert coded.bits == pytest.approx(bits, abs=0.01), "no layout beside the row"
        (bare,) = encode.compress_many([Content.of_bytes(data)], made, 8, bare=True)
        assert decode.decompress(bare, lambda identity, steps: made, bare=True).samples.tobytes() == data
        assert len(bare) <= 2 + (bits + 8 + 33) / 8


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", text(3, RECORDS), text(1, RECORDS), b"? \n" + text(2, RECORDS)[:-1], b'{"sex": "', b'{"sex": "f", "n":1, "k": ""}'])  # fmt: skip
def test_what_is_no_record_comes_back_from_a_model_of_records(data):
    made = with_schema(RECORDS)
    content = Content.of_bytes(data)
    for bare in (False, True):
        file, _ = encode.compress(content, made, bare=bare)
        assert decode.decompress(file, lambda identity, calls: made, bare=bare) == content
    if data:
        part(data, made)


@given(st.lists(st.sampled_from(['"', ', "', "a", "f", "{", "}", ":", " ", "1", "é"]), max_size=12), st.integers(0, 39))
def test_a_line_is_a_row_only_if_the_schema_writes_it(pieces, n):
    """Brute force over lines: changed records, too."""
    whole = RECORDS.decode([ROWS[n]]).removesuffix("\n")
    for line in ("".join(pieces), whole + "".join(pieces), whole[: len(pieces)] + whole[len(pieces) + 1 :]):
        row = RECORDS.row(line)
        assert row is None or RECORDS.decode([row]) == line + "\n"
        assert row is not None or all(RECORDS.decode([every]) != line + "\n" for every in ROWS)


def test_schemas_with_frames_are_values_and_those_that_cannot_be_are_refused():
    assert Schema.from_values(RECORDS.to_values()) == RECORDS
    for frame, header in ((FRAME[:3], False), (("", "", "", "", ""), False), (RECORDS.frame, True)):
        with pytest.raises(ArdmError, match="a frame has a text around each of 4 columns"):
            dataclasses.replace(SCHEMA, header=header, frame=frame)
