"""Archives of lines: each is read alone, and all of them are the file again, byte for byte."""

import shutil
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import ardm as library
import by_the_page
from ardm.cli.app import app
from ardm.cli.listing import record
from ardm.codec.archive import compress_archive, open_archive, write_archive
from ardm.codec.describe import describe
from ardm.codec.registry import bundled
from ardm.content import Content, Lines
from ardm.data.samples import read
from ardm.errors import ArdmError, CodecError
from ardm.files.extract import check_archive, extract
from ardm.files.limits import Budget
from ardm.files.lines import TextLines
from ardm.files.options import FileOptions
from ardm.files.pack import make_archive
from ardm.files.paths import Found, walk
from ardm.files.unpack import restore_archive

PIECES = st.sampled_from([b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"a line", b"{}", "ü".encode(), b"\n\n", b"\n\r"])
TEXTS = st.lists(PIECES, max_size=12).map(b"".join)


@pytest.fixture
def no_model(monkeypatch):
    monkeypatch.setattr("ardm.codec.selection.Engine.coder", lambda self, content: None)


def pack(data, target, append=False, options=None):
    """Compress the lines of a file into an archive."""
    source = target.with_name("source.txt")
    source.write_bytes(data)
    return make_archive([Found.named(source)], target, options or FileOptions(force=True), append, "line")


def restored(target):
    """What an archive restores to: in a file and in a stream alike."""
    out, path = BytesIO(), target.with_name("back")
    restore_archive(target, path, FileOptions(force=True))
    restore_archive(target, out)
    assert out.getvalue() == path.read_bytes()
    return out.getvalue()


def expected(data):
    """The lines of a text, from the words of the page alone."""
    end = b"\r\n" if b"\n" in data and b"\n" not in data.replace(b"\r\n", b"") else b"\n"
    *lines, last = data.split(end)
    return [*lines, last] if last or not lines else lines


# --- round trips ------------------------------------------------------------------------------------------------------


@given(TEXTS)
@example(b"")
@example(b"\n")
@example(b"no end")
@example(b"a\r\nb\r\n")
@example(b"a\r\nb\n")
@example(b"a\r\nb")
@settings(max_examples=60, deadline=None)
def test_every_byte_comes_back(tmp_path_factory, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ardm.codec.selection.Engine.coder", lambda self, content: None)
        target = tmp_path_factory.mktemp("lines") / "x.ardm"
        done = pack(data, target)
        text, items = by_the_page.read(target.read_bytes())
        assert restored(target) == text == data
        lines = expected(data)
        assert [samples for _, _, samples in items] == lines
        assert done.what == f"{len(lines)} line{'s' * (len(lines) > 1)}"
        with library.open_archive(target) as archive:
            assert (archive.names, list(archive), archive[len(lines) - 1]) == (None, lines, lines[-1])
        out = BytesIO()
        extract(target, [str(k) for k in range(len(lines))], out)
        assert out.getvalue() == data
        assert check_archive(target, FileOptions()).what == done.what


@given(TEXTS, TEXTS)
@settings(max_examples=40, deadline=None)
def test_appended_lines_follow_those_before(tmp_path_factory, first, second):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ardm.codec.selection.Engine.coder", lambda self, content: None)
        target = tmp_path_factory.mktemp("lines") / "x.ardm"
        pack(first, target)
        before = open_archive(target.read_bytes()).lines
        if before.end == b"\r\n" and b"\n" in second.replace(b"\r\n", b""):
            with pytest.raises(ArdmError, match="end in CR LF, and not all of"):
                pack(second, target, append=True)
            assert restored(target) == first
            return
        done = pack(second, target, append=True)
        assert restored(target) == first + (b"" if before.ended else before.end) + second
        assert done.notes == (() if before.ended else ("the last line of the archive had no end; it gets one",))


def test_lines_are_those_that_fit_learns_from(tmp_path):
    """Whatever ends them: a model of lines without CR never sees one."""
    for ends in ([b"\n"], [b"\r\n"], [b"\r\n", b"\n"], [b"\r", b"\n"]):
        data = b"".join(b'{"n":%d}' % n + ends[n % len(ends)] for n in range(120))
        path = tmp_path / "events.jsonl"
        path.write_bytes(data)
        learned = [content.samples.tobytes() for content in read([path]).contents]
        assert learned == [content.samples.tobytes() for content in TextLines(data)]
        assert (b"\r" in learned[0]) == (len(ends) > 1)


def test_lines_share_what_they_have_in_common(tmp_path, no_model):
    """Of one form: no directory, and no names; each costs its bytes, a method and a check."""
    data = bytes(range(48, 58)) + b"\n"
    pack(data * 1000, tmp_path / "x.ardm")
    assert (tmp_path / "x.ardm").stat().st_size < 1000 * (10 + 5) + 20
    assert restored(tmp_path / "x.ardm") == data * 1000


def test_a_line_is_held_only_while_it_is_coded():
    data = b"a line of text\n" * 200_000
    tracemalloc.start()
    try:
        lines = TextLines(data)
        assert sum(1 for _ in map(lines.__getitem__, range(len(lines)))) == 200_000
        assert tracemalloc.get_traced_memory()[1] < 2.5 * len(data)
    finally:
        tracemalloc.stop()


# --- files ------------------------------------------------------------------------------------------------------------


def test_names_of_what_comes_out(tmp_path, monkeypatch, no_model):
    monkeypatch.chdir(tmp_path)
    target = Path("events.jsonl.ardm")
    pack(b"a\nb\n", target)
    done = restore_archive(target, None, FileOptions())
    assert (done.target, done.what, Path("events.jsonl").read_bytes()) == (Path("events.jsonl"), "2 lines", b"a\nb\n")
    with pytest.raises(ArdmError, match=r"events.jsonl exists"):
        restore_archive(target)
    extract(target, ["1"])
    assert Path("events-1.jsonl").read_bytes() == b"b\n"
    pack(b"a\nb", Path("plain.ardm"))
    extract(Path("plain.ardm"), ["1"])
    assert Path("plain-1.txt").read_bytes() == b"b"
    with pytest.raises(ArdmError, match="overwritten by itself"):
        restore_archive(target, target, FileOptions(force=True))
    with pytest.raises(ArdmError, match="lines of a text are written as they are; leave out --format"):
        restore_archive(target, Path("x.png"), FileOptions(format="png"))
    with pytest.raises(ArdmError, match="items 0 to 1; got 2"):
        extract(target, ["2"])


def test_ends_count_towards_what_it_becomes(tmp_path, no_model):
    pack(b"\n" * 3000, tmp_path / "x.ardm")
    for most, good in ((2999, False), (3000, True)):
        options = FileOptions(budget=Budget(output=most), force=True)
        if good:
            assert restore_archive(tmp_path / "x.ardm", tmp_path / "back", options).target_bytes == 3000
        else:
            with pytest.raises(ArdmError, match=r"--max-output"):
                restore_archive(tmp_path / "x.ardm", tmp_path / "back", options)


def test_lists_say_what_it_holds(tmp_path, no_model):
    pack(b"a\nbcd\n", tmp_path / "x.ardm")
    facts = record(tmp_path / "x.ardm", verbose=True)
    assert (facts["kind"], facts["size"], facts["items"], facts["lines"]) == ("bytes", "2 lines", 2, True)
    assert [(one["name"], one["size"]) for one in facts["entries"]] == [(None, "1 bytes"), (None, "3 bytes")]
    assert describe((tmp_path / "x.ardm").read_bytes())[0].lines


def test_what_is_refused(tmp_path, no_model):
    target, folder = tmp_path / "x.ardm", tmp_path / "d"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_bytes(b"a\nb\n")
    both = [Found.named(folder / name) for name in ("a.txt", "b.txt")]
    for found, what in ((both, "2 files"), (list(walk([folder], entries=True)), "2 files"), (both[:1], "")):
        if what:
            with pytest.raises(ArdmError, match=f"lines of one file, and this is {what}"):
                make_archive(found, target, FileOptions(), each="line")
            assert not target.exists()
    (folder / "b.txt").unlink()
    with pytest.raises(ArdmError, match="this is a folder"):
        make_archive(list(walk([folder], entries=True)), target, FileOptions(), each="line")
    with pytest.raises(ArdmError, match=r"memory as a whole.*-M "):
        pack(b"line\n" * 10_000, target, options=FileOptions(budget=Budget(memory=1 << 16)))
    with pytest.raises(ArdmError, match=r"archive of 10,000 items needs some .*-M "):
        pack(b"\n" * 10_000, target, options=FileOptions(budget=Budget(memory=1 << 20)))
    assert not target.exists()
    make_archive(both[:1], target, FileOptions())
    before = target.read_bytes()
    with pytest.raises(ArdmError, match="not the lines of a file; leave out --each"):
        pack(b"c\n", target, append=True)
    assert target.read_bytes() == before
    pack(b"c\n", target)
    before = target.read_bytes()
    with pytest.raises(ArdmError, match="append those of another one with --each line"):
        make_archive(both[:1], target, FileOptions(), append=True)
    assert target.read_bytes() == before


def test_a_damaged_line_is_named_and_the_others_are_read(tmp_path, no_model):
    target = tmp_path / "x.ardm"
    pack(b"first\nsecond\nthird\n", target)
    data = bytearray(target.read_bytes())
    data[data.index(b"second")] ^= 1
    target.write_bytes(data)
    with pytest.raises(CodecError, match="item 1: "):
        check_archive(target, FileOptions())
    with pytest.raises(CodecError, match="item 1"):
        restore_archive(target, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    out = BytesIO()
    with pytest.raises(CodecError):
        extract(target, ["0", "1", "2"], out)
    assert out.getvalue() == b"first\nthird\n"


# --- contents ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_a_line(monkeypatch):
    text = Content.of_bytes(b"text")
    others = [Content.of_bytes(b"text", "png"), Content(text.kind, text.samples, "", {"a": b"1"})]
    for other in others:
        for items in ([other], [text, other]):
            with pytest.raises(ArdmError, match="plain bytes, without names"):
                compress_archive(items, lines=Lines())
            with monkeypatch.context() as patch:
                patch.setattr("ardm.codec.archive.is_line", lambda form: True)
                data, _ = compress_archive(items, lines=Lines())
            with pytest.raises(CodecError, match="not the lines of a text"):
                open_archive(data)
    with pytest.raises(ArdmError, match="plain bytes, without names"):
        compress_archive([text], ["name"], lines=Lines())
    for first, second in ((None, Lines()), (Lines(), None), (Lines(), Lines(b"\r\n"))):
        before = open_archive(compress_archive([text], lines=first)[0])
        with pytest.raises(ArdmError, match="lines that end alike, or none"):
            write_archive(BytesIO(), BytesIO(), [text], before=before, lines=second)


# --- the command ------------------------------------------------------------------------------------------------------


def run(*arguments):
    """The program, as a user runs it."""
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "400"})
    assert "Traceback" not in result.output
    return result


def test_the_command(tmp_path, monkeypatch):
    """The model that is named codes each line, and those appended later; a number gives one line."""
    monkeypatch.chdir(tmp_path)
    lines = [b"the quick brown fox jumps over the lazy dog %d times" % n for n in range(30)]
    data = b"\n".join(lines) + b"\n"
    Path("log.txt").write_bytes(data)
    shutil.copy(bundled()["english"], "my.model")
    done = run("compress", "--archive", "log.txt.ardm", "--each", "line", "-m", "my.model", "log.txt")
    assert (done.exit_code, "30 lines" in done.output) == (0, True), done.output
    assert Path("log.txt.ardm").stat().st_size < 0.6 * len(data)
    Path("more.txt").write_bytes(b"and once more\n")
    assert run("compress", "--archive", "log.txt.ardm", "--each", "line", "--append", "more.txt").exit_code == 0
    archive = open_archive(Path("log.txt.ardm").read_bytes())
    assert [archive.info(k).coded for k in range(len(archive))] == [True] * 31
    Path("log.txt").unlink()
    assert run("decompress", "log.txt.ardm").exit_code == 0
    assert Path("log.txt").read_bytes() == data + b"and once more\n"
    assert run("extract", "log.txt.ardm", "17", "-c").stdout_bytes == lines[17] + b"\n"
    assert run("cat", "log.txt.ardm").stdout_bytes == data + b"and once more\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--each", "line", "a.txt"], "name it with --archive"),
        (["--archive", "x.ardm", "--each", "word", "a.txt"], "an item is a line or a file; got 'word'"),
        (["--archive", "x.ardm", "--each", "line", "here"], "this is a folder"),
        (["--archive", "x.ardm", "--each", "line", "a.txt", "b.txt"], "this is 2 files"),
    ],
)
def test_what_the_command_refuses(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    for name in ("a.txt", "b.txt", "here/a.txt"):
        Path(name).write_bytes(b"a\n")
    result = run("compress", *arguments)
    assert result.exit_code in (1, 2)
    assert said in " ".join(result.output.split())
    assert not Path("x.ardm").exists()
