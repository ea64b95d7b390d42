"""`ardm.open_archive`: items of an archive from Python, and nothing else of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ardm
from ardm.codec.archive import open_archive as open_items
from ardm.codec.selection import Engine
from ardm.errors import ArdmError, CodecError, ModelMissing
from ardm.files.extract import extract
from ardm.files.options import FileOptions
from ardm.files.pack import make_archive
from ardm.files.paths import walk
from ardm.files.unpack import restore_archive
from linemodels import codec as line_model
from test_items import RECORDS


def pictures(number=4):
    return np.random.default_rng(0).integers(0, 256, (number, 9, 8, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four pictures, a text, an empty folder and a link."""
    monkeypatch.chdir(tmp_path)
    Path("all/empty").mkdir(parents=True)
    for number, x in enumerate(pictures()):
        Image.fromarray(x).save(f"all/{number}.png")
    Path("all/notes.txt").write_bytes(b"some words")
    Path("all/link").symlink_to("notes.txt")
    make_archive(list(walk([Path("all")], entries=True)), Path("all.ardm"), FileOptions())
    return tmp_path


@pytest.mark.parametrize("source", ["all.ardm", Path("all.ardm"), None], ids=["str", "Path", "bytes"])
def test_items_by_number_and_by_name(folder, source):
    with ardm.open_archive(Path("all.ardm").read_bytes() if source is None else source) as archive:
        assert len(archive) == len(archive.names) == 7
        assert "all/2.png" in archive
        assert "2.png" not in archive
        wanted = pictures().transpose(0, 3, 1, 2)
        for number in range(4):
            at = archive.names.index(f"all/{number}.png")
            assert np.array_equal(archive[f"all/{number}.png"], wanted[number])
            assert np.array_equal(archive[np.int64(at)], wanted[number])
        text, picture = archive.many(["all/notes.txt", "all/3.png"])
        assert text == b"some words"
        assert np.array_equal(picture, wanted[3])
        found = list(archive)
        assert len(found) == 5, "the files, without the folder and the link"
        assert repr(archive) == "ItemArchive(7 items, the first 'all/0.png')"


def test_reading_one_item_reads_nothing_of_the_others(folder):
    data = Path("all.ardm").read_bytes()
    archive = open_items(data)
    number = archive.find("all/1.png")
    start = archive.header_bytes + sum(
        len(b"".join((about, body))) for _, about, body in map(archive.body, range(number))
    )
    _, about, body = archive.body(number)
    end = start + len(about) + len(body)
    damaged = (
        data[: archive.header_bytes] + bytes(start - archive.header_bytes) + data[start:end] + bytes(len(data) - end)
    )
    opened = ardm.open_archive(damaged)
    assert np.array_equal(opened["all/1.png"], pictures()[1].transpose(2, 0, 1))
    with pytest.raises(CodecError):
        opened["all/2.png"]
    with pytest.raises(CodecError):
        opened.many(["all/1.png", "all/2.png"])


def test_a_model_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lines").mkdir()
    for number, record in enumerate(RECORDS):
        Path(f"lines/{number}.csv").write_bytes(record)
    model = line_model("table")
    make_archive(list(walk([Path("lines")], entries=True)), Path("lines.ardm"), FileOptions(Engine(model)))
    assert list(ardm.open_archive("lines.ardm", model)) == RECORDS
    with pytest.raises(ModelMissing, match=r"which is not here .*-m, or model="):
        ardm.open_archive("lines.ardm")[0]


def test_rows_of_an_array_have_no_names(tmp_path):
    np.save(tmp_path / "rows.npy", pictures().transpose(0, 3, 1, 2))
    make_archive(list(walk([tmp_path / "rows.npy"])), tmp_path / "rows.ardm", FileOptions())
    archive = ardm.open_archive(tmp_path / "rows.ardm")
    assert archive.names is None
    assert np.array_equal(archive[3], pictures()[3].transpose(2, 0, 1))
    assert repr(archive) == "ItemArchive(4 items)"


def test_what_is_refused(folder):
    archive = ardm.open_archive("all.ardm")
    for item, message in {
        "all/9.png": "no item of the archive is named 'all/9.png'",
        7: "the archive has items 0 to 6; got 7",
        -1: "the archive has items 0 to 6; got -1",
        1.0: "a number or a name; got float",
        None: "a number or a name; got NoneType",
        "all/empty": "all/empty is an empty folder, not a file",
        "all/link": "all/link is a link, not a file",
    }.items():
        with pytest.raises(ArdmError, match=message):
            archive[item]
    Path("one.ardm").write_bytes(ardm.compress(b"one"))
    for source, message in {
        "one.ardm": "a single file, not an archive; ardm.decompress reads it",
        "none.ardm": "there is no file none.ardm",
        "all/notes.txt": "not an ardm file",
        b"": "it is empty",
        5: "an archive is a path, or its bytes; got int",
    }.items():
        with pytest.raises(ArdmError, match=message):
            ardm.open_archive(source)
    with pytest.raises(ArdmError, match=r"read it with ardm\.open_archive"):
        ardm.decompress(Path("all.ardm"))
    with pytest.raises(CodecError):
        ardm.open_archive(Path("all.ardm").read_bytes()[:40])


def test_a_damaged_archive_is_not_restored_and_says_how_to_save_the_rest(folder):
    data = bytearray(Path("all.ardm").read_bytes())
    data[-3] ^= 1
    Path("bad.ardm").write_bytes(data)
    with pytest.raises(CodecError, match=r"; ardm test names the damaged items, and ardm extract restores the others$"):
        restore_archive(Path("bad.ardm"))
    assert not Path("bad").exists()
    assert extract(Path("bad.ardm"), ["all/1.png"])


def test_an_archive_that_exists_can_be_added_to(folder):
    with pytest.raises(
        ArdmError, match=r"all\.ardm exists; add to it with --append, name another archive, or overwrite it"
    ):
        make_archive(list(walk([Path("all")], entries=True)), Path("all.ardm"), FileOptions())
