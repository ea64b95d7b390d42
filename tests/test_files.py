"""Files: the pixels come back, a file appears whole or not at all, and what was there is never lost."""

import errno
import os
import shutil
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ardm import codec, files
from ardm.codec import compress
from ardm.container import MAGIC, Reader, read_header
from ardm.errors import ArdmError, CodecError
from ardm.files import compress_file, decompress_file, read_image, write_image, write_whole
from bundles import liked, noise, smooth, tiny

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def picture(path, x, **options):
    planes = x.numpy()
    Image.fromarray(planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0).copy()).save(path, **options)
    return path


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, depth=8, colour=2, data=b""):
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def litter(folder):
    return sorted(p.name for p in folder.iterdir() if p.name.startswith(".ardm"))


@pytest.fixture
def photo(tmp_path):
    return picture(tmp_path / "photo.png", smooth(3, 9, 8))


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tiff", "ppm"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pictures_go_and_come_back(tmp_path, suffix, channels):
    """Through every format that holds them; and the others refuse."""
    x = noise(channels, 9, 7)
    path, model = tmp_path / f"x.{suffix}", tiny()
    if (channels, suffix) in [(2, "ppm"), (4, "ppm"), (2, "bmp")]:
        source = tmp_path / "x.ardm"
        source.write_bytes(compress(x, model))
        with pytest.raises(ArdmError, match=r"cannot write|without loss"):
            decompress_file(source, path, model)
        assert not path.exists()
        return
    write_image(x, path, suffix)
    seen = read_image(path)
    if channels in (1, 3):
        assert torch.equal(seen if len(seen) == channels else seen[:1], x)
    done = compress_file(path, model=model)
    assert done.target == tmp_path / f"x.{suffix}.ardm"
    path.unlink()
    back = decompress_file(done.target, model=model)
    assert back.target == path
    assert torch.equal(read_image(path), seen)
    assert read_header(Reader(done.target.read_bytes())).suffix == suffix


def test_palettes_and_bits_become_what_they_show(tmp_path):
    x, path = noise(3, 6, 5), tmp_path / "x.png"
    image = Image.fromarray(x.numpy().transpose(1, 2, 0).copy()).quantize(8)
    image.save(path)
    assert np.array_equal(read_image(path).numpy().transpose(1, 2, 0), np.array(image.convert("RGB")))
    image.save(path, transparency=3)
    seen = read_image(path)
    assert np.array_equal(seen.numpy().transpose(1, 2, 0), np.array(Image.open(path).convert("RGBA")))
    assert seen.shape[0] == 4
    assert 0 in seen[3]
    image.save(path, transparency=bytes(range(8)))
    assert np.array_equal(read_image(path)[3].numpy(), np.array(image))
    bits = x[0].numpy() > 99
    Image.fromarray(bits).save(path)
    assert Image.open(path).mode == "1"
    assert np.array_equal(read_image(path)[0].numpy(), bits * 255)
    image.save(tmp_path / "x.gif")
    assert np.array_equal(read_image(tmp_path / "x.gif").numpy().transpose(1, 2, 0), np.array(image.convert("RGB")))


def test_a_transparent_colour_becomes_alpha(tmp_path):
    x, path = noise(3, 6, 5), tmp_path / "x.png"
    picture(path, x, transparency=tuple(x[:, 0, 0].tolist()))
    seen = read_image(path)
    assert torch.equal(seen[:3], x)
    assert seen[3].eq(0).sum() == 1
    picture(path, x[:1], transparency=int(x[0, 2, 2]))
    seen = read_image(path)
    assert torch.equal(seen[:1], x[:1])
    assert torch.equal(seen[1] == 0, x[0] == x[0, 2, 2])


REFUSED = {
    "16 bits a sample": [
        ("rgb16.png", png(4, 3, 16, 2, (b"\0" + bytes(range(24))) * 3)),
        ("grey16.png", png(4, 3, 16, 0, (b"\0" + bytes(range(8))) * 3)),
        ("rgba16.png", png(4, 3, 16, 6, (b"\0" + bytes(range(32))) * 3)),
        ("wide.ppm", b"P6 2 1 65535\n" + bytes(12)),
        ("text.ppm", b"P3 2 1 65535 1 2 3 4 5 6"),
    ],
    "10 bits a sample": [("wide.pgm", b"P5 2 1 1000\n" + bytes(4))],
    "more than the limit of 67108864": [("large.png", png(10**4, 10**4))],
    "more pixels than the limit": [("bomb.png", png(10**5, 10**5))],
    "cannot read": [("cut.png", png(40, 30, 8, 2, b"\0" * 100)), ("cut.bmp", b"BM" + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, 9, 9, 1, 24, *[0] * 6))],
    "is not a picture": [("empty.png", b""), ("x.txt", b"hello"), ("cut2.png", b"\x89PNG\r\n")],
    "is not a picture.*looks like gzip": [("x.gz", b"\x1f\x8b\x08\0\0")],
    "is not a picture.*looks like JPEG XL|a JPEG XL": [("x.jxl", b"\xff\x0a\0\0")],
    "is compressed already": [("x.ardm", MAGIC + bytes(20))],
}  # fmt: skip


@pytest.mark.parametrize(("said", "name", "data"), [(said, *case) for said, cases in REFUSED.items() for case in cases])
def test_what_cannot_be_taken_is_refused_in_a_sentence(tmp_path, said, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ArdmError, match=said) as error:
        compress_file(path, model=tiny())
    assert "\n" not in str(error.value)
    assert name in str(error.value)
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "tiff"])
def test_files_of_several_pictures_are_refused(tmp_path, kind):
    frames = [Image.fromarray(noise(3, 6, 5, seed=s).numpy().transpose(1, 2, 0).copy()) for s in range(2)]
    frames[0].save(tmp_path / f"x.{kind}", save_all=True, append_images=frames[1:])
    with pytest.raises(ArdmError, match="holds 2 pictures"):
        read_image(tmp_path / f"x.{kind}")


@pytest.mark.parametrize(
    ("mode", "kind", "said"),
    [("CMYK", "tiff", "CMYK"), ("F", "tiff", "32 bits"), ("I;16", "tiff", "16 bits"), ("LAB", "tiff", "LAB")],
)
def test_other_kinds_of_pixels_are_refused(tmp_path, mode, kind, said):
    Image.new(mode, (4, 3)).save(tmp_path / f"x.{kind}")
    with pytest.raises(ArdmError, match=said):
        read_image(tmp_path / f"x.{kind}")


def test_deep_tiffs_are_refused(tmp_path):
    """Pillow would read these 16 bits as 8."""
    tags = [
        (256, 3, 1, 1),
        (257, 3, 1, 1),
        (258, 3, 3, 134),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 140),
        (277, 3, 1, 3),
        (278, 3, 1, 1),
        (279, 4, 1, 6),
        (284, 3, 1, 1),
    ]
    body = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags))
    for tag, kind, count, value in tags:
        body += struct.pack("<HHI", tag, kind, count) + (
            struct.pack("<HH", value, 0) if kind == 3 and count == 1 else struct.pack("<I", value)
        )
    body += struct.pack("<I", 0)
    assert len(body) == 134
    (tmp_path / "x.tiff").write_bytes(body + struct.pack("<HHH", 16, 16, 16) + bytes(range(6)))
    assert Image.open(tmp_path / "x.tiff").mode == "RGB"
    with pytest.raises(ArdmError, match="16 bits a sample"):
        read_image(tmp_path / "x.tiff")


def test_jpegs_are_read_but_not_compressed(tmp_path):
    path = picture(tmp_path / "x.jpg", smooth(3, 9, 8))
    assert read_image(path).shape == (3, 9, 8)
    with pytest.raises(ArdmError, match="is a JPEG: its pixels would take more room"):
        compress_file(path, model=tiny())


# --- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_file_appears_whole(tmp_path):
    path, seen = tmp_path / "x.txt", []

    def write(new):
        assert new.suffix == ".txt"
        assert not path.exists()
        new.write_text("a")

    write_whole(path, write, check=lambda new: seen.append(new.read_text()))
    assert path.read_text() == "a"
    assert seen == ["a"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask()
    assert os.listdir(tmp_path) == ["x.txt"]


FULL = OSError(errno.ENOSPC, "No space left on device")


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), RuntimeError("bug"), FULL, MemoryError()], ids=repr
)
@pytest.mark.parametrize("where", ["write", "fsync", "check", "link"])
def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch, error, where):
    def fail(*_):
        raise error

    write = fail if where == "write" else lambda new: new.write_text("half")
    if where in ("fsync", "link"):
        monkeypatch.setattr(os, where, fail)
        monkeypatch.setattr(Path, "replace", fail)
    old = tmp_path / "x"
    old.write_text("old")
    for force, path in ((False, tmp_path / "y"), (True, old)):
        with pytest.raises(ArdmError if isinstance(error, OSError) else type(error)) as caught:
            write_whole(path, write, force, check=fail if where == "check" else None)
        if isinstance(error, OSError):
            assert str(caught.value) == f"cannot write {path}: no space left on device"
    assert os.listdir(tmp_path) == ["x"]
    assert old.read_text() == "old"


def test_nothing_is_overwritten_unless_forced(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(ArdmError, match="exists; give another name with -o, or overwrite it with -f"):
        write_whole(path, lambda new: new.write_text("new"))
    assert path.read_text() == "old"
    write_whole(path, lambda new: new.write_text("new"), force=True)
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch, links):
    path = tmp_path / "x"
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no links here")))
    with pytest.raises(ArdmError, match="exists"):
        write_whole(path, lambda new: new.write_text("new"), check=lambda new: path.write_text("other"))
    assert path.read_text() == "other"
    assert os.listdir(tmp_path) == ["x"]
    if links:  # then the system itself refuses, at the last moment too
        monkeypatch.setattr(Path, "replace", None)
    write_whole(tmp_path / "y", lambda new: new.write_text("new"))
    assert (tmp_path / "y").read_text() == "new"


def test_only_ordinary_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    for name, said in {"pipe": "not an ordinary file", "folder": "is a folder", "none/x": "there is no folder"}.items():
        with pytest.raises(ArdmError, match=said):
            write_whole(tmp_path / name, lambda new: new.write_text("new"), force=True)
    with pytest.raises(ArdmError, match="exists"):
        write_whole(tmp_path / "dangling", lambda new: new.write_text("new"))
    with pytest.raises(ArdmError, match="/dev/null is not an ordinary file"):
        write_whole("/dev/null", lambda new: new.write_text("new"), force=True)
    assert not (tmp_path / "gone").exists()
    assert len(os.listdir(tmp_path)) == 3


def test_long_names_are_no_trouble(tmp_path):
    path = tmp_path / ("x" * 200 + "." + "y" * 54)
    write_whole(path, lambda new: new.write_text("new"))
    assert path.read_text() == "new"


def test_a_folder_that_may_not_be_written(photo, monkeypatch):
    """Mocked: the superuser may write anywhere."""
    real = os.open

    def refuse(path, flags, *rest, **more):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ArdmError, match=r"cannot write .*photo.png.ardm: permission denied"):
        compress_file(photo, model=tiny())


def test_a_file_that_may_not_be_read(photo, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(ArdmError, match=r"cannot read .*photo.png: permission denied"):
        compress_file(photo, model=tiny())
    photo.with_suffix(".ardm").write_bytes(compress(smooth(3, 2, 2), tiny()))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ArdmError, match=r"cannot read .*photo.ardm: permission denied"):
        decompress_file(photo.with_suffix(".ardm"), model=tiny())


SCRIPT = """
import resource, sys
sys.path.insert(0, {tests!r})
from bundles import tiny, noise
from ardm.files import compress_file
from ardm.errors import ArdmError
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
try:
    compress_file({photo!r}, model=tiny())
except ArdmError as error:
    print(error)
"""


def test_a_disk_that_is_full(tmp_path):
    """A real limit on the size of files, in a process of its own."""
    photo = picture(tmp_path / "photo.bmp", noise(3, 20, 20))
    text = SCRIPT.format(tests=str(Path(__file__).parent), photo=str(photo))
    run = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout.strip() == f"cannot write {photo}.ardm: file too large", run.stderr
    assert os.listdir(tmp_path) == ["photo.bmp"]


# --- compressing files ------------------------------------------------------------------------------------------------


def test_a_photo_there_and_back(photo, tmp_path):
    photo.chmod(0o640)
    os.utime(photo, (1e9, 1e9))
    before = read_image(photo)
    done = compress_file(photo, model=tiny())
    assert (done.source, done.target, done.shape) == (photo, tmp_path / "photo.png.ardm", (3, 9, 8))
    assert done.source_bytes == photo.stat().st_size
    assert done.target_bytes == done.report.file_bytes == done.target.stat().st_size
    assert not done.removed
    for path in (photo, done.target):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert path.stat().st_mtime == 1e9
    photo.unlink()
    back = decompress_file(done.target, model=tiny())
    assert back.target == photo
    assert back.report is None
    assert torch.equal(read_image(photo), before)
    assert sorted(os.listdir(tmp_path)) == ["photo.png", "photo.png.ardm"]


@pytest.mark.parametrize(("compressed", "restored"), [
    ("a.png.ardm", "a.png"), ("a.bmp.ardm", "a.bmp"), ("a.TIF.ardm", "a.TIF"), ("a.ardm", "a.webp"), ("a.gif.ardm", "a.gif.webp"),
    ("a.jpg.ardm", "a.jpg.webp"), ("a.b.ardm", "a.b.webp"), ("a", "a.webp"), ("a.png", "a.png.webp"), (".ardm", "image.webp"),
])  # fmt: skip
def test_restored_names(tmp_path, compressed, restored):
    picture(tmp_path / "x.webp", smooth(3, 4, 4), lossless=True)
    done = compress_file(tmp_path / "x.webp", tmp_path / compressed, tiny())
    assert decompress_file(done.target, model=tiny()).target == tmp_path / restored
    with Image.open(tmp_path / restored) as image:
        assert image.format == {"png": "PNG", "bmp": "BMP", "TIF": "TIFF", "webp": "WEBP"}[restored.split(".")[-1]]


def test_targets_are_files_or_folders(photo, tmp_path):
    (tmp_path / "out").mkdir()
    assert compress_file(photo, tmp_path / "out", tiny()).target == tmp_path / "out" / "photo.png.ardm"
    assert compress_file(photo, tmp_path / "other", tiny()).target == tmp_path / "other"
    assert decompress_file(tmp_path / "other", tmp_path / "out", tiny()).target == tmp_path / "out" / "other.png"
    assert decompress_file(tmp_path / "other", tmp_path / "z.bmp", tiny()).target == tmp_path / "z.bmp"
    assert decompress_file(tmp_path / "other", tmp_path / "bare", tiny()).target == tmp_path / "bare"
    assert Image.open(tmp_path / "bare").format == "PNG"
    for name in ("z.jpg", "z.gif", "z.txt"):
        with pytest.raises(ArdmError, match=r"a restored picture ends in .bmp, .pgm, .png"):
            decompress_file(tmp_path / "other", tmp_path / name, tiny())


def test_existing_targets_are_refused_before_any_work(photo, tmp_path, monkeypatch):
    done = compress_file(photo, model=tiny())
    before = done.target.read_bytes()
    monkeypatch.setattr(files, "pack", None)
    monkeypatch.setattr(files, "unpack", None)
    with pytest.raises(ArdmError, match=r"photo.png.ardm exists"):
        compress_file(photo, model=tiny())
    with pytest.raises(ArdmError, match=r"photo.png exists"):
        decompress_file(done.target, model=tiny())
    monkeypatch.undo()
    assert done.target.read_bytes() == before
    compress_file(photo, model=tiny(scale=1.2), force=True)
    decompress_file(done.target, model=tiny(scale=1.2), force=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [("nothing", "there is no file"), ("folder", "is a folder; name the files"), ("pipe", "not an ordinary file")],
)
def test_sources_that_are_no_files(tmp_path, name, said):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for action in (compress_file, decompress_file):
        with pytest.raises(ArdmError, match=said):
            action(tmp_path / name, tmp_path / "out.png", tiny())


def test_a_file_never_overwrites_itself(photo, tmp_path):
    before = photo.read_bytes()
    (tmp_path / "link.png").symlink_to(photo)
    for target in (photo, tmp_path / "." / "photo.png", tmp_path / "link.png"):
        with pytest.raises(ArdmError, match="overwritten by itself"):
            compress_file(photo, target, tiny(), force=True)
    done = compress_file(photo, tmp_path / "x.png", tiny())
    with pytest.raises(ArdmError, match="overwritten by itself"):
        decompress_file(done.target, done.target, tiny(), force=True)
    assert photo.read_bytes() == before


@pytest.mark.parametrize("fault", ["other pixels", "no file"])
def test_what_does_not_decode_is_never_given_a_name(photo, tmp_path, monkeypatch, fault):
    def wrong(x, *rest):
        data, report = codec.pack(x if fault == "no file" else x ^ 1, *rest)
        return (data[:-7] + data[-6:] if fault == "no file" else data), report

    monkeypatch.setattr(files, "pack", wrong)
    with pytest.raises(ArdmError, match=r"was not written: it (decodes to another picture|does not decode)"):
        compress_file(photo, model=tiny(), keep=False)
    assert os.listdir(tmp_path) == ["photo.png"]


def test_what_is_written_is_what_is_compared(photo, tmp_path, monkeypatch):
    """The bytes on the disk are decoded, not those in memory."""
    monkeypatch.setattr(files, "_write_bytes", lambda path, data: path.write_bytes(data[:-1]))
    with pytest.raises(ArdmError, match="was not written: it does not decode"):
        compress_file(photo, model=tiny(), keep=False)
    assert os.listdir(tmp_path) == ["photo.png"]


def test_a_restored_picture_is_read_again(photo, tmp_path, monkeypatch):
    done = compress_file(photo, model=tiny())
    real = files.write_image
    monkeypatch.setattr(files, "write_image", lambda x, *rest: real(x ^ 1, *rest))
    with pytest.raises(ArdmError, match="png does not hold this picture without loss"):
        decompress_file(done.target, tmp_path / "out.png", tiny())
    assert sorted(os.listdir(tmp_path)) == ["photo.png", "photo.png.ardm"]


def test_interruption_leaves_nothing(photo, tmp_path, monkeypatch):
    done = compress_file(photo, tmp_path / "x.ardm", tiny())

    def interrupt(*_):
        assert litter(tmp_path)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "unpack", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compress_file(photo, model=tiny(), keep=False)
    monkeypatch.undo()
    monkeypatch.setattr(files, "read_image", interrupt)
    with pytest.raises(KeyboardInterrupt):
        decompress_file(done.target, tmp_path / "y.png", tiny(), keep=False)
    assert sorted(os.listdir(tmp_path)) == ["photo.png", "x.ardm"]


def test_the_source_goes_only_when_asked_and_verified(photo, tmp_path):
    done = compress_file(photo, model=tiny(), keep=False)
    assert done.removed
    assert os.listdir(tmp_path) == ["photo.png.ardm"]
    assert decompress_file(done.target, model=tiny(), keep=False).removed
    assert os.listdir(tmp_path) == ["photo.png"]


def test_the_source_stays_where_it_carries_more_than_pixels(tmp_path):
    photo = picture(tmp_path / "photo.png", smooth(3, 5, 5), icc_profile=b"profile", exif=Image.Exif().tobytes())
    done = compress_file(photo, model=tiny(), keep=False)
    assert done.lost == ("colour profile", "EXIF")
    assert done.spared
    assert not done.removed
    assert photo.exists()
    done = compress_file(photo, model=tiny(), keep=False, force=True)
    assert done.removed
    assert not photo.exists()


def test_the_source_stays_where_it_has_changed_or_is_a_link(photo, tmp_path, monkeypatch):
    real = files.unpack
    link = tmp_path / "link.png"
    link.symlink_to(photo)
    with pytest.raises(ArdmError, match="is a link; only ordinary files are deleted"):
        compress_file(link, model=tiny(), keep=False)
    monkeypatch.setattr(files, "unpack", lambda *rest: (photo.write_bytes(b"new"), real(*rest))[1])
    with pytest.raises(ArdmError, match="was changed meanwhile, and is kept"):
        compress_file(photo, model=tiny(), keep=False)
    assert photo.read_bytes() == b"new"
    assert (tmp_path / "photo.png.ardm").exists()
    picture(photo, smooth(3, 9, 8))
    read = files.read_picture
    monkeypatch.setattr(files, "unpack", real)
    monkeypatch.setattr(files, "read_picture", lambda *rest: (read(*rest), photo.write_bytes(b"newer"))[0])
    with pytest.raises(ArdmError, match="was changed meanwhile"):
        compress_file(photo, tmp_path / "other", model=tiny(), keep=False)
    assert photo.read_bytes() == b"newer"


def test_limits_on_pixels(photo, tmp_path):
    with pytest.raises(ArdmError, match="8x9 pixels, more than the limit of 71"):
        compress_file(photo, model=tiny(), max_pixels=71)
    done = compress_file(photo, model=tiny(), max_pixels=72)
    with pytest.raises(CodecError, match="8x9 pixels of 3 channels, more than the limit of 71"):
        decompress_file(done.target, tmp_path / "y.png", tiny(), max_pixels=71)


def test_damaged_files_restore_nothing(photo, tmp_path):
    data = compress_file(photo, model=tiny()).target.read_bytes()
    bad = tmp_path / "bad.ardm"
    for broken in (
        b"",
        data[:3],
        data[:10],
        data[:-1],
        data + b"\1",
        data + bytes(10**5),
        data[:40] + bytes([data[40] ^ 1]) + data[41:],
        b"P6 1 1 255\n123",
    ):
        bad.write_bytes(broken)
        with pytest.raises(CodecError) as error:
            decompress_file(bad, tmp_path / "y.png", tiny(), keep=False)
        assert "\n" not in str(error.value)
    assert sorted(os.listdir(tmp_path)) == ["bad.ardm", "photo.png", "photo.png.ardm"]


def test_a_long_file_with_a_short_claim_is_not_read(tmp_path):
    """A sparse terabyte behind a header."""
    path = tmp_path / "x.ardm"
    path.write_bytes(compress(smooth(3, 2, 2), tiny()))
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(CodecError, match="longer than the picture that it claims to hold"):
        decompress_file(path, model=tiny())


def test_images_of_other_channels_restore_to_no_picture(tmp_path):
    path = tmp_path / "x.ardm"
    path.write_bytes(compress(noise(5, 3, 3), tiny()))
    with pytest.raises(ArdmError, match="no picture holds 5 channels"):
        decompress_file(path, model=tiny())
    wide = tiny(classes=1000)
    path.write_bytes(compress(noise(3, 3, 3, classes=1000), wide))
    with pytest.raises(ArdmError, match=r"of torch\.int64"):
        decompress_file(path, model=wide)
    assert os.listdir(tmp_path) == ["x.ardm"]


def test_a_model_that_is_gone(tmp_path):
    """What it coded is safe, and decodes with an equal model from elsewhere."""
    kind = (("head", "values"), ("scale", 2.0))
    made, x = tiny(**dict(kind)), liked(kind, 20, 20)
    folder = made.save(tmp_path / "model")
    done = compress_file(picture(tmp_path / "x.png", x), model=folder)
    assert not done.report.stored
    shutil.rmtree(folder)
    with pytest.raises(ArdmError, match="there is no model"):
        decompress_file(done.target, tmp_path / "y.png", model=folder)
    with pytest.raises(CodecError, match=f"made by model {made.identity[:8]}, which is not here"):
        decompress_file(done.target, tmp_path / "y.png")
    with pytest.raises(CodecError, match="not by tiny local"):
        decompress_file(done.target, tmp_path / "y.png", tiny())
    assert not (tmp_path / "y.png").exists()
    assert torch.equal(read_image(decompress_file(done.target, tmp_path / "y.png", made).target), x)
