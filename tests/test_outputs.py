"""Samples as files: they hold exactly the drawn values."""

import csv
import io

import numpy as np
import pytest

from ardm import formats
from ardm.content import Kind
from ardm.errors import ArdmError
from ardm.media.samples import ENDINGS, csv_of, wav_of, write
from ardm.schema import Schema, learn
from ardm.symbols import LETTERS, Letters
from linemodels import SCHEMA, items, sound


def text_of(values, symbols):
    return [symbols.text(item) for item in values.tolist()]


def test_text():
    values = np.array([[3, 1, 20, 0], [0, 26, 0, 1]])
    assert text_of(values, Letters(alphabet=LETTERS)) == ["cat ", " z a"]
    assert text_of(np.array([[0xC3, 0xA9]]), Letters()) == ["\xe9"]
    assert text_of(np.array([[0xA9, 0x41, 0xC3]]), Letters()) == ["A"], "characters that the ends cut are left out"
    assert text_of(np.array([[0x41, 0xFF, 0x42]]), Letters()) == ["A\ufffdB"], "other bytes are replaced"
    whole = "Über naïve Ärzte – Ωμέγα 🙂".encode()
    for cut in range(len(whole)):
        (shown,) = text_of(np.frombuffer(whole[cut:], np.uint8)[None].astype(np.int64), Letters())
        assert shown in whole.decode()
        (shown,) = text_of(np.frombuffer(whole[:cut], np.uint8)[None].astype(np.int64), Letters())
        assert whole.decode().startswith(shown)
    assert text_of(np.zeros((2, 0), dtype=np.int64), Letters()) == ["", ""]
    with pytest.raises(ArdmError, match=r"lie in 0\.\.26; got 27"):
        text_of(np.array([[27]]), Letters(alphabet=LETTERS))
    with pytest.raises(ArdmError, match=r"lie in 0\.\.255; got 256"):
        text_of(np.array([[256]]), Letters())


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_sounds(rate):
    values = np.concatenate([sound(2, 50)[:, 0].astype(np.int64), [[0] * 25 + [65535] * 25]])
    content = formats.read(wav_of(values, rate)).content
    assert (content.kind, content.rate, content.is_16bit) == (Kind.AUDIO, rate, True)
    gap = int(0.2 * rate)
    heard = content.samples.reshape(3, 50 + gap)
    assert (heard[:, :50] == values).all()
    assert (heard[:, 50:] == 1 << 15).all()


def test_rows_without_a_schema():
    assert csv_of(np.array([[1, 2], [3, 40]]), None) == "1,2\n3,40\n"


def test_rows_come_back_as_the_values_they_were():
    values = items("table", 9).numpy()
    text = csv_of(values, SCHEMA)
    assert SCHEMA.encode(text) == values.tolist()
    assert next(csv.reader(io.StringIO(text, newline=""))) == list(SCHEMA.names)


def test_files(tmp_path):
    assert write(
        "text", np.array([[3, 1], [20, 0]]), tmp_path / "a.txt", Letters(alphabet=LETTERS), None, 0, False
    ) == ["ca", "t "]
    assert (tmp_path / "a.txt").read_bytes() == b"ca\n\nt \n"
    (line,) = write("audio", sound(2, 100)[:, 0].astype(np.int64), tmp_path / "a.wav", None, None, 0, False)
    assert "2 sounds of 0.01 seconds" in line
    assert formats.read((tmp_path / "a.wav").read_bytes()).content.rate == 8000
    shown = write("table", np.array([[0, 1, 2, 0]]), tmp_path / "a.csv", None, SCHEMA, 0, False)
    assert shown == ["sex,age,note,none", 'f,2,"say ""x""",only']
    assert (tmp_path / "a.csv").read_text() == "\n".join(shown) + "\n"
    with pytest.raises(ArdmError, match=r"a\.csv"):
        write("table", np.array([[0, 1, 2, 0]]), tmp_path / "a.csv", None, SCHEMA, 0, False)
    write("table", np.array([[1, 1, 2, 0]]), tmp_path / "a.csv", None, SCHEMA, 0, True)
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith("m,")
    assert write("array", np.array([[[0, 5]], [[7, 300]]]), tmp_path / "a.npy", None, None, 0, False) == [
        "0 5",
        "7 300",
    ]
    assert np.load(tmp_path / "a.npy").tolist() == [[[0, 5]], [[7, 300]]]
    assert set(ENDINGS) == {"image", "text", "audio", "table", "array"}


@pytest.mark.parametrize("cell", ["\u2028", "\x85", "\x0b", "\x1c", "\r", "\n", "\r\n", "a,b", '"'])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_rows_are_written_as_they_are(cell, ending, tmp_path):
    """Whatever characters of their values end lines elsewhere."""
    schema = Schema(("a", "b"), ((cell, "x"), ("1", "2")), True, ",", ending, ending == "\n")
    values = np.array([[0, 1], [1, 0], [0, 0]])
    write("table", values, tmp_path / "a.csv", None, schema, 0, False)
    data = (tmp_path / "a.csv").read_bytes().decode()
    assert data == schema.decode(values.tolist())
    assert schema.encode(data) == values.tolist()
    found, rows = learn(data, header=True)
    assert len(rows) == 3
    assert found.names == schema.names


@pytest.mark.parametrize("rate", ["8000", -1, 0.5, float("inf"), None, True, [1], 1_000_001])
def test_a_card_with_a_rate_that_is_none_is_refused(rate, tmp_path):
    with pytest.raises(ArdmError, match="as the rate of its sounds; it must be a whole number"):
        write("audio", np.zeros((1, 4), np.int64), tmp_path / "s.wav", None, None, rate, force=False)
    assert not list(tmp_path.iterdir())
