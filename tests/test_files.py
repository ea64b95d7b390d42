"""Files: they come back unchanged, appear whole or not at all, and existing ones are never lost."""

import errno
import io
import os
import re
import shutil
import stat
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ardm import formats
from ardm.codec import archive, decode, encode
from ardm.codec.archive import open_archive
from ardm.codec.describe import describe
from ardm.codec.header import Form, Header
from ardm.codec.index import name_fault
from ardm.codec.report import FrameInfo
from ardm.codec.selection import Engine
from ardm.content import ENDING, Content, Kind
from ardm.errors import ArdmError, CodecError, ModelMissing
from ardm.files import extract as extracting
from ardm.files import limits as admission
from ardm.files import pack as packing
from ardm.files import restore as restoring
from ardm.files.compress import compress_file
from ardm.files.extract import check_archive, extract
from ardm.files.limits import Budget
from ardm.files.names import WINDOWS, Naming, safe_names
from ardm.files.options import FileOptions
from ardm.files.pack import make_archive
from ardm.files.paths import Found, item_name, restored_path, walk
from ardm.files.restore import check_file, decompress_file
from ardm.files.unpack import restore_archive
from ardm.media.pictures import read_image
from contents import Counting, Small, models

TEXT = b"".join(f"line {i} of some text\n".encode() for i in range(400))
BINARY = bytes(range(256)) * 20
FORCE = FileOptions(force=True)


def samples(shape=(9, 8, 3), seed=0):
    """Small numbers, which the model of the tests likes."""
    x = np.minimum(np.random.default_rng(seed).geometric(0.08, shape) - 1, 255).astype(np.uint8)
    return x[..., 0] if shape[-1] == 1 else x


def picture(path, shape=(9, 8, 3), seed=0, **options):
    Image.fromarray(samples(shape, seed)).save(path, **options)
    return Path(path)


def pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def write(path, data):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def litter(folder):
    return sorted(p.name for p in folder.iterdir() if p.name.startswith(".ardm"))


@pytest.fixture
def photo(tmp_path):
    return picture(tmp_path / "photo.png")


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    """Unless a test asks for one."""
    monkeypatch.setattr(Engine, "coder", lambda self, content: None)


@pytest.fixture
def small(no_model, monkeypatch):
    """A model for pictures: it takes three planes at once."""
    coder = Small()
    monkeypatch.setattr(Engine, "coder", lambda self, content: coder if content.kind == Kind.IMAGE else None)
    monkeypatch.setattr(Engine, "models", lambda self, name, calls: models(coder)(name, calls))
    return coder


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tiff", "ppm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_go_and_come_back(tmp_path, small, suffix, channels):
    path = picture(tmp_path / f"x.{suffix}", (19, 17, channels), **({"lossless": True} if suffix == "webp" else {}))
    before = pixels(path)
    done = compress_file(path)
    assert done.target == tmp_path / f"x.{suffix}.ardm"
    path.unlink()
    assert decompress_file(done.target).target == path
    assert np.array_equal(pixels(path), before)


@pytest.mark.parametrize(
    "data", [b"", b"a", TEXT, bytes(5000), os.urandom(3000), b"\x89PNG\r\n", b"RIFF", b"\x93NUMPY"]
)
def test_bytes_go_and_come_back(tmp_path, data):
    """Whatever they are, and whatever they look like."""
    path = write(tmp_path / "x.dat", data)
    done = compress_file(path)
    assert done.target_bytes == done.target.stat().st_size <= len(data) + 40
    path.unlink()
    decompress_file(done.target)
    assert path.read_bytes() == data


def test_what_is_known_of_a_file(photo, tmp_path, small):
    photo.chmod(0o640)
    os.utime(photo, (1e9, 1e9))
    done = compress_file(photo)
    assert (done.source, done.target, done.what) == (photo, tmp_path / "photo.png.ardm", "8x9x3")
    assert done.source_bytes == photo.stat().st_size
    assert done.target_bytes == done.report.file_bytes == done.target.stat().st_size
    assert (done.removed, done.why) == (False, "")
    for path in (photo, done.target):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert path.stat().st_mtime == 1e9
    photo.unlink()
    back = decompress_file(done.target)
    assert (back.target, back.report, back.what) == (photo, None, "8x9x3")
    assert stat.S_IMODE(photo.stat().st_mode) == 0o640
    assert photo.stat().st_mtime == 1e9
    assert sorted(os.listdir(tmp_path)) == ["photo.png", "photo.png.ardm"]


def test_why_no_model_coded_it(photo, tmp_path, monkeypatch):
    assert compress_file(write(tmp_path / "x.txt", TEXT)).why == "no bundled model suits plain bytes"
    monkeypatch.setattr(Engine, "coder", lambda self, content: None)
    assert compress_file(photo, options=FORCE).why == "no bundled model suits images"
    monkeypatch.setattr(Engine, "coder", lambda self, content: Small(refuse="it is a Tuesday"))
    assert compress_file(photo, options=FORCE).why == "it is a Tuesday"


def test_bytes_alone_need_neither_a_model_nor_pytorch(tmp_path):
    write(tmp_path / "x.txt", BINARY)
    script = """
import sys
from pathlib import Path
from ardm.files.compress import compress_file
from ardm.files.restore import decompress_file
folder = Path(sys.argv[1])
decompress_file(compress_file(folder / "x.txt").target, folder / "y.txt")
assert not {"torch", "ardm.codec.registry", "ardm.codec.model_coder"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
    assert (tmp_path / "y.txt").read_bytes() == BINARY


def test_every_byte_is_kept_if_it_is_to_be(photo, small):
    done = compress_file(photo, options=FileOptions(exact=True))
    before = photo.read_bytes()
    assert (done.report.kind, describe(done.target.read_bytes())[0].origin) == (Kind.BYTES, "png")
    photo.unlink()
    decompress_file(done.target)
    assert photo.read_bytes() == before


def test_much_becomes_several_frames(tmp_path):
    data = os.urandom(1000) + TEXT
    path = write(tmp_path / "x", data)
    done = compress_file(path, options=FileOptions(chunk=300))
    assert len(describe(done.target.read_bytes())) == -(-len(data) // 300)
    assert (done.source_bytes, done.report.raw_bytes, done.report.shape[2]) == (len(data),) * 3
    path.unlink()
    assert decompress_file(done.target).target_bytes == len(data)
    assert path.read_bytes() == data


class Drip(io.RawIOBase):
    """A stream that gives and takes three bytes at a time."""

    def __init__(self, data=b""):
        self.source, self.sink = io.BytesIO(data), io.BytesIO()

    def read(self, size=-1):
        return self.source.read(min(size, 3) if size >= 0 else 3)

    def write(self, data):
        return self.sink.write(bytes(data[:3]))


def test_streams_that_give_and_take_a_little(small, photo):
    for data in (TEXT, photo.read_bytes(), b""):
        packed, back = Drip(), Drip()
        done = compress_file(Drip(data), packed, FileOptions(exact=True))
        assert (done.source, done.target, done.source_bytes) == (None, None, len(data))
        decompress_file(io.BytesIO(packed.sink.getvalue()), back)
        assert back.sink.getvalue() == data
    with pytest.raises(ArdmError, match="standard input has no name; name the result with -o"):
        compress_file(io.BytesIO(TEXT))
    with pytest.raises(ArdmError, match="standard input has no name; name the result with -o"):
        decompress_file(io.BytesIO(packed.sink.getvalue()))


def test_what_is_compressed_is_not_compressed_again(tmp_path):
    done = compress_file(write(tmp_path / "x", TEXT))
    with pytest.raises(ArdmError, match=r"this is already an .ardm file; -f compresses it again"):
        compress_file(done.target)
    assert sorted(os.listdir(tmp_path)) == ["x", "x.ardm"]
    assert compress_file(done.target, options=FORCE).target == tmp_path / "x.ardm.ardm"
    before = done.target.read_bytes()
    done.target.unlink()
    decompress_file(tmp_path / "x.ardm.ardm")
    assert done.target.read_bytes() == before


# --- names ------------------------------------------------------------------------------------------------------------


def info(kind=Kind.IMAGE, origin="webp", items=None):
    return FrameInfo(kind, (3, 4, 4), False, origin, 0, "", {}, "", 0, 1, items, None, 48, 48, 20, 10, {})


@pytest.mark.parametrize(("packed", "about", "format", "restored"), [
    ("a.png.ardm", info(), "", "a.png"), ("a.TIF.ARDM", info(), "", "a.TIF"), ("a.ardm", info(), "", "a.webp"),
    ("a.b.ardm", info(), "", "a.b"), ("a", info(), "", "a.webp"), (".ardm", info(), "", "restored.webp"),
    ("a.webp.ardm", info(), "ppm", "a.ppm"), ("a.b.ardm", info(), "ppm", "a.b.ppm"), ("a.ardm", info(), "ppm", "a.ppm"),
    ("a.txt.ardm", info(Kind.BYTES, ""), "", "a.txt"), ("a.ardm", info(Kind.BYTES, ""), "", "a"),
    ("photos.ardm", info(items=3), "", "photos"), ("photos", info(items=3), "", "photos.items"),
])  # fmt: skip
def test_restored_names(tmp_path, packed, about, format, restored):
    assert restored_path(tmp_path / packed, about, None, format) == tmp_path / restored
    assert restored_path(Path("nowhere") / packed, about, tmp_path, format) == tmp_path / restored
    assert restored_path(tmp_path / packed, about, tmp_path / "other", format) == tmp_path / "other"


def test_a_name_that_cannot_be_guessed(tmp_path):
    with pytest.raises(ArdmError, match=r"does not end in .ardm; name the restored file with -o"):
        restored_path(tmp_path / "notes", info(Kind.BYTES, ""))


def test_targets_are_files_or_folders(photo, tmp_path, small):
    (tmp_path / "out").mkdir()
    assert compress_file(photo, tmp_path / "out").target == tmp_path / "out" / "photo.png.ardm"
    other = compress_file(photo, tmp_path / "other").target
    assert other == tmp_path / "other"
    assert decompress_file(other, tmp_path / "out").target == tmp_path / "out" / "other.png"
    for name, kind in {"z.bmp": "BMP", "z.tif": "TIFF", "z.ppm": "PPM", "bare": "PNG"}.items():
        assert decompress_file(other, tmp_path / name).target == tmp_path / name
        with Image.open(tmp_path / name) as image:
            assert image.format == kind
        assert np.array_equal(pixels(tmp_path / name), pixels(photo))
    for name in ("z.jpg", "z.gif", "z.txt"):
        with pytest.raises(ArdmError, match=r"a restored image ends in one of .*\.bmp, .flac"):
            decompress_file(other, tmp_path / name)
    kept = compress_file(photo, tmp_path / "kept", FileOptions(exact=True)).target
    decompress_file(kept, tmp_path / "kept.ppm")
    assert np.array_equal(pixels(tmp_path / "kept.ppm"), pixels(photo))
    text = compress_file(write(tmp_path / "x.txt", TEXT)).target
    with pytest.raises(ArdmError, match="holds plain bytes, which cannot be written as png"):
        decompress_file(text, options=FileOptions(format="png"))


def test_files_in_folders(tmp_path):
    for name in ("b/c", "b/a.ardm", "a", "B/.hidden", ".ardm-0123456789abcdef"):
        write(tmp_path / name, b"")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert [str(one.below) for one in walk([tmp_path])] == ["a", "B/.hidden", "b/a.ardm", "b/c"]
    assert [str(one.below) for one in walk([tmp_path], packed=True)] == ["b/a.ardm"]
    assert [str(one.below) for one in walk([tmp_path], packed=False)] == ["a", "B/.hidden", "b/c"]
    assert [one.path for one in walk([tmp_path / "b" / "a.ardm"], packed=False)] == [tmp_path / "b" / "a.ardm"]


@pytest.mark.parametrize(("given", "path", "name"), [
    ("photos", "photos/a/b.png", "photos/a/b.png"), ("/x/photos", "/x/photos/b.png", "photos/b.png"),
    ("../photos", "../photos/b.png", "photos/b.png"), (".", "b.png", "b.png"), ("x/b.png", "x/b.png", "x/b.png"),
    ("/x/b.png", "/x/b.png", "b.png"), ("../x/b.png", "../x/b.png", "x/b.png"),
])  # fmt: skip
def test_names_in_archives(given, path, name):
    given, path = Path(given), Path(path)
    below = Path(path.name) if given == path else path.relative_to(given)
    assert item_name(Found(path, below, given)) == name


STEPS = st.one_of(
    st.text(max_size=6), st.sampled_from(["..", ".", "", "CON", "nul.txt", "COM1", "a", "A", "é", "e\u0301", "ß", "SS", "c:", "x ", "y."]),
    st.text("ab.", max_size=300), st.characters().map(lambda c: c * 200),
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(STEPS, max_size=4).map("/".join), max_size=8), st.booleans(), st.booleans())
def test_hostile_names_stay_inside_and_apart(names, folds, strict):
    """Inside, no two that fold together, none that is a folder of another, no device; and the container takes them."""
    here = Naming(folds, strict)
    made = safe_names(names, here)
    assert len(made) == len(names)
    assert not name_fault(made)
    folded = [
        unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()) if folds else name for name in made
    ]
    assert len(set(folded)) == len(made)
    for name in folded:
        assert not any(other.startswith(name + "/") for other in folded)
    for name in made:
        path = Path(name)
        assert not path.is_absolute()
        for step in path.parts:
            assert step not in ("..", ".")
            assert len(step.encode("utf-16-le")) < 512 if strict else len(step.encode()) < 256
            assert not strict or not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)\s*(\..*)?", step, re.DOTALL)
            assert not strict or not (step.endswith((" ", ".")) or set(step) & set('<>:"|?*\\'))
    assert safe_names(made, here) == made


def test_names_that_are_harmless_stay():
    names = ["a.png", "x/a.png", "x/ü ß.png", ".hidden", "12:30 (2).txt", "日本/語"]
    assert safe_names(names, Naming()) == names
    assert safe_names(["A", "a", "a/b", "AUX.txt"], WINDOWS) == ["A", "a (2)", "a (3)/b", "_AUX.txt"]
    assert safe_names(["../../etc/passwd", "/etc/passwd", "a//b", "..", "x\ny", "C:x"]) == [
        "etc/passwd", "etc/passwd (2)", "a/b", "item", "x_y", "C_x",
    ]  # fmt: skip


# --- what is not let in -----------------------------------------------------------------------------------------------


def bomb(form):
    """A short file that claims to be constant over a large area."""
    return Header(form).write() + b"\3" + bytes(form.shape[0] + 4)


HUGE = Form(Kind.IMAGE, (3, 10**5, 10**5))


@pytest.mark.parametrize(("form", "budget", "said"), [
    (HUGE, Budget(), r"claims 100000x100000 pixels, and the limit is 268435456; --max-pixels 10000000000 allows it"),
    (HUGE, Budget(pixels=10**10), r"27\.9 GiB of samples.*83\.8 GiB of memory.*limit is 2\.0 GiB; -M 85831MiB allows it"),
    (Form(Kind.IMAGE, (3, 9000, 9000)), Budget(memory=1 << 28), "-M 696MiB allows it"),
])  # fmt: skip
def test_what_claims_much_is_refused_before_any_work(tmp_path, form, budget, said):
    path = write(tmp_path / "x.ardm", bomb(form))
    for action in (
        lambda: decompress_file(path, options=FileOptions(budget=budget)),
        lambda: check_file(path, FileOptions(budget=budget)),
    ):
        with pytest.raises(ArdmError, match=said) as error:
            action()
        assert not isinstance(error.value, CodecError), "it is not damaged"
    assert os.listdir(tmp_path) == ["x.ardm"]


def test_patience_can_be_forced_and_memory_cannot():
    slow = [replace(info(), shape=(3, 5000, 5000), samples=75 * 10**6, raw_bytes=75 * 10**6, coded=True, calls=9999)]
    with pytest.raises(ArdmError, match="takes an estimated 63 minutes; -f decodes it anyway"):
        admission.admit(slow, Budget(), 100)
    admission.admit(slow, Budget(force=True), 100)
    with pytest.raises(ArdmError, match="memory"):
        admission.admit(slow, Budget(memory=1 << 20, force=True), 100)


@pytest.mark.parametrize(("data", "name", "said", "damaged"), [
    (b"\x89PNG\r\n\x1a\n", "x.png", "this is a PNG image, not an .ardm file", False),
    (b"\x89PNG\r\n\x1a\n", "x.ardm", "this is a PNG image, not an .ardm file", False),
    (b"\x1f\x8b\x08", "x.gz", "this is gzip, not an .ardm file", False),
    (b"hello", "x.txt", "not an ardm file: it does not begin with AD D1 or AD A1", False),
    (b"hello", "x.ardm", "not an ardm file: it does not begin with AD D1 or AD A1", True),
    (b"", "x", "not an ardm file: it is empty", True),
    (b"\xad", "x", "truncated file: it ends in its header, after 1 bytes", True),
    (b"\xc2\xad\xc3\x91", "x", "an ardm file that was copied as text", True),
])  # fmt: skip
def test_files_of_others(tmp_path, data, name, said, damaged):
    path = write(tmp_path / name, data)
    with pytest.raises(ArdmError, match=re.escape(said)) as error:
        decompress_file(path, tmp_path / "y")
    assert isinstance(error.value, CodecError) == damaged


def test_damaged_files_restore_nothing(photo, tmp_path, small):
    data = compress_file(photo).target.read_bytes()
    bad = tmp_path / "bad.ardm"
    for broken in (data[:3], data[:10], data[:-1], data + b"\1", data + bytes(10**5), data + data,
                   data[:40] + bytes([data[40] ^ 1]) + data[41:]):  # fmt: skip
        bad.write_bytes(broken)
        with pytest.raises(CodecError) as error:
            decompress_file(bad, tmp_path / "y.png", FileOptions(keep=False))
        assert "\n" not in str(error.value)
        with pytest.raises(CodecError):
            check_file(bad, FileOptions())
    assert sorted(os.listdir(tmp_path)) == ["bad.ardm", "photo.png", "photo.png.ardm"]


def test_frames_of_bytes_follow_one_another(tmp_path):
    one, two = (compress_file(write(tmp_path / name, data)).target for name, data in (("a", b"one "), ("b", b"two")))
    both = write(tmp_path / "c.ardm", one.read_bytes() + two.read_bytes())
    assert decompress_file(both).target_bytes == 7
    assert (tmp_path / "c").read_bytes() == b"one two"
    write(both, one.read_bytes() + two.read_bytes()[:-1])
    with pytest.raises(CodecError):
        decompress_file(both, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    assert not litter(tmp_path)


# --- never lost -------------------------------------------------------------------------------------------------------


def test_existing_targets_are_refused_before_any_work(photo, tmp_path, monkeypatch, small):
    done = compress_file(photo)
    before = done.target.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(encode, "compress", None)
        patch.setattr(restoring, "rendered", None)
        with pytest.raises(ArdmError, match=r"photo.png.ardm exists"):
            compress_file(photo)
        with pytest.raises(ArdmError, match=r"photo.png exists"):
            decompress_file(done.target)
    assert done.target.read_bytes() == before
    compress_file(photo, options=FORCE)
    decompress_file(done.target, options=FileOptions(force=True))


@pytest.mark.parametrize(
    ("name", "said"),
    [("nothing", "there is no file"), ("folder", "is a folder; -r takes"), ("pipe", "not an ordinary file")],
)
def test_sources_that_are_no_files(tmp_path, name, said):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for action in (compress_file, decompress_file):
        with pytest.raises(ArdmError, match=said):
            action(tmp_path / name, tmp_path / "out.png")


def test_a_file_never_overwrites_itself(photo, tmp_path, small):
    before = photo.read_bytes()
    (tmp_path / "link.png").symlink_to(photo)
    for target in (photo, tmp_path / "." / "photo.png", tmp_path / "link.png"):
        with pytest.raises(ArdmError, match="overwritten by itself"):
            compress_file(photo, target, FORCE)
    done = compress_file(photo, tmp_path / "x.png")
    with pytest.raises(ArdmError, match="overwritten by itself"):
        decompress_file(done.target, done.target, FORCE)
    assert photo.read_bytes() == before


def test_two_files_never_go_to_one_place(tmp_path):
    how = FileOptions(force=True, taken=set())
    compress_file(write(tmp_path / "a", b"a"), tmp_path / "x.ardm", how)
    with pytest.raises(ArdmError, match="was just written from another file"):
        compress_file(write(tmp_path / "b", b"b"), tmp_path / "x.ardm", how)
    decompress_file(tmp_path / "x.ardm", tmp_path / "y", how)
    assert (tmp_path / "y").read_bytes() == b"a"
    with pytest.raises(ArdmError, match="was just written"):
        decompress_file(tmp_path / "x.ardm", tmp_path / "y", how)


@pytest.mark.parametrize("fault", ["other pixels", "damage"])
def test_what_does_not_decode_is_never_given_a_name(photo, tmp_path, monkeypatch, small, fault):
    real = encode.compress

    def wrong(content, *rest):
        if fault == "other pixels":
            return real(Content(content.kind, content.samples ^ 1, content.origin, content.about), rest[0])
        data, report = real(content, *rest)
        return data[:-7] + data[-6:], report

    monkeypatch.setattr(encode, "compress", wrong)
    with pytest.raises(ArdmError, match=r"was not written: it (decodes to different data|does not decode)"):
        compress_file(photo, options=FileOptions(keep=False))
    out = io.BytesIO()
    with pytest.raises(ArdmError, match="nothing more was written"):
        compress_file(photo, out)
    assert out.getvalue() == b""
    assert os.listdir(tmp_path) == ["photo.png"]


def test_what_is_written_is_what_is_compared(tmp_path, monkeypatch):
    """The bytes on the disk are decoded, not those in memory."""
    path = write(tmp_path / "x", TEXT)
    real = os.fsync

    def fsync(handle):
        real(handle)
        if stat.S_ISREG(os.fstat(handle).st_mode):
            os.pwrite(handle, b"?", 30)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ArdmError, match="was not written: it does not decode"):
        compress_file(path, options=FileOptions(keep=False))
    assert os.listdir(tmp_path) == ["x"]
    monkeypatch.undo()
    done = compress_file(path)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ArdmError, match="was not written: the disk returned different data"):
        decompress_file(done.target, tmp_path / "y")
    assert sorted(os.listdir(tmp_path)) == ["x", "x.ardm"]


def test_interruption_leaves_nothing(photo, tmp_path, monkeypatch, small):
    done = compress_file(photo, tmp_path / "x.ardm")

    def interrupt(*_):
        assert litter(tmp_path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decode, "frames", interrupt)
        with pytest.raises(KeyboardInterrupt):
            compress_file(photo, options=FileOptions(keep=False))
    monkeypatch.setattr(restoring, "rendered", interrupt)
    with pytest.raises(KeyboardInterrupt):
        decompress_file(done.target, tmp_path / "y.png", FileOptions(keep=False))
    assert sorted(os.listdir(tmp_path)) == ["photo.png", "x.ardm"]


def test_the_source_goes_only_when_asked_and_verified(photo, tmp_path, small):
    done = compress_file(photo, options=FileOptions(keep=False))
    assert done.removed
    assert os.listdir(tmp_path) == ["photo.png.ardm"]
    assert decompress_file(done.target, options=FileOptions(keep=False)).removed
    assert os.listdir(tmp_path) == ["photo.png"]
    with pytest.raises(ArdmError, match="only a verified source can be deleted"):
        FileOptions(keep=False, verify=False)


def test_the_source_stays_where_something_would_not_come_back(photo, tmp_path, monkeypatch, small):
    real = formats.read

    def read(*rest):
        found = real(*rest)
        return formats.Read(found.content, found.notes, ("gamma",))

    monkeypatch.setattr(formats, "read", read)
    for force in (False, True):
        done = compress_file(photo, options=FileOptions(keep=False, force=force))
        assert not done.removed
        assert photo.exists()
        assert done.notes[-2:] == (
            "restoring will not bring back its gamma",
            "it was not deleted: restoring will not bring back its gamma",
        )
    done = decompress_file(done.target, options=FileOptions(keep=False, format="ppm"))
    assert (done.removed, done.notes[-1]) == (
        False,
        "it was not deleted: the format ppm may not hold all of it",
    )
    kept = compress_file(photo, tmp_path / "kept", options=FileOptions(keep=False, exact=True))
    assert kept.removed, "every byte is kept"


def test_stripping_does_not_keep_the_file_instead(tmp_path):
    """Not even where the file is shorter than its samples."""
    path = picture(tmp_path / "x.png", (64, 64, 3))
    Image.new("RGB", (64, 64)).save(path, optimize=True)
    done = compress_file(path, options=FileOptions(strip=True))
    assert done.report.kind == Kind.IMAGE


def test_the_source_stays_where_it_has_changed_or_is_a_link(photo, tmp_path, monkeypatch):
    link = tmp_path / "link.png"
    link.symlink_to(photo)
    with pytest.raises(ArdmError, match="is a link; only ordinary files are deleted"):
        compress_file(link, options=FileOptions(keep=False))
    assert sorted(os.listdir(tmp_path)) == ["link.png", "photo.png"]
    real = decode.frames
    monkeypatch.setattr(decode, "frames", lambda *rest: (photo.write_bytes(b"new"), real(*rest))[1])
    with pytest.raises(ArdmError, match="changed in the meantime, and is kept"):
        compress_file(photo, options=FileOptions(keep=False))
    assert photo.read_bytes() == b"new"
    assert (tmp_path / "photo.png.ardm").exists()


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["fsync", "link"])
def test_a_disk_that_is_full(photo, tmp_path, monkeypatch, where, small):
    done = compress_file(photo, tmp_path / "x.ardm")

    def fail(*_):
        raise FULL

    monkeypatch.setattr(os, where, fail)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ArdmError, match=r"cannot write .*photo.png.ardm: no space left on device"):
        compress_file(photo, options=FileOptions(keep=False))
    with pytest.raises(ArdmError, match=r"cannot write .*y.png: no space left on device"):
        decompress_file(done.target, tmp_path / "y.png")
    assert sorted(os.listdir(tmp_path)) == ["photo.png", "x.ardm"]


def test_a_disk_that_is_really_full(tmp_path):
    """A file system of 64 KiB, where we may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("no file system can be made here")
    try:
        source = write(tmp_path / "x", os.urandom(10**5))
        with pytest.raises(ArdmError, match=r"cannot write .*x.ardm: no space left on device"):
            compress_file(source, disk, FileOptions(keep=False))
        packed = compress_file(source).target
        with pytest.raises(ArdmError, match=r"cannot write .*x: no space left on device"):
            decompress_file(packed, disk)
        assert os.listdir(disk) == []
        assert source.exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_or_file_that_may_not_be_used(photo, monkeypatch):
    """Mocked: the superuser may do anything."""
    real, real_open = os.open, Path.open

    def refuse(path, flags, *rest, **more):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *rest, **more)

    def refuse_open(self, *rest, **more):
        if self == photo:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_open(self, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(ArdmError, match=r"cannot write .*photo.png.ardm: permission denied"):
            compress_file(photo)
    monkeypatch.setattr(Path, "open", refuse_open)
    for action in (compress_file, decompress_file):
        with pytest.raises(ArdmError, match=r"cannot read .*photo.png: permission denied"):
            action(photo)


def test_a_model_that_is_gone(photo, tmp_path, monkeypatch, small):
    """What it coded is safe, and decodes with an equal model from elsewhere."""
    photo = picture(photo, (40, 40, 3))
    done = compress_file(photo)
    assert done.report.methods == {"coded": 1}
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "models", lambda self, name, calls: models()(name, calls))
        with pytest.raises(ModelMissing):
            decompress_file(done.target, tmp_path / "y.png")
    assert not (tmp_path / "y.png").exists()
    decompress_file(done.target, tmp_path / "y.png")
    assert np.array_equal(pixels(tmp_path / "y.png"), pixels(photo))


# --- archives ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path):
    """A folder with pictures, text and an empty file."""
    folder = tmp_path / "album"
    for k in range(3):
        (folder / "in").mkdir(parents=True, exist_ok=True)
        picture(folder / "in" / f"{k}.png", (20, 20, 3), seed=k)
    write(folder / "notes.txt", TEXT)
    write(folder / "empty", b"")
    return folder


def content_of(folder):
    """What files show: bytes, or pixels."""
    return {
        str(p.relative_to(folder)): pixels(p).tobytes() if p.suffix in (".png", ".ppm") else p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.mark.parametrize("model", [True, False])
def test_a_folder_there_and_back(album, tmp_path, model, request):
    if model:
        request.getfixturevalue("small")
    before = content_of(album)
    done = make_archive(list(walk([album])), tmp_path / "a.ardm", FileOptions())
    assert (done.what, done.target_bytes) == ("5 items", (tmp_path / "a.ardm").stat().st_size)
    assert done.source_bytes == sum(p.stat().st_size for p in album.rglob("*") if p.is_file())
    assert bool(done.report.methods.get("coded")) == model
    assert describe((tmp_path / "a.ardm").read_bytes())[0].names == (
        "album/empty", "album/notes.txt", "album/in/0.png", "album/in/1.png", "album/in/2.png",
    )  # fmt: skip
    back = restore_archive(tmp_path / "a.ardm")
    assert (back.target, back.what) == (tmp_path / "a", "5 items")
    assert content_of(tmp_path / "a" / "album") == before
    with pytest.raises(ArdmError, match="is a folder"):
        restore_archive(tmp_path / "a.ardm", options=FORCE)
    assert check_archive(tmp_path / "a.ardm", FileOptions()).what == "5 items"
    (tmp_path / "out").mkdir()
    assert restore_archive(tmp_path / "a.ardm", tmp_path / "out").target == tmp_path / "out" / "a"
    assert restore_archive(tmp_path / "a.ardm", tmp_path / "new").target == tmp_path / "new"
    restore_archive(tmp_path / "a.ardm", tmp_path / "ppm", FileOptions(format="ppm"))
    assert content_of(tmp_path / "ppm" / "album") == {k.replace("png", "ppm"): v for k, v in before.items()}
    assert not litter(tmp_path)


def test_an_array_becomes_items_and_an_array_again(tmp_path):
    x = np.random.default_rng(0).integers(0, 9, (7, 4, 4, 3)).astype(np.uint8)
    np.save(tmp_path / "x.npy", x)
    before = (tmp_path / "x.npy").read_bytes()
    done = make_archive(list(walk([tmp_path / "x.npy"])), tmp_path / "x.npy.ardm", FileOptions())
    assert done.what == "7 items"
    (tmp_path / "x.npy").unlink()
    assert restore_archive(tmp_path / "x.npy.ardm").target == tmp_path / "x.npy"
    assert (tmp_path / "x.npy").read_bytes() == before
    (one,) = extract(tmp_path / "x.npy.ardm", ["3"], tmp_path / "y.npy")
    assert np.array_equal(np.load(one.target).reshape(-1), x[3].reshape(-1))


def test_an_item_costs_its_own_bytes(tmp_path, monkeypatch):
    for k in range(20):
        write(tmp_path / "in" / f"{k:02}", np.random.default_rng(k).bytes(1000))
    make_archive(list(walk([tmp_path / "in"])), tmp_path / "a.ardm", FileOptions())
    data = (tmp_path / "a.ardm").read_bytes()
    file = Counting(data)

    class Opened:
        def __enter__(self):
            return file, None

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(extracting, "opened", lambda *_: Opened())
    extract(tmp_path / "a.ardm", ["in/07"], tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == (tmp_path / "in" / "07").read_bytes()
    archive = open_archive(data)
    start, each = archive.header_bytes, (len(data) - archive.header_bytes) // 20
    assert {at for at in file.seen if at >= start} == set(range(start + 7 * each, start + 8 * each))


def test_items_by_name_and_number(album, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_archive(list(walk([Path("album")])), Path("a.ardm"), FileOptions())
    done = extract(Path("a.ardm"), ["album/in/1.png", "1"])
    assert [one.target for one in done] == [Path("1.png"), Path("notes.txt")]
    assert np.array_equal(pixels("1.png"), pixels(album / "in" / "1.png"))
    assert Path("notes.txt").read_bytes() == TEXT
    out = io.BytesIO()
    extract(Path("a.ardm"), ["1", "1"], out)
    assert out.getvalue() == TEXT * 2
    for wanted, said in (("5", "has items 0 to 4; got 5"), ("none", "named 'none'"), ("-1", "named '-1'")):
        with pytest.raises(ArdmError, match=said):
            extract(Path("a.ardm"), [wanted])
    with pytest.raises(ArdmError, match=r"1.png exists"):
        extract(Path("a.ardm"), ["album/in/1.png"])
    compress_file(Path("notes.txt"))
    with pytest.raises(ArdmError, match="is not an archive but a single file"):
        extract(Path("notes.txt.ardm"), ["0"])


def test_an_archive_is_whole_or_not_there(album, tmp_path, monkeypatch):
    packed = tmp_path / "a.ardm"
    make_archive(list(walk([album])), packed, FileOptions())
    data = bytearray(packed.read_bytes())
    data[-10] ^= 1
    bad = write(tmp_path / "bad.ardm", bytes(data))
    with pytest.raises(CodecError):
        restore_archive(bad)
    with pytest.raises(CodecError):
        check_archive(bad, FileOptions())
    write(bad, bytes(data[:-1]))
    with pytest.raises(CodecError, match="truncated"):
        restore_archive(bad)
    write(album / "notes.txt", b"new")
    before = sorted(os.listdir(tmp_path))
    real = packing.parse

    def changing(data, how, name):
        if name == "2.png":
            write(album / "notes.txt", b"newer")
        return real(data, how, name)

    monkeypatch.setattr(packing, "parse", changing)
    with pytest.raises(ArdmError, match=r"notes\.txt changed in the meantime"):
        make_archive(list(walk([album])), tmp_path / "b.ardm", FileOptions())
    monkeypatch.setattr(packing, "parse", real)
    monkeypatch.setattr(
        archive, "write_archive", lambda out, scratch, items, *_: [items[0], write(album / "empty", b"x"), items[0]]
    )
    with pytest.raises(ArdmError, match="empty changed in the meantime"):
        make_archive(list(walk([album])), tmp_path / "c.ardm", FileOptions())
    assert sorted(os.listdir(tmp_path)) == before


def test_what_an_archive_refuses(album, tmp_path):
    target = tmp_path / "a.ardm"
    with pytest.raises(ArdmError, match="an archive needs at least one file, and these folders hold none"):
        make_archive([], target, FileOptions())
    make_archive(list(walk([album])), target, FileOptions())
    with pytest.raises(ArdmError, match=r"a.ardm exists"):
        make_archive(list(walk([album])), target, FileOptions())
    with pytest.raises(ArdmError, match="would be overwritten by itself"):
        make_archive(list(walk([target])), target, FORCE)
    with pytest.raises(ArdmError, match="there is no file"):
        make_archive(list(walk([album, tmp_path / "none"])), tmp_path / "b.ardm", FileOptions())
    inside = album / "all.ardm"
    for how in (FileOptions(), FORCE):
        make_archive(list(walk([album])), inside, how)
        assert describe(inside.read_bytes())[0].items == 5, "not itself"
    with pytest.raises(ArdmError, match="is an archive"):
        decompress_file(target, tmp_path / "y")


def test_limits_hold_for_items_too(album, tmp_path):
    make_archive(list(walk([album])), tmp_path / "a.ardm", FileOptions())
    tight = FileOptions(budget=Budget(pixels=399))
    for action in (lambda: restore_archive(tmp_path / "a.ardm", options=tight), lambda: check_archive(tmp_path / "a.ardm", tight),
                   lambda: extract(tmp_path / "a.ardm", ["2"], tmp_path / "y.png", tight)):  # fmt: skip
        with pytest.raises(ArdmError, match="claims 20x20 pixels, and the limit is 399; --max-pixels 400 allows it"):
            action()
    extract(tmp_path / "a.ardm", ["1"], tmp_path / "y.txt", tight)
    assert (tmp_path / "y.txt").read_bytes() == TEXT


def test_what_places_know_is_what_formats_write():
    assert set(formats.ENDINGS.values()) <= {"png", "webp", "bmp", "tiff", "ppm", "wav", "flac", "npy", "aiff"}
    assert ENDING not in formats.ENDINGS


def test_pictures_are_read_for_models(tmp_path):
    """Whatever shows pixels of 8 bits, a JPEG file too; and the rest is refused in a sentence."""
    photo = picture(tmp_path / "x.png")
    assert np.array_equal(read_image(photo).numpy(), pixels(photo).transpose(2, 0, 1))
    with Image.open(photo) as image:
        image.save(tmp_path / "x.jpg")
        image.quantize(8).save(tmp_path / "p.gif")
        image.convert("L").save(tmp_path / "grey.png")
        image.convert("1").save(tmp_path / "bits.png")
        image.quantize(8).save(tmp_path / "p.png")
        shown = np.array(image.quantize(8).convert("RGB"))
    assert read_image(tmp_path / "x.jpg").shape == (3, 9, 8)
    assert np.array_equal(read_image(tmp_path / "p.gif").numpy(), shown.transpose(2, 0, 1))
    assert np.array_equal(read_image(tmp_path / "p.png").numpy(), shown.transpose(2, 0, 1))
    assert read_image(tmp_path / "grey.png").shape == (1, 9, 8)
    assert np.array_equal(read_image(tmp_path / "bits.png")[0].numpy(), pixels(tmp_path / "bits.png") * 255)
    Image.fromarray(np.full((3, 4), 999, np.uint16)).save(tmp_path / "deep.png")
    for name, said in {
        "deep.png": "16 bits per sample",
        "x.txt": "is not an image",
        "none.png": "there is no file",
    }.items():
        if name == "x.txt":
            write(tmp_path / name, TEXT)
        with pytest.raises(ArdmError, match=said):
            read_image(tmp_path / name)
