"""Archives that grow, items by pattern, totals: the items that were there stay byte for byte, and all of it in little memory."""

import os
import stat
import sys
import time
import tracemalloc
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from ardm.cli.listing import record, table
from ardm.codec.archive import compress_archive, open_archive, write_archive
from ardm.codec.fallback import Fallback
from ardm.codec.header import Method
from ardm.content import Content
from ardm.errors import ArdmError, CodecError
from ardm.files.extract import extract
from ardm.files.load import compare
from ardm.files.options import FileOptions
from ardm.files.pack import make_archive
from ardm.files.paths import walk
from ardm.files.unpack import restore_archive
from contents import Small, image, models, some
from test_cli_codec import ardm, good  # noqa: F401 (a fixture)
from test_files import write


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    monkeypatch.setattr("ardm.codec.selection.Engine.coder", lambda self, content: None)


def pack(folder, target, append=False):
    return make_archive(list(walk([folder], entries=True)), target, FileOptions(), append)


def grown(first, second, names=None, more=None, check=32, coder=None):
    """An archive of some contents, and one to which others were appended."""
    data, _ = compress_archive(first, names, coder, check=check)
    out = BytesIO()
    report = write_archive(out, BytesIO(), second, more, coder, before=open_archive(data))
    return data, out.getvalue(), report


LISTS = {
    "one form": (some(3), some(2)),
    "another form": (some(3), [image((3, 4, 4), about={"a": b"1"})]),
    "many forms": ([Content.of_bytes(b"x"), image(about={"a": b"1"})], [Content.of_bytes(b"y" * 9), *some(2)]),
    "one about block": ([image(about={"a": b"1"}, seed=k) for k in range(3)], [image(about={"a": b"1"})]),
}


@pytest.mark.parametrize("coder", [None, Small()], ids=["stored", "coded"])
@pytest.mark.parametrize("check", [32, 8])
@pytest.mark.parametrize("name", LISTS)
def test_appended_items_follow_unchanged_ones(name, check, coder):
    first, second = LISTS[name]
    data, more, report = grown(first, second, check=check, coder=coder)
    before, after = open_archive(data), open_archive(more)
    assert [after.body(k) for k in range(len(first))] == [before.body(k) for k in range(len(first))]
    assert list(after.items(models(coder))) == [*first, *second]
    assert (report.items, report.samples) == (len(second), sum(one.samples.size for one in second))
    assert report.file_bytes == len(more) - len(data)
    assert after.check == check


@pytest.mark.parametrize("name", LISTS)
def test_growing_gives_the_archive_made_at_once(name):
    first, second = LISTS[name]
    assert grown(first, second, coder=Small())[1] == compress_archive([*first, *second], None, Small())[0]


def test_a_model_is_named_by_the_items_that_need_it_first():
    (data, _), (plain, _) = compress_archive(some(2), None, Small()), compress_archive(some(2))
    assert open_archive(data).model
    assert not open_archive(plain).model
    for first, second in ((None, Small()), (Small(), None)):
        start, out = compress_archive(some(2), None, first)[0], BytesIO()
        write_archive(out, BytesIO(), some(3), None, second, before=open_archive(start))
        assert list(open_archive(out.getvalue()).items(models(Small()))) == [*some(2), *some(3)]


def test_what_cannot_be_appended():
    with pytest.raises(ArdmError, match="two items are named 'a'"):
        grown(some(1), some(1), ["a"], ["a"])
    with pytest.raises(ArdmError, match="have names, or none; those before do"):
        grown(some(1), some(1), ["a"])


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_grows_whole_or_not_at_all(tmp_path):
    write(tmp_path / "d/a.txt", b"first")
    write(tmp_path / "e/b.txt", b"second")
    target = tmp_path / "x.ardm"
    with pytest.raises(ArdmError, match=r"no archive .*x.ardm to append to; leave out --append"):
        pack(tmp_path / "e", target, append=True)
    pack(tmp_path / "d", target)
    target.chmod(0o640)
    os.utime(target, (0, 0))
    done = pack(tmp_path / "e", target, append=True)
    assert done.target_bytes == target.stat().st_size - len(
        compress_archive([Content.of_bytes(b"first")], ["d/a.txt"])[0]
    )
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.stat().st_mtime > 1
    before = target.read_bytes()
    with pytest.raises(ArdmError, match=r"already holds e/b.txt; append files of other names"):
        pack(tmp_path / "e", target, append=True)
    write(tmp_path / "f/c.txt", b"third")
    target.write_bytes(before[:-1])
    with pytest.raises(CodecError, match="truncated"):
        pack(tmp_path / "f", target, append=True)
    assert target.read_bytes() == before[:-1]
    target.write_bytes(before)
    restore_archive(target)
    assert {p.name: p.read_bytes() for p in (tmp_path / "x").rglob("*.txt")} == {"a.txt": b"first", "b.txt": b"second"}
    assert sorted(os.listdir(tmp_path)) == ["d", "e", "f", "x", "x.ardm"]


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked there")
def test_who_appends_at_once_waits(tmp_path, monkeypatch):
    """Each reads what the one before has written; else its items would be lost without a word."""

    def slowly(*arguments):
        time.sleep(0.2)
        compare(*arguments)

    monkeypatch.setattr("ardm.files.pack.compare", slowly)
    names = [f"{k}/x.txt" for k in range(4)]
    for name in names:
        write(tmp_path / name, name.encode())
    target, link = tmp_path / "x.ardm", tmp_path / "link.ardm"
    pack(tmp_path / "0", target)
    link.symlink_to(target)
    with ThreadPoolExecutor(3) as threads:
        for work in [threads.submit(pack, tmp_path / str(k), target, True) for k in (1, 2, 3)]:
            work.result(timeout=60)
    with target.open("rb") as file:
        assert sorted(open_archive(file).names) == names
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2", "3", "link.ardm", "x.ardm"]
    target.unlink()
    with pytest.raises(ArdmError, match="no archive"):
        pack(tmp_path / "1", link, append=True)


def test_rows_of_an_array_grow(tmp_path):
    x = np.arange(60, dtype="<i4").reshape(5, 12)
    np.save(tmp_path / "x.npy", x[:3])
    np.save(tmp_path / "y.npy", x[3:])
    np.save(tmp_path / "z.npy", x[:, :5].copy())
    pack(tmp_path / "x.npy", tmp_path / "a.ardm")
    pack(tmp_path / "y.npy", tmp_path / "a.ardm", append=True)
    for other in ("z.npy", "a.ardm"):
        with pytest.raises(ArdmError, match=r"rows <i4 12 C; append one \.npy|at least one file|overwritten by itself"):
            pack(tmp_path / other, tmp_path / "a.ardm", append=True)
    restore_archive(tmp_path / "a.ardm", tmp_path / "b.npy")
    assert np.array_equal(np.load(tmp_path / "b.npy"), x)


def test_items_by_pattern(tmp_path):
    for name in ("d/a.txt", "d/b.txt", "d/c.png", "d/[x].txt", "d/e/f.txt"):
        write(tmp_path / name, name.encode())
    (tmp_path / "d/none.txt").mkdir()
    pack(tmp_path / "d", tmp_path / "x.ardm")
    for asked, names in {
        ("d/?.txt",): ["a.txt", "b.txt"],
        ("*.txt", "d/a.txt"): ["[x].txt", "a.txt", "b.txt", "f.txt"],
        ("d/[x].txt",): ["[x].txt"],  # a name first
        ("d/[ab].txt", "d/*.txt"): ["[x].txt", "a.txt", "b.txt", "f.txt"],
    }.items():
        folder = tmp_path / "out"
        folder.mkdir()
        wanted = [one for one in asked if one != "d/a.txt"] if len(asked) > 1 else asked
        extract(tmp_path / "x.ardm", wanted, folder)
        assert sorted(os.listdir(folder)) == names
        for one in folder.iterdir():
            one.unlink()
        folder.rmdir()
    with pytest.raises(ArdmError, match=r"no file of the archive has a name like '\*\.jpg'"):
        extract(tmp_path / "x.ardm", ["*.jpg"], tmp_path)


def test_totals_of_several_files(tmp_path, capsys):
    for k, name in enumerate("ab"):
        (tmp_path / f"{name}.ardm").write_bytes(compress_archive(some(k + 1))[0])
    records = [record(tmp_path / f"{name}.ardm", False) for name in "ab"]
    table(records)
    *_, last = capsys.readouterr().out.splitlines()
    sums = [str(sum(one[key] for one in records)) for key in ("file_bytes", "raw_bytes")]
    assert last.split()[:5] == ["total", "3", "items", *sums]
    assert last.endswith("2 files")
    table(records[:1])
    assert "\ntotal" not in capsys.readouterr().out


def test_memory_does_not_grow_with_the_data(tmp_path, monkeypatch):
    """Of 64 MiB of items that do not shrink, less than an eighth is held at once."""
    monkeypatch.setattr(Fallback, "store", lambda self: (Method.RAW, self.x.tobytes()))

    class Noise(Sequence):
        def __len__(self):
            return 64

        def __getitem__(self, k):
            if k >= 64:
                raise IndexError
            return Content.of_bytes(np.random.default_rng(k).bytes(1 << 20))

    with (tmp_path / "out").open("w+b") as out, (tmp_path / "scratch").open("w+b") as scratch:
        tracemalloc.start()
        write_archive(out, scratch, Noise())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert out.tell() > 64 << 20
    assert peak < 8 << 20


def test_the_command(ardm):  # noqa: F811
    good(ardm("compress", "--archive", "x.ardm", "photo.png"))
    refused = ardm("compress", "--append", "notes.txt")
    assert refused.exit_code == 2
    assert "name it with --archive" in refused.output
    good(ardm("compress", "--archive", "x.ardm", "--append", "notes.txt"))
    assert "2 items" in good(ardm("list", "x.ardm")).output
    write("more.txt", b"more")
    refused = ardm("compress", "--archive", "x.ardm", "--append", "-9", "more.txt")
    assert refused.exit_code == 1
    assert "an archive has one model: leave out -m, -K and the level" in refused.output
    good(ardm("extract", "x.ardm", "*.txt", "-o", "out.txt"))
    assert Path("out.txt").read_bytes() == Path("notes.txt").read_bytes()
