"""Archives as copies of folders: names as they are, empty folders, links, deep folders; and all of it quickly."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import by_the_page
from ardm import atomic as whole
from ardm import formats
from ardm.atomic import make_folders
from ardm.codec import describe
from ardm.codec.archive import compress_archive, open_archive
from ardm.codec.selection import Engine
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError, Unsupported
from ardm.files import links as linking
from ardm.files import names as naming_names
from ardm.files import pack as packing
from ardm.files import unpack as unpacking
from ardm.files.extract import check_archive, extract
from ardm.files.limits import Budget, count_folders
from ardm.files.links import leading_out, to_renamed
from ardm.files.names import WINDOWS, Naming, naming, safe_names
from ardm.files.options import FileOptions
from ardm.files.pack import make_archive
from ardm.files.paths import Found, summary, walk
from ardm.files.unpack import restore_archive
from contents import Small, models
from test_cli_codec import ardm, good  # noqa: F401 (a fixture)
from test_files import write

EXACT = Naming()


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    monkeypatch.setattr(Engine, "coder", lambda self, content: None)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """Skips where the file system takes no names that differ in case alone, or no `aux.c`."""
    if naming(tmp_path_factory.mktemp("names")) != EXACT:
        pytest.skip("this file system folds or refuses names")


def everything(folder):
    """What a folder holds: links as where they lead, folders as None, files as their bytes."""
    return {
        str(p.relative_to(folder)): os.readlink(p) if p.is_symlink() else None if p.is_dir() else p.read_bytes()
        for p in sorted(folder.rglob("*"))
    }


def pack(folder, target, left=None):
    return make_archive(list(walk([folder], entries=True, left=left)), target, FileOptions())


def linked(**links):
    """An archive of files named a and d/b, and of links."""
    entries = [Content(Kind.BYTES, np.zeros((1, 1, 0), "u1"), "", {"link": os.fsencode(v)}) for v in links.values()]
    plain = [Content.of_bytes(b"a"), Content.of_bytes(b"b")]
    return compress_archive([*entries, *plain], [*links, "a", "d/b"])[0]


def test_the_item_that_memory_is_too_short_for_is_named(tmp_path, monkeypatch):
    for name in ("in/a", "in/b"):
        write(tmp_path / name, b"x")
    real = packing.parse

    def parse(data, how, name):
        if name == "b":
            raise MemoryError
        return real(data, how, name)

    monkeypatch.setattr(packing, "parse", parse)
    with pytest.raises(ArdmError, match=r"cannot read .*in/b: out of memory; --bytes"):
        pack(tmp_path / "in", tmp_path / "x.ardm")
    assert os.listdir(tmp_path) == ["in"]


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_that_a_system_takes_stay_as_they_are(tmp_path, usual):
    names = [
        "aux.c", "nul", "NUL", "notes.", "trailing ", "A", "a", "é", "e\u0301", "ß", "SS", "x:y", "d/c:", "con/PRN.txt", "what?*",
        "x" * 255, "日" * 85, ".ardm-notes", ".ardm-0123", "a b/.c ",
    ]  # fmt: skip
    for name in names:
        write(tmp_path / "in" / name, name.encode())
    done = pack(tmp_path / "in", tmp_path / "x.ardm")
    assert done.notes == ()
    back = restore_archive(tmp_path / "x.ardm")
    assert back.notes == ()
    assert everything(tmp_path / "x" / "in") == everything(tmp_path / "in")
    extract(tmp_path / "x.ardm", ["in/aux.c", "in/notes."], tmp_path)
    assert (tmp_path / "aux.c").read_bytes() == b"aux.c"
    assert (tmp_path / "notes.").read_bytes() == b"notes."


@pytest.mark.parametrize(("here", "found"), [
    (EXACT, {}),
    (Naming(folds=True), {"A": "A (2)", "e\u0301": "e\u0301 (2)"}),
    (WINDOWS, {"A": "A (2)", "e\u0301": "e\u0301 (2)", "CON": "_CON", "x/aux.txt": "x/_aux.txt", "b.": "b_", "c?": "c_"}),
])  # fmt: skip
def test_names_that_a_file_system_refuses_are_changed_and_reported(tmp_path, monkeypatch, usual, here, found):
    names = ["CON", "a", "A", "x/aux.txt", "b.", "é", "e\u0301", "c?"]
    data, _ = compress_archive([Content.of_bytes(name.encode()) for name in names], names)
    asked = []
    monkeypatch.setattr(unpacking, "naming", lambda folder: asked.append(list(folder.iterdir())) or here)
    done = restore_archive(write(tmp_path / "x.ardm", data))
    assert asked == [[]], "the new folder is asked, and only if it matters"
    assert everything(tmp_path / "x") == {
        **{found.get(name, name): name.encode() for name in names},
        "x": None,
    }
    assert len(done.notes) == min(len(found), 5)
    assert all(
        f"{old!r} was written as {new!r}" in done.notes for old, new in list(found.items())[:2] if len(found) < 3
    )
    asked.clear()
    data, _ = compress_archive([Content.of_bytes(b"")] * 2, ["plain", "d/plain"])
    restore_archive(write(tmp_path / "y.ardm", data))
    assert asked == []


@pytest.mark.parametrize(("name", "kept"), [("plain", False), ("long" + "x" * 300, True)])
def test_an_archive_is_deleted_only_if_all_its_names_came_back(tmp_path, name, kept):
    """A name that is shortened stands in the archive alone."""
    names = [f"{k}{name}" for k in range(9)]
    data, _ = compress_archive([Content.of_bytes(b"data")] * 9, names)
    done = restore_archive(write(tmp_path / "x.ardm", data), options=FileOptions(keep=False))
    assert (tmp_path / "x.ardm").exists() == kept == (not done.removed)
    said = "it was not deleted: not everything was restored unchanged (9 under other names)"
    assert done.notes[4:] == (("5 more were written under other names", said) if kept else ())


def test_a_folder_tells_what_it_makes_of_names(tmp_path, monkeypatch, usual):
    assert naming(tmp_path) == EXACT
    assert os.listdir(tmp_path) == []
    lower = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: lower(path) or lower(str(path).lower()))
    assert naming(tmp_path) == Naming(folds=True), "as on a volume that takes A for a"
    real = Path.touch

    def touch(self, *args, **kw):
        if ":" in self.name:
            raise OSError("Invalid argument")
        real(self, *args, **kw)

    monkeypatch.setattr(Path, "touch", touch)
    assert naming(tmp_path) == Naming(folds=True, strict=True), "as on FAT"
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(Path, "touch", lambda self, *args, **kw: real(self / "no", *args, **kw))
    assert naming(tmp_path).strict, "where nothing can be tried, nothing is trusted"


@pytest.mark.parametrize("here", [EXACT, WINDOWS])
def test_names_are_never_those_of_half_written_files_nor_too_long(here):
    left = ".ardm-0123456789abcdef"
    long = "x" * 300
    made = safe_names([left, f"d/{left}.png", long, long, f"{long}.png", f"y.{long}", "日" * 300, "日" * 300], here)
    assert made[:2] == [f"_{left}", f"d/_{left}.png"]
    assert made[4].endswith(".png")
    assert len(set(made)) == 8
    units = [len(name.encode("utf-16-le")) // 2 if here.strict else len(name.encode()) for name in made]
    assert max(units) <= here.longest
    assert min(units[2:]) > here.longest - 16


def test_folders_share_their_names_and_files_do_not():
    assert safe_names(["a", "a/b", "a"], EXACT, [True, False, True]) == ["a", "a/b", "a"]
    assert safe_names(["a", "a/b"], EXACT) == ["a", "a (2)/b"]


@pytest.mark.parametrize("below", ["x/{}", "x/{}/y", "x/y/{}"])
@pytest.mark.parametrize("here", [EXACT, WINDOWS])
def test_a_folder_is_numbered_once_however_many_items_it_holds(monkeypatch, below, here):
    """Beside many files that have its name, the search for a free one is not begun again by each item."""
    asked, numbered = [], naming_names._numbered
    monkeypatch.setattr(naming_names, "_numbered", lambda *a: asked.append(1) or numbered(*a))
    names = ["x", *(f"x ({k})" for k in range(2, 100)), *(below.format(k) for k in range(100))]
    assert safe_names(names, here)[99:] == [f"x (100){below.format(k)[1:]}" for k in range(100)]
    assert len(asked) == 99


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these systems speak UTF-8 or UTF-16 alone")
def test_in_an_ascii_locale_names_are_replaced_and_reported(tmp_path):
    """The C locale: Python refuses to give é to the system, and takes arguments apart into bytes."""
    link = Content(Kind.BYTES, np.zeros((1, 1, 0), "u1"), "", {"link": "é中".encode()})
    data, _ = compress_archive([link, Content.of_bytes(b"data")], ["t/l", "t/é中"])
    write(tmp_path / "x.ardm", data)
    script = """
import sys
from pathlib import Path
from ardm.files.extract import extract
from ardm.files.options import FileOptions
from ardm.files.unpack import restore_archive
assert sys.getfilesystemencoding() == "ascii"
print(ascii(restore_archive(Path("x.ardm"), options=FileOptions(keep=False)).notes))
print(extract(Path("x.ardm"), [sys.argv[1]])[0].target, extract(Path("x.ardm"), ["t/\\u00e9\\u4e2d"], Path("y"))[0].target)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "t/é中"], capture_output=True, text=True, cwd=tmp_path, timeout=60,
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert r"'t/\xe9\u4e2d' was written as 't/__'" in done.stdout.replace("\\\\", "\\")
    assert "are broken (1): t/l" in done.stdout
    assert "it was not deleted" in done.stdout
    assert done.stdout.splitlines()[1] == "__ y"
    assert (tmp_path / "x" / "t" / "__").read_bytes() == (tmp_path / "__").read_bytes() == b"data"


# --- empty folders and links ------------------------------------------------------------------------------------------


def tree(folder):
    """Files, empty folders, and links that stay inside."""
    write(folder / "a.txt", b"a" * 100)
    write(folder / ".hidden" / "b", b"b")
    for name in ("empty", "d/e/nothing", "only"):
        (folder / name).mkdir(parents=True)
    (folder / "to-file").symlink_to("a.txt")
    (folder / "d" / "up").symlink_to("../a.txt")
    (folder / "d" / "folder").symlink_to("../.hidden", target_is_directory=True)
    (folder / "dangling").symlink_to("not/there")
    return folder


@pytest.mark.parametrize("model", [True, False])
def test_empty_folders_and_links_come_back_as_what_they_are(tmp_path, monkeypatch, model):
    source = tree(tmp_path / "in")
    if model:
        monkeypatch.setattr(Engine, "coder", lambda self, content: Small() if content.kind == Kind.IMAGE else None)
        monkeypatch.setattr(Engine, "models", lambda self, name, calls: models(Small())(name, calls))
        noise = np.minimum(np.random.default_rng(0).geometric(0.08, (20, 20, 3)), 255).astype("u1")
        Image.fromarray(noise).save(source / "p.png")
    before = everything(source)
    done = pack(source, tmp_path / "x.ardm")
    assert bool(done.report.methods.get("coded")) == model
    assert done.notes == ()
    assert done.what == f"{9 + model} items"
    back = restore_archive(tmp_path / "x.ardm", options=FileOptions(keep=False))
    assert (back.notes, back.removed) == ((), True)
    found = everything(tmp_path / "x" / "in")
    assert found.keys() == before.keys()
    assert {k: v for k, v in found.items() if k != "p.png"} == {k: v for k, v in before.items() if k != "p.png"}


def test_an_archive_may_hold_nothing_but_empty_folders(tmp_path):
    for name in ("in/a", "in/b"):
        (tmp_path / name).mkdir(parents=True)
    pack(tmp_path / "in", tmp_path / "x.ardm")
    restore_archive(tmp_path / "x.ardm")
    assert everything(tmp_path / "x") == {"in": None, "in/a": None, "in/b": None}


def test_an_archive_of_what_has_no_bytes_is_one_of_nothing(tmp_path):
    """Links and folders add no bytes to the source, and a broken link is not a failure."""
    write(tmp_path / "in" / "void", b"")
    (tmp_path / "in" / "hollow").mkdir()
    (tmp_path / "in" / "l").symlink_to("nowhere")
    assert pack(tmp_path / "in", tmp_path / "x.ardm").source_bytes == 0
    (tmp_path / "in" / "void").unlink()
    (tmp_path / "in" / "hollow").rmdir()
    assert pack(tmp_path / "in", tmp_path / "y.ardm").source_bytes == 0
    restore_archive(tmp_path / "y.ardm")
    assert everything(tmp_path / "y") == {"in": None, "in/l": "nowhere"}


def test_entries_are_as_the_page_says():
    """An item of kind 0 without samples, whose about block has the one entry `link` or `folder`."""
    about = {"link": b"../x"}
    data, _ = compress_archive([Content(Kind.BYTES, np.zeros((1, 1, 0), "u1"), "", about)], ["l"])
    archive = open_archive(data)
    assert archive.entry(0) == ("link", b"../x")
    item = archive.item(0, models())
    assert (item.kind, item.samples.size, dict(item.about)) == (Kind.BYTES, 0, about)
    _, [(form, kept, samples)] = by_the_page.read(data)
    assert (form["kind"], dict(kept), len(samples)) == (0, about, 0)
    full = Content(Kind.BYTES, np.zeros((1, 1, 3), "u1"), "", about)
    assert open_archive(compress_archive([full])[0]).entry(0) == ("", b""), "a file, as it has bytes"


def test_links_are_never_followed_into_an_archive(tmp_path):
    write(tmp_path / "secret", b"secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to("../secret")
    (tmp_path / "in" / "far").symlink_to("/etc/passwd")
    (tmp_path / "in" / "loop").symlink_to(".")
    done = pack(tmp_path / "in", tmp_path / "x.ardm")
    assert b"secret" not in b"".join(
        c.samples.tobytes() for c in open_archive(tmp_path.joinpath("x.ardm").read_bytes()).items(models())
    )
    assert done.notes == (
        "restoring leaves out links that lead out of the archive (1): in/far",
    )  # ../secret stays in x
    back = restore_archive(tmp_path / "x.ardm", options=FileOptions(keep=False))
    assert sorted(everything(tmp_path / "x")) == ["in", "in/loop", "in/out"]
    assert back.notes == (
        "links that lead out of the folder, in a circle or too far, or cannot be made, were left out (1): in/far",
        "it was not deleted: not everything was restored unchanged (1 left out)",
    )
    assert not back.removed


def test_faults_of_links_and_names_are_named(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, leads in {"far": "/etc", "up": "../../x", "l": "m", "m": "l"}.items():
        (folder / name).symlink_to(leads)
    for k in range(5):
        (folder / f"n{k}").symlink_to("a/" * 500 + "../" * 500 + f"n{k + 1}")
    assert pack(folder, tmp_path / "x.ardm").notes == (
        "restoring leaves out links that lead out of the archive (2): in/far, in/up",
        "restoring leaves out links that lead in a circle, or through more than 40 others (2): in/l, in/m",
        "restoring leaves out links that are too long (1): in/n0",
    )
    for name in ("a/same", "b/same"):
        write(tmp_path / name, b"x")
    found = [Found(tmp_path / name, Path("same"), tmp_path / name) for name in ("a/same", "b/same")]
    assert make_archive(found, tmp_path / "y.ardm", FileOptions()).notes == (
        "same is called same (2) in the archive: two items have this name",
    )


def test_an_item_requested_twice_is_written_once(tmp_path, ardm):  # noqa: F811
    data, _ = compress_archive([Content.of_bytes(b"a"), Content.of_bytes(b"b")], ["d/a", "e/a"])
    write(tmp_path / "x.ardm", data)
    os.chdir(tmp_path)
    result = ardm("extract", "x.ardm", "0", "d/a", "1")
    assert result.exit_code == 1
    assert "item 0 (d/a): this item was just written; name it once" in result.stderr
    assert "a was just written from another file" in result.stderr
    assert Path("a").read_bytes() == b"a"
    assert good(ardm("extract", "-c", "x.ardm", "0", "0")).stdout == "aa"


@pytest.mark.parametrize(("links", "out"), [
    ({"l": "a"}, []),
    ({"l": "."}, []),
    ({"l": "d/../a"}, []),
    ({"l": ".."}, ["l"]),
    ({"l": "/etc"}, ["l"]),
    ({"l": "d/../../x"}, ["l"]),
    ({"d/l": "../a"}, []),
    ({"d/l": "../../a"}, ["d/l"]),
    ({"d/l": "..", "m": "d/l/.."}, ["m"]),  # it counts where links lead, not how deep they seem
    ({"l": "d/e/f", "m": "l/../../../.."}, ["m"]),
    ({"x": "d/y/..", "d/y": ".."}, ["x"]),
    ({"l": "m", "m": "l"}, ["l", "m"]),
    ({"l": "/etc", "m": "l/passwd", "n": "a"}, ["l", "m"]),
    ({"l": ""}, ["l"]),
    ({"l": "a\0b"}, ["l"]),
    ({"l": "a/" * 3000}, ["l"]),
    ({f"l{k}": f"l{k + 1}" for k in range(60)}, [f"l{k}" for k in range(20)]),
], ids=str)  # fmt: skip
def test_links_that_lead_out_are_not_made(tmp_path, links, out):
    data = linked(**links)
    inside = tmp_path / "inside"
    inside.mkdir()
    done = restore_archive(write(inside / "x.ardm", data), options=FileOptions(keep=False))
    made = {str(p.relative_to(inside / "x")) for p in (inside / "x").rglob("*") if p.is_symlink()}
    assert made == links.keys() - set(out)
    root = os.path.realpath(inside / "x")
    assert all(os.path.realpath(inside / "x" / name).startswith(root) for name in made)
    assert done.removed == (not out)
    assert (f"were left out ({len(out)}): " in "".join(done.notes)) == bool(out)


def test_links_are_looked_at_as_the_system_takes_their_names():
    """Where x is X, x/.. leads out of the folder that X is a link to."""
    links = {"X": ".", "y": "x/.."}
    assert leading_out(links, EXACT) == []
    assert leading_out(links, Naming(folds=True)) == ["y"]
    assert leading_out({"y": "a./../b"}, EXACT) == []
    assert leading_out({"y": "a./../b"}, WINDOWS) == ["y"]


@pytest.mark.parametrize(("links", "after", "out"), [
    ({"d/l": "a\\b"}, {"d/a\\b": "d/a_b"}, ["d/l"]),
    ({"d/l": "../d/./a"}, {"d/a": "d/b"}, ["d/l"]),
    ({"l": "d", "m": "d/x", "n": "d/y"}, {"d/x": "e/x", "d-": "f"}, ["l", "m"]),
    ({"l": "d", "m": "d/x", "n": "d/xy"}, {"d/x": "d/z", "d-": "f"}, ["m"]),
    ({"l": "a"}, {"a": "a"}, []),
    ({"l": "/a", "m": "../a", "n": "ab"}, {"a": "b"}, []),
], ids=str)  # fmt: skip
def test_links_to_what_has_another_name_are_told(links, after, out):
    assert to_renamed(links, list(after), list(after.values())) == out


def test_a_link_to_a_renamed_item_is_reported_when_packed_and_when_restored(tmp_path, usual):
    write(tmp_path / "d" / "a\\b", b"data")
    (tmp_path / "d" / "lnk").symlink_to("a\\b")
    said = "links to renamed items are broken (1): d/lnk"
    assert said in pack(tmp_path / "d", tmp_path / "x.ardm").notes
    link = Content(Kind.BYTES, np.zeros((1, 1, 0), "u1"), "", {"link": b"x" * 300})
    data, _ = compress_archive([link, Content.of_bytes(b"b")], ["d/lnk", "d/" + "x" * 300])
    assert said in restore_archive(write(tmp_path / "y.ardm", data)).notes


def test_damage_to_an_index_is_never_taken_for_a_later_format():
    """Every bit of it; what a later format says has a checksum that agrees."""
    contents = [Content.of_bytes(b"a"), Content(Kind.IMAGE, np.zeros((3, 4, 5), "u1"), "png"), Content.of_bytes(b"bb")]
    data, _ = compress_archive(contents, ["a", "p", "b"])
    header, index = 5, open_archive(data).header_bytes
    assert data[:4] == b"\xad\xa1\2\3"  # names, three items; their check is the fifth byte
    for bit in range(8 * header, 8 * index):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CodecError, match=r"^(damaged|truncated)") as error:
            open_archive(bytes(damaged))
        assert not isinstance(error.value, Unsupported), bit


@pytest.mark.parametrize("here", [EXACT, WINDOWS])
def test_each_step_of_a_link_is_looked_at_for_itself(monkeypatch, here):
    """Not with all that came before it, which would take time as the square of a link's length."""
    looked, folded = [], linking.folded
    monkeypatch.setattr(linking, "folded", lambda path, here: looked.append(len(path)) or folded(path, here))
    links = {f"l{k}": "a/" * 300 + "b" for k in range(10)}
    assert leading_out({**links, "x": "a/" * 300 + "../" * 301}, here) == ["x"]
    assert sum(looked) < 1e5


def test_the_path_that_the_system_follows_decides_about_a_link(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "leading_out", lambda links, here: [])
    done = restore_archive(write(tmp_path / "x.ardm", linked(l="../../x", m="a")))
    assert sorted(everything(tmp_path / "x")) == ["a", "d", "d/b", "m"]
    assert "left out (1): l" in done.notes[0]


def test_nothing_is_written_through_a_link(tmp_path):
    """A link and files below a folder of the same name; and links come after all files, whatever their place."""
    (tmp_path / "aim").mkdir()
    about = {"link": os.fsencode(tmp_path / "aim")}
    link = Content(Kind.BYTES, np.zeros((1, 1, 0), "u1"), "", about)
    data, _ = compress_archive([link, Content.of_bytes(b"b")], ["d", "d/b"])
    restore_archive(write(tmp_path / "x.ardm", data))
    assert os.listdir(tmp_path / "aim") == []
    assert everything(tmp_path / "x") == {"d (2)": None, "d (2)/b": b"b"}


def test_where_no_links_can_be_made_they_are_left_out(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("a required privilege is not held")

    monkeypatch.setattr(os, "symlink", refuse)
    done = restore_archive(write(tmp_path / "x.ardm", linked(l="a")), options=FileOptions(keep=False))
    assert done.notes[0].endswith("were left out (1): l")
    assert not done.removed


def test_only_files_are_extracted(tmp_path):
    pack(tree(tmp_path / "in"), tmp_path / "x.ardm")
    for name, said in (("in/empty", "is an empty folder"), ("in/d/up", r"is a link to \.\./a\.txt")):
        with pytest.raises(ArdmError, match=said):
            extract(tmp_path / "x.ardm", [name], tmp_path)
    out = io.BytesIO()
    restore_archive(tmp_path / "x.ardm", out)
    assert out.getvalue() == b"a" * 100 + b"b"


def test_lists_show_folders_and_links(ardm):  # noqa: F811
    tree(Path("in"))
    good(ardm("compress", "--archive", "x.ardm", "in"))
    shown = good(ardm("list", "-v", "x.ardm")).stdout
    assert "in/d/up -> ../a.txt" in shown
    assert [line.split()[0] for line in shown.splitlines() if "in/empty" in line] == ["folder"]
    assert '"target": "../a.txt"' in good(ardm("list", "-v", "--json", "x.ardm")).stdout
    assert good(ardm("test", "x.ardm")).stdout.startswith("x.ardm: good, 9 items")


# --- what is left out -------------------------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A folder with a pipe, a socket, a leftover, a file that may not be read, a link, and one file."""
    monkeypatch.chdir(tmp_path)
    write(Path("in/file"), b"x" * 50)
    write(Path("in/closed"), b"y")
    write(Path("in/.ardm-0123456789abcdef.png"), b"half")
    os.mkfifo("in/pipe")
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind("in/plug")
    os.symlink("file", "in/link")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **kw: Path(path).name != "closed" and real(path, mode, **kw))
    return tmp_path


def test_what_an_archive_leaves_out_is_counted_and_named(odd, ardm):  # noqa: F811
    os.chdir(odd)
    result = ardm("compress", "--archive", "x.ardm", "in")
    assert result.exit_code == 1, "a file could not be read, and the archive is there all the same"
    assert "ardm: 1 left out (1 x unreadable file): in/closed\n" in result.stderr
    note = "ardm: note: 3 left out (1 x left by an interrupted run, 1 x pipe, 1 x socket): "
    assert f"{note}in/.ardm-0123456789abcdef.png, in/pipe, in/plug\n" in result.stderr
    good(ardm("decompress", "x.ardm"))
    assert everything(Path("x/in")) == {"file": b"x" * 50, "link": "file"}
    os.remove("in/closed")
    assert "left out" in good(ardm("compress", "--archive", "y.ardm", "in")).stderr
    assert good(ardm("compress", "-q", "--archive", "z.ardm", "in")).stderr == ""


def test_what_r_leaves_out_is_counted_and_named(odd, ardm):  # noqa: F811
    os.chdir(odd)
    result = ardm("compress", "-r", "in")
    assert result.exit_code == 1
    assert Path("in/file.ardm").exists()
    assert "ardm: 1 left out (1 x unreadable file): in/closed\n" in result.stderr
    assert "4 left out (1 x left by an interrupted run, 1 x link, 1 x pipe, 1 x socket): " in result.stderr


def test_a_folder_that_may_not_be_read_is_left_out_and_a_failure(tmp_path, monkeypatch):
    write(tmp_path / "in" / "a", b"a")
    (tmp_path / "in" / "closed").mkdir()
    real = os.listdir

    def listed(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "listdir", listed)
    left = []
    assert [one.path.name for one in walk([tmp_path / "in"], entries=True, left=left)] == ["a"]
    assert [one.failed for one in left] == [True]
    assert "permission denied" in summary(left)


def test_many_are_counted_and_few_are_named(tmp_path):
    for k in range(9):
        (tmp_path / f"{k}").symlink_to("x")
    left = []
    assert not list(walk([tmp_path], left=left))
    assert summary(left).startswith("9 left out (9 x link): ")
    assert summary(left).endswith("/4 and 4 more")
    assert summary([]) == ""


# --- deep folders -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shallow(tmp_path):
    """A folder with a short path; emptied here, because pytest cannot remove very deep folders."""
    folder = Path("/tmp" if os.path.isdir("/tmp") else tmp_path, f"ardm-{os.getpid()}")
    folder.mkdir()
    yield folder
    whole._discard_folder(folder)
    assert not folder.exists()


@pytest.mark.parametrize("step", ["a/", "abc/"])
def test_deep_names_are_restored_or_refused_in_a_sentence(shallow, step):
    """More steps than functions may call themselves; of the second, more bytes than a path may have."""
    names = ["plain", step * 1020 + "x"]
    data, _ = compress_archive([Content.of_bytes(b"plain"), Content.of_bytes(b"deep")], names)
    packed = write(shallow / "p.ardm", data)
    if step == "a/":
        restore_archive(packed, shallow / "o")
        assert (shallow / "o" / names[1]).read_bytes() == b"deep"
        assert [len(one.below.parts) for one in walk([shallow / "o"])] == [1, 1021]
    else:
        with pytest.raises(ArdmError, match=r"cannot write abc/abc/.*….*c/abc/x: file name too long"):
            restore_archive(packed, shallow / "o")
        assert sorted(os.listdir(shallow)) == ["p.ardm"], "nothing is left of it"
    extract(packed, ["plain"], shallow)
    assert (shallow / "plain").read_bytes() == b"plain"
    assert extract(packed, ["1"], shallow)[0].target == shallow / "x"


def test_deep_folders_become_archives_and_are_swept(shallow):
    deep = shallow / "in" / ("a/" * 1020)
    make_folders(deep, shallow)
    (deep / "x").write_bytes(b"deep")
    pack(shallow / "in", shallow / "x.ardm")
    assert describe.describe((shallow / "x.ardm").read_bytes())[0].names == ("in/" + "a/" * 1020 + "x",)
    os.rename(shallow / "in", shallow / ".ardm-0123456789abcdef")
    assert whole.sweep(shallow) == [shallow / ".ardm-0123456789abcdef"]
    assert os.listdir(shallow) == ["x.ardm"]


@pytest.mark.parametrize(("names", "folders"), [
    ([], 0),
    (["a", "b"], 0),
    (["a/b", "a/c", "ab/c", "a-/x"], 3),
    (["a/b/c/d", "a/b/x", "a/", "e/f/", "e"], 5),
    ([f"{k}/" + "p/" * 190 + "x" for k in range(10)], 1910),
    (["p/" * 190 + f"{k}" for k in range(50)], 190),
], ids=lambda x: len(x) if isinstance(x, list) else x)  # fmt: skip
def test_folders_are_counted_once(names, folders):
    assert count_folders(names) == folders
    assert count_folders(reversed(names)) == folders


@pytest.mark.parametrize("act", [restore_archive, lambda path, options: check_archive(path, options)])
def test_folders_count_towards_what_an_archive_becomes(tmp_path, act):
    """A few bytes may name thousands of them, and each takes a block of the disk."""
    names = [f"{k}/" + "p/" * 200 + "x" for k in range(5)]
    data, _ = compress_archive([Content.of_bytes(b"")] * 5, names)
    assert len(data) < 200
    path = write(tmp_path / "x.ardm", data)
    with pytest.raises(
        ArdmError, match=r"would become 3\.9 MiB with its 1005 folders, .* 1024 bytes; --max-output 4MiB "
    ):
        act(path, options=FileOptions(budget=Budget(output=1 << 10)))
    assert os.listdir(tmp_path) == ["x.ardm"]
    act(path, options=FileOptions(budget=Budget(output=4 << 20)))
    data, _ = compress_archive([Content(Kind.BYTES, np.zeros((1, 1, 0), "u1"), "", {"folder": b""})], ["a/b"])
    with pytest.raises(ArdmError, match="with its 2 folders"):
        act(write(tmp_path / "y.ardm", data), options=FileOptions(budget=Budget(output=8000)))


# --- speed ------------------------------------------------------------------------------------------------------------


def many(folder, count):
    for k in range(count):
        write(folder / f"{k % 7}" / f"{k}", b"%d" % k)
    return folder


def test_a_folder_is_synchronised_once_and_before_it_is_named(tmp_path, monkeypatch):
    pack(many(tmp_path / "in", 60), tmp_path / "x.ardm")
    synced, single = [], []
    real, system = os.fsync, whole._synchronise_system
    monkeypatch.setattr(os, "fsync", lambda handle: single.append(handle) or real(handle))

    def all_at_once(folder):
        synced.append((len([p for p in folder.rglob("*") if p.is_file()]), (tmp_path / "x").exists()))
        return system(folder)

    monkeypatch.setattr(whole, "_synchronise_system", all_at_once)
    restore_archive(tmp_path / "x.ardm")
    assert synced == [(60, False)]
    assert len(single) <= 2 or not whole.sys.platform.startswith("linux"), "the folder it stands in, and no file alone"


def test_where_there_is_no_call_for_all_each_file_is_synchronised(tmp_path, monkeypatch):
    pack(many(tmp_path / "in", 20), tmp_path / "x.ardm")
    single, real = [], whole._synchronise
    monkeypatch.setattr(whole, "_synchronise_system", lambda folder: False)
    monkeypatch.setattr(whole, "_synchronise", lambda path, mode: single.append(path.name) or real(path, mode))
    restore_archive(tmp_path / "x.ardm")
    assert {str(k) for k in range(20)} <= set(single)


def test_a_disk_that_fails_at_the_end_leaves_nothing(tmp_path, monkeypatch):
    pack(many(tmp_path / "in", 5), tmp_path / "x.ardm")

    def fail(folder):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(whole, "_synchronise_system", fail)
    with pytest.raises(ArdmError, match=r"cannot write .*x: input/output error"):
        restore_archive(tmp_path / "x.ardm")
    assert sorted(os.listdir(tmp_path)) == ["in", "x.ardm"]


def test_an_interruption_does_not_wait_for_the_disk(tmp_path, monkeypatch):
    pack(many(tmp_path / "in", 30), tmp_path / "x.ardm")
    go = threading.Event()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(whole, "_synchronise_system", lambda folder: go.wait(20))
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.4)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            restore_archive(tmp_path / "x.ardm")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        go.set()
    assert time.monotonic() - began < 5
    assert sorted(os.listdir(tmp_path)) == ["in", "x.ardm"]


def test_what_the_disk_gives_back_is_compared(tmp_path, monkeypatch):
    class Lying(io.FileIO):
        def read(self, size=-1):
            return super().read(size)[:-1] + b"?"

    pack(many(tmp_path / "in", 5), tmp_path / "x.ardm")
    monkeypatch.setattr(unpacking, "open", lambda path, mode: Lying(path, "x+"), raising=False)
    with pytest.raises(ArdmError, match="the disk returned different data"):
        restore_archive(tmp_path / "x.ardm")
    assert not (tmp_path / "x").exists()
    assert restore_archive(tmp_path / "x.ardm", options=FileOptions(verify=False)).notes == ()


def test_each_file_is_read_and_rendered_no_more_than_it_must_be(tmp_path, monkeypatch):
    """Making: parsed once, and rendered once to see whether it can be.  Restoring: rendered once."""
    for k in range(6):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 9, (9, 9 + k, 3)).astype("u1")).save(
            tmp_path / "in" / f"{k}.png"
        )
    parsed, made = [], []
    parse, render = packing.parse, formats.render
    monkeypatch.setattr(packing, "parse", lambda *a: parsed.append(1) or parse(*a))
    monkeypatch.setattr(formats, "render", lambda *a: made.append(1) or render(*a))
    pack(tmp_path / "in", tmp_path / "x.ardm")
    assert (len(parsed), len(made)) == (6, 6)
    made.clear()
    restore_archive(tmp_path / "x.ardm")
    assert len(made) == 6


def test_what_is_kept_from_the_first_look_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "KEPT", 250)
    for k in range(6):
        write(tmp_path / "in" / f"{k}", bytes([k]) * 100)
    parsed, parse = [], packing.parse
    monkeypatch.setattr(packing, "parse", lambda *a: parsed.append(1) or parse(*a))
    pack(tmp_path / "in", tmp_path / "x.ardm")
    assert len(parsed) == 6 + 4


def test_a_pattern_of_several_files_needs_a_folder_and_leaves_nothing_behind(tmp_path):
    """A name for one file would take the first, and the others would fail."""
    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.txt").write_bytes(b"text %d" % n)
    make_archive(list(walk([folder])), tmp_path / "x.ardm", FileOptions())
    with pytest.raises(ArdmError, match="is not a folder, and 3 items need one"):
        extract(tmp_path / "x.ardm", ["*.txt"], tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert [r.target.name for r in extract(tmp_path / "x.ardm", ["*2.txt"], tmp_path / "new")] == ["new"]
    extract(tmp_path / "x.ardm", ["*.txt"], folder, FileOptions(force=True))
