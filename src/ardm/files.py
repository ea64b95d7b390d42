"""Image files to compressed files and back: whole or not at all, and verified before they are reported as written.

A file is written beside its destination under another name, synchronised, *decoded again and compared*, and only then
given its name.  Whatever happens before that, an interruption included, leaves nothing behind.

Read me first: lossless means the pixels.  What else a picture carries (colour profile, EXIF, text) is not kept, and is
reported.  Pillow reads pictures of 16 bits a sample as if they had 8: they are refused here.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ardm.bundle import Bundle
from ardm.codec import DEFAULT_MODEL, Report, pack, unpack
from ardm.container import MAGIC, MAX_PIXELS, Header, Reader, foreign, read_header
from ardm.errors import ArdmError, CodecError

ENDING = ".ardm"
READ = {"PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tiff", "PPM": "ppm", "GIF": "png", "JPEG": "png"}
"""Formats that are read, as Pillow calls them, and those that their pictures go back to."""
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True, "exact": True}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "ppm": ("PPM", {}),
}
"""Formats that are written, and how to have them lossless."""
EXTENSIONS = {f".{suffix}": suffix for suffix in WRITTEN} | {".tif": "tiff", ".pgm": "ppm", ".pnm": "ppm"}
CARRIED = {"icc_profile": "colour profile", "exif": "EXIF", "xmp": "XMP", "XML:com.adobe.xmp": "XMP"}
"""What a picture may carry beside its pixels, as Pillow calls it."""


@dataclass(frozen=True)
class Picture:
    """The pixels x (C, H, W) uint8 of a file, C = 1, 2, 3 or 4; the format to go back to; what else it carried."""

    x: Tensor
    suffix: str
    format: str
    lost: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """A file that was written: from where, to where, sizes in bytes, seconds in all.

    report: of compressing.  lost: what the picture carried beside its pixels.  removed: whether the source is gone.
    spared: whether it was to be, and is not, for what it carries.
    """

    source: Path
    target: Path
    shape: tuple[int, ...]
    source_bytes: int
    target_bytes: int
    seconds: float
    report: Report | None = None
    lost: tuple[str, ...] = ()
    removed: bool = False
    spared: bool = False


# --- pictures ---------------------------------------------------------------------------------------------------------


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The pixels of an image file: (C, H, W) uint8, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

    Raises ArdmError for what is no picture, is animated, has more than 8 bits a sample, or more than max_pixels.
    """
    return read_picture(Path(path), max_pixels).x


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """An image file with what is known about it; the errors of `read_image`."""
    _refuse_source(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures: the limit is ours
            with Image.open(path, formats=list(READ)) as image:
                _refuse_picture(path, image, max_pixels)
                mode = _mode(path, image)
                array = np.array(image if image.mode == mode else image.convert(mode))
                lost = tuple(dict.fromkeys(name for key, name in CARRIED.items() if image.info.get(key)))
                format = image.format or ""
    except Image.DecompressionBombError:
        raise ArdmError(f"{path} has more pixels than the limit of {max_pixels}") from None
    except (ArdmError, MemoryError):
        raise
    except UnidentifiedImageError:
        with path.open("rb") as file:
            raise ArdmError(_unreadable(path, file.read(16))) from None
    except Exception as error:  # Pillow raises all kinds of errors on a damaged file
        raise ArdmError(f"cannot read {path}: {_reason(error)}") from None
    planes = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return Picture(torch.from_numpy(np.ascontiguousarray(planes)), READ[format], format, lost)


def _refuse_picture(path: Path, image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ArdmError(f"{path} has {width}x{height} pixels, more than the limit of {max_pixels}")
    if getattr(image, "n_frames", 1) > 1:
        raise ArdmError(f"{path} holds {image.n_frames} pictures; only files of one are taken")  # type: ignore[attr-defined]
    if _depth(path, image) > 8:
        raise ArdmError(f"{path} has {_depth(path, image)} bits a sample; only 8 are supported")


def _depth(path: Path, image: Image.Image) -> int:
    """Bits a sample of the file; Pillow would drop those beyond 8 without a word."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]
    if image.format == "PPM":
        arguments = [tile[3] for tile in image.tile]  # type: ignore[attr-defined]
        return max([8, *(int(a[1]).bit_length() for a in arguments if isinstance(a, tuple) and len(a) > 1)])
    return 8


def _mode(path: Path, image: Image.Image) -> str:
    """L, LA, RGB or RGBA: whichever holds the same pixels."""
    clear = "transparency" in image.info
    if image.mode == "P":
        clear = clear or (image.palette is not None and image.palette.mode == "RGBA")
    same = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}
    if image.mode not in same:
        raise ArdmError(f"{path} has pixels of kind {image.mode}; grey, RGB and palettes of 8 bits are supported")
    mode = same[image.mode]
    return {"L": "LA", "RGB": "RGBA"}.get(mode, mode) if clear else mode


def _unreadable(path: Path, start: bytes) -> str:
    if start[:4] == MAGIC:
        return f"{path} is compressed already"
    guess = foreign(start).partition("it looks like ")[2]
    what = f"{path} is not a picture in PNG, WebP, BMP, TIFF, PPM or GIF"
    return f"{what}; it looks like {guess}" if guess else what


def write_image(x: Tensor, path: Path, suffix: str) -> None:
    """Pixels x (C, H, W) uint8 as a file in a format of `WRITTEN`, whatever the name of the path."""
    if x.dtype != torch.uint8 or not 1 <= x.shape[0] <= 4:
        raise ArdmError(f"no picture holds {x.shape[0]} channels of {x.dtype}; use ardm.decompress for other data")
    planes = x.numpy()
    format, options = WRITTEN[suffix]
    Image.fromarray(planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0).copy()).save(path, format, **options)


def _seen(x: Tensor) -> Tensor:
    """What is seen of x (C, H, W): (4, H, W) red, green, blue and alpha, whatever a format made of grey."""
    colour = x[:1].expand(3, -1, -1) if len(x) < 3 else x[:3]
    return torch.cat([colour, x[-1:] if len(x) in (2, 4) else torch.full_like(x[:1], 255)])


# --- whole or not at all ----------------------------------------------------------------------------------------------


def write_whole(
    path: str | Path,
    write: Callable[[Path], None],
    force: bool = False,
    check: Callable[[Path], None] | None = None,
    like: Path | None = None,
) -> None:
    """A file that appears whole or not at all: `write` is given another name, `check` may still refuse what it wrote.

    force: replace what is there.  like: a file whose permissions and times are taken over.
    Raises ArdmError where there is a file already, or it cannot be written.
    """
    path = Path(path)
    ending = path.suffix if len(path.suffix) < 16 else ""
    new = path.with_name(f".ardm-{os.getpid()}-{secrets.token_hex(4)}{ending}")
    try:
        with _reasons(f"cannot write {path}"):
            _refuse_target(path, force)
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            write(new)
            _synchronise(new, os.O_RDWR)
            if check is not None:
                check(new)
            if like is not None:
                _take_over(like, new)
            _place(new, path, force)
    finally:
        with suppress(OSError):
            new.unlink()


def _place(new: Path, path: Path, force: bool) -> None:
    """Give a file its name; without force, a file that has appeared meanwhile is not replaced."""
    try:
        if force:
            raise OSError
        os.link(new, path)
    except FileExistsError:
        _refuse_target(path, force)
    except OSError:  # forced, or there are no hard links here
        _refuse_target(path, force)
        new.replace(path)
    with suppress(OSError):  # the name, too, should survive a power cut; not every system can promise it
        _synchronise(path.parent, os.O_RDONLY)


def _synchronise(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_over(like: Path, new: Path) -> None:
    with suppress(OSError):
        about = like.stat()
        new.chmod(stat.S_IMODE(about.st_mode) & 0o777)
        os.utime(new, ns=(about.st_atime_ns, about.st_mtime_ns))


def _refuse_target(path: Path, force: bool) -> None:
    if not path.parent.is_dir():
        raise ArdmError(f"there is no folder {path.parent}")
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise ArdmError(f"{path} is a folder")
    if path.exists() and not path.is_file():
        raise ArdmError(f"{path} is not an ordinary file, and is left alone")
    if not force:
        raise ArdmError(f"{path} exists; give another name with -o, or overwrite it with -f")


def _refuse_source(path: Path) -> None:
    with _reasons(f"cannot read {path}"):
        if path.is_dir():
            raise ArdmError(f"{path} is a folder; name the files in it")
        if not path.exists():
            raise ArdmError(f"there is no file {path}")
        if not path.is_file():
            raise ArdmError(f"{path} is not an ordinary file")


@contextmanager
def _reasons(what: str) -> Iterator[None]:
    """What the system refuses, in one sentence."""
    try:
        yield
    except OSError as error:
        raise ArdmError(f"{what}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[0].lower() + text[1:]


# --- compressed files -------------------------------------------------------------------------------------------------


def compress_file(
    source: str | Path,
    target: str | Path | None = None,
    model: Bundle | str | Path = DEFAULT_MODEL,
    calls: int | None = None,
    force: bool = False,
    keep: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> Done:
    """Compress an image file, decode what was written, compare the pixels, and only then give it its name.

    target: a file or a folder; by default the source's name with .ardm after it.  keep: False deletes the source
    afterwards, unless it carries more than pixels (force deletes it nevertheless).
    Raises ArdmError where the source is no picture that can be taken, or the target is there or cannot be written.
    """
    began, source = time.perf_counter(), Path(source)
    target = compress_target(source, target)
    picture, before = _opened(source, target, force, keep, lambda: read_picture(source, max_pixels))
    if picture.format == "JPEG":
        raise ArdmError(f"{source} is a JPEG: its pixels would take more room than it does; convert it, if you mean it")
    data, report = pack(picture.x, model, calls, picture.suffix)

    def check(new: Path) -> None:
        try:
            again = unpack(new.read_bytes(), model, max_pixels)[0]
        except CodecError as error:
            raise ArdmError(f"{target} was not written: it does not decode ({error})") from None
        if not torch.equal(again, picture.x):
            raise ArdmError(f"{target} was not written: it decodes to another picture")

    write_whole(target, lambda new: _write_bytes(new, data), force, check, like=source)
    spared = not keep and not force and bool(picture.lost)
    removed = not keep and not spared and _remove(source, before)
    seconds = time.perf_counter() - began
    return Done(source, target, report.shape, before.st_size, len(data), seconds, report, picture.lost, removed, spared)


def decompress_file(
    source: str | Path,
    target: str | Path | None = None,
    model: Bundle | str | Path | None = None,
    force: bool = False,
    keep: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> Done:
    """Restore an image file, read what was written, compare the pixels, and only then give it its name.

    target: a file, whose ending says its format, or a folder; by default the source's name without .ardm.
    Raises CodecError as `decompress`, ArdmError where the target is there, or cannot be written or hold the picture.
    """
    began, source = time.perf_counter(), Path(source)
    target = decompress_target(source, target, max_pixels)
    data, before = _opened(source, target, force, keep, source.read_bytes)
    x, header = unpack(data, model, max_pixels)
    suffix = _suffix(target, header)

    def check(new: Path) -> None:
        if not torch.equal(_seen(read_image(new, max_pixels)), _seen(x)):
            raise ArdmError(f"{target} was not written: {suffix} does not hold this picture without loss; use .png")

    write_whole(target, lambda new: write_image(x, new, suffix), force, check, like=source)
    removed = not keep and _remove(source, before)
    seconds, size = time.perf_counter() - began, target.stat().st_size
    return Done(source, target, header.shape, before.st_size, size, seconds, removed=removed)


def compress_target(source: Path, target: str | Path | None = None) -> Path:
    """Where a compressed file goes."""
    name = source.name + ENDING
    return source.with_name(name) if target is None else _within(Path(target), name)


def decompress_target(source: Path, target: str | Path | None = None, max_pixels: int = MAX_PIXELS) -> Path:
    """Where a restored picture goes.  Raises CodecError for a file that is not ours, before it takes any time."""
    header = file_header(source, max_pixels)
    name = source.name.removesuffix(ENDING) if source.name != ENDING else "image"
    if name == source.name or Path(name).suffix.lower() not in EXTENSIONS:
        name += f".{header.suffix}"
    found = source.with_name(name) if target is None else _within(Path(target), name)
    _suffix(found, header)
    return found


def file_header(path: Path, max_pixels: int = MAX_PIXELS) -> Header:
    """What a compressed file says about itself; the rest of it is not read."""
    _refuse_source(path)
    with _reasons(f"cannot read {path}"), path.open("rb") as file:
        header = read_header(Reader(file.read(256)), max_pixels)
        size = os.fstat(file.fileno()).st_size
    if size > header.raw_bytes + 256:
        raise CodecError("damaged file: it is longer than the picture that it claims to hold")
    return header


def _suffix(target: Path, header: Header) -> str:
    """The format of a restored picture."""
    ending = target.suffix.lower()
    if ending and ending not in EXTENSIONS:
        raise ArdmError(f"cannot write {target}: a restored picture ends in {', '.join(sorted(EXTENSIONS))}")
    return EXTENSIONS.get(ending, header.suffix)


def _within(target: Path, name: str) -> Path:
    return target / name if target.is_dir() else target


def _opened(source: Path, target: Path, force: bool, keep: bool, read: Callable[[], Any]) -> tuple[Any, os.stat_result]:
    """What `read` gives, and the state of the source before; what cannot end well is refused before it takes time."""
    _refuse_source(source)
    with _reasons(f"cannot read {source}"):
        if target.exists() and target.samefile(source):
            raise ArdmError(f"{source} would be overwritten by itself; give another name with -o")
        if not keep and source.is_symlink():
            raise ArdmError(f"{source} is a link; only ordinary files are deleted")
    with _reasons(f"cannot write {target}"):
        _refuse_target(target, force)
    with _reasons(f"cannot read {source}"):
        before = source.stat()
        return read(), before


def _write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _remove(source: Path, before: os.stat_result) -> bool:
    """Delete a source that is still what was read."""
    with _reasons(f"cannot delete {source}"):
        now = source.stat()
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
            raise ArdmError(f"{source} was changed meanwhile, and is kept")
        source.unlink()
    return True
