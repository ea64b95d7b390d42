"""Data sets: published layouts in miniature, what is refused, and streams that resume."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import pickle
import struct
import tarfile
import zlib

import numpy as np
import pooch
import pytest
import requests
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ardm import data
from ardm.data import Dataset, arrays, augment, batches, cifar10, fashion_mnist, images, load, mnist
from ardm.data import cifar as cifar_module
from ardm.data import mnists as idx_module
from ardm.data.folders import SHARES, fraction
from ardm.errors import ArdmError
from ardm.train.recipe import DataConfig

FILES = [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.dtype == b.dtype
    assert torch.equal(a, b)


# ------------------------------------------------------------------------------------------------------------ Dataset


def test_dataset_and_subset():
    items = torch.arange(12, dtype=torch.uint8).reshape(4, 3)
    whole = Dataset(items, 12, "twelve", torch.tensor([3, 2, 1, 0]))
    assert len(whole) == 4
    assert whole.shape == (3,)
    part = whole.subset([2, 0])
    same(part.items, items[[2, 0]])
    same(part.labels, torch.tensor([1, 3]))
    assert (part.classes, part.name) == (12, "twelve")
    same(whole.subset(slice(1, 3)).items, items[1:3])
    same(whole.subset(torch.tensor([True, False, False, True])).labels, torch.tensor([3, 0]))
    assert Dataset(items, 12, "unlabelled").subset([0]).labels is None


@pytest.mark.parametrize("items", [torch.zeros(2, 3), torch.zeros(2, dtype=torch.uint8)])
def test_dataset_refuses_what_is_not_items(items):
    with pytest.raises(ArdmError, match="integers"):
        Dataset(items, 2, "x")


def test_dataset_refuses_labels_of_another_length():
    with pytest.raises(ArdmError, match="2 items, but labels"):
        Dataset(torch.zeros(2, 3, dtype=torch.uint8), 2, "x", torch.zeros(3, dtype=torch.long))


# ----------------------------------------------------------------------------------------------------------- CIFAR-10


def record(label: int, value: int) -> bytes:
    """Red plane: value at the top left, then zeros; green and blue planes: constants."""
    return bytes([label, value]) + bytes(1023) + bytes([100]) * 1024 + bytes([200]) * 1024


@pytest.fixture
def cifar(tmp_path):
    """Six files of four images; the label is the file's number, the value the image's."""
    home = tmp_path / "cifar-10-batches-bin"
    home.mkdir()
    for n, name in enumerate(FILES):
        (home / name).write_bytes(b"".join(record(n, 4 * n + k) for k in range(4)))
    return tmp_path


def tarball(path, members: dict[str, bytes | tarfile.TarInfo]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("split", "values"),
    [("train", range(20)), ("fit", range(18)), ("valid", range(18, 20)), ("test", range(20, 24))],
)
@pytest.mark.parametrize("inside", [False, True])
def test_cifar10_splits(cifar, split, values, inside):
    got = cifar10(cifar / "cifar-10-batches-bin" if inside else cifar, split, verify=False)
    assert got.items.shape == (len(values), 3, 32, 32)
    assert got.items.dtype == torch.uint8
    assert got.items[:, 0, 0, 0].tolist() == list(values)
    assert got.items[:, 0].sum() == sum(values)
    assert (got.items[:, 1] == 100).all()
    assert (got.items[:, 2] == 200).all()
    same(got.labels, torch.tensor([value // 4 for value in values]))
    assert (got.shape, got.classes, got.name) == ((3, 32, 32), 256, f"cifar10/{split}")


def test_cifar10_rows_then_columns(tmp_path):
    plane = bytes(range(32)) + bytes(992)  # the first row of each plane counts up
    (tmp_path / "test_batch.bin").write_bytes(bytes([7]) + plane * 3)
    got = cifar10(tmp_path, "test", verify=False)
    assert got.items[0, :, 0].tolist() == [list(range(32))] * 3
    assert got.items[0, :, 1:].sum() == 0


def test_cifar10_checks_size_and_md5(cifar, monkeypatch):
    with pytest.raises(ArdmError, match=r"data_batch_1\.bin has 12292 bytes, expected 30730000"):
        cifar10(cifar, "train")
    monkeypatch.setattr(cifar_module, "_BYTES", 4 * 3073)
    with pytest.raises(ArdmError, match=r"test_batch\.bin is not the published file: MD5 .*803d5f7f"):
        cifar10(cifar, "test")
    content = (cifar / "cifar-10-batches-bin" / "test_batch.bin").read_bytes()
    monkeypatch.setitem(cifar_module._MD5, "test_batch.bin", hashlib.md5(content).hexdigest())
    assert len(cifar10(cifar, "test")) == 4


@pytest.mark.parametrize("content", [b"", record(1, 1)[:-1], record(1, 1) + b"\0"])
def test_cifar10_refuses_broken_records(cifar, content):
    (cifar / "cifar-10-batches-bin" / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(ArdmError, match=r"data_batch_3\.bin has .* a multiple of 3073"):
        cifar10(cifar, "train", verify=False)
    assert len(cifar10(cifar, "test", verify=False)) == 4


def test_cifar10_refuses_labels_out_of_range(cifar):
    (cifar / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(record(1, 1) + record(10, 1))
    with pytest.raises(ArdmError, match=r"label 10, expected 0\.\.9"):
        cifar10(cifar, "test", verify=False)


def test_cifar10_missing_says_what_where_and_how(tmp_path, cifar):
    with pytest.raises(ArdmError, match=r"expected .*cifar-10-batches-bin.data_batch_1\.bin; set data\.download=true"):
        cifar10(tmp_path / "nowhere", "train")
    (cifar / "cifar-10-batches-bin" / "data_batch_4.bin").unlink()
    with pytest.raises(ArdmError, match=r"expected .*data_batch_4\.bin"):
        cifar10(cifar, "train", verify=False)


def test_cifar10_unknown_split(cifar):
    with pytest.raises(ArdmError, match="unknown split of CIFAR-10: 'validate'; did you mean 'valid'"):
        cifar10(cifar, "validate")
    with pytest.raises(ArdmError, match="unknown split of CIFAR-10: None"):
        cifar10(cifar, None)


class Fuse:
    """Unpickling it fails the test."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("where", ["cifar-10-batches-py/data_batch_1", "data_batch_1", "cifar-10-python.tar.gz"])
def test_cifar10_never_loads_pickles(tmp_path, where):
    (tmp_path / where).parent.mkdir(exist_ok=True)
    (tmp_path / where).write_bytes(pickle.dumps(Fuse()))
    with pytest.raises(ArdmError, match=r"pickles, .* never loaded; .*download=True.*cifar-10-binary\.tar\.gz"):
        cifar10(tmp_path, "train")


def test_cifar10_unpacks_only_the_named_members(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    link = tarfile.TarInfo("cifar-10-batches-bin/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    members = {
        "../evil.txt": b"x",
        "/tmp/ardm-evil.txt": b"x",
        "cifar-10-batches-bin/../../data_batch_1.bin": b"x",
        "cifar-10-batches-bin/link": link,
        "cifar-10-batches-bin/readme.html": b"x",
        **{f"./cifar-10-batches-bin/{name}": record(n, n) * 2 for n, name in enumerate(FILES)},
    }
    tarball(folder / "cifar-10-binary.tar.gz", members)
    assert cifar10(folder, "train", verify=False).labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    expected = ["in/cifar-10-binary.tar.gz", *(f"in/cifar-10-batches-bin/{name}" for name in FILES)]
    assert written == sorted(expected)


def test_cifar10_unpacking_keeps_what_is_there(cifar):
    (cifar / "cifar-10-batches-bin" / "data_batch_2.bin").unlink()
    tarball(cifar / "cifar-10-binary.tar.gz", {f"cifar-10-batches-bin/{name}": record(9, 9) for name in FILES})
    assert cifar10(cifar, "train", verify=False).labels.tolist() == [0] * 4 + [9] + [2] * 4 + [3] * 4 + [4] * 4


def links(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_cifar10_refuses_links_in_the_archive(tmp_path, kind):
    tarball(tmp_path / "cifar-10-binary.tar.gz", {"": links(kind)})
    with pytest.raises(ArdmError, match=r"data_batch_1\.bin is not a file"):
        cifar10(tmp_path, "train", verify=False)
    assert not list((tmp_path / "cifar-10-batches-bin").iterdir())


def test_cifar10_refuses_swollen_members(tmp_path, monkeypatch):
    tarball(tmp_path / "cifar-10-binary.tar.gz", {"cifar-10-batches-bin/data_batch_1.bin": bytes(200)})
    monkeypatch.setattr(cifar_module, "_BYTES", 199)
    with pytest.raises(ArdmError, match="at most 199 bytes"):
        cifar10(tmp_path, "train", verify=False)


def test_cifar10_refuses_other_and_damaged_archives(tmp_path):
    archive = tmp_path / "cifar-10-binary.tar.gz"
    tarball(archive, {"cifar-100-binary/train.bin": b"x"})
    with pytest.raises(ArdmError, match=r"lacks cifar-10-batches-bin/data_batch_1\.bin"):
        cifar10(tmp_path, "train", verify=False)
    noise = np.random.default_rng(0).integers(0, 256, 3072, np.uint8).tobytes()
    tarball(archive, {f"cifar-10-batches-bin/{name}": b"\1" + noise for name in FILES})
    whole = archive.read_bytes()
    for broken in (b"no archive", whole[: len(whole) // 3], whole[:20] + b"\xff" * 20 + whole[40:], b""):
        archive.write_bytes(broken)
        with pytest.raises(ArdmError, match="cannot unpack"):
            cifar10(tmp_path, "train", verify=False)
    assert not list((tmp_path / "cifar-10-batches-bin").glob(".*")), "half-written files are left"


def test_cifar10_download(tmp_path, monkeypatch):
    asked = []

    def deliver(url, known_hash, fname, path):
        asked.append((url, known_hash))
        path.mkdir(parents=True)
        tarball(path / fname, {f"cifar-10-batches-bin/{name}": record(5, 5) for name in FILES})

    monkeypatch.setattr(pooch, "retrieve", deliver)
    assert len(cifar10(tmp_path / "new", "train", download=True, verify=False)) == 5
    assert len(load("cifar10", tmp_path / "new", "test", download=True, verify=False)) == 1
    archive = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert asked == [(archive, "md5:c32a1d4ab5d03f1284b67883e8d87530")], "fetched once"


@pytest.mark.parametrize(
    "error",
    [requests.ConnectionError("no route"), requests.HTTPError("404"), OSError("disk full"), ValueError("MD5 hash")],
)
def test_a_failed_download_is_one_clear_error(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(pooch, "retrieve", fail)
    with pytest.raises(ArdmError, match=r"cannot download https://www\.cs.*: .*put it into"):
        cifar10(tmp_path, "train", download=True)
    with pytest.raises(ArdmError, match=r"cannot download https://ossci.*train-images-idx3-ubyte\.gz: .*put it into"):
        mnist(tmp_path, "train", download=True)


# -------------------------------------------------------------------------------------------- MNIST and Fashion-MNIST


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def digits(count: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Image n holds n, 0, 1, 2, ... along its first row; its label is n mod 10."""
    pictures = np.zeros((count, 28, 28), np.uint8)
    pictures[:, 0, 1:] = np.arange(27)
    pictures[:, 0, 0] = np.arange(first, first + count)
    return pictures, np.arange(first, first + count) % 10


def write_idx(folder, count=30, dot=False, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, first in (("train", 0), ("t10k", 100)):
        for kind, array in zip(("images-idx3", "labels-idx1"), digits(count, first), strict=True):
            name = f"{stem}-{kind}-ubyte".replace("-idx", ".idx" if dot else "-idx") + ".gz" * zipped
            content = idx(array)
            (folder / name).write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.mark.parametrize("dot", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("split", "values"),
    [("train", range(30)), ("fit", range(25)), ("valid", range(25, 30)), ("test", range(100, 130))],
)
def test_mnist_splits_and_names(tmp_path, dot, zipped, split, values):
    got = mnist(write_idx(tmp_path, dot=dot, zipped=zipped), split, verify=False)
    assert got.items.shape == (len(values), 1, 28, 28)
    assert got.items.dtype == torch.uint8
    assert got.items[:, 0, 0, 0].tolist() == list(values)
    assert got.items[0, 0, 0, 1:].tolist() == list(range(27))
    same(got.labels, torch.tensor([value % 10 for value in values]))
    assert (got.shape, got.classes, got.name) == ((1, 28, 28), 256, f"mnist/{split}")


def test_the_two_mnists_can_share_a_folder(tmp_path):
    write_idx(tmp_path / "MNIST" / "raw", count=3)
    write_idx(tmp_path / "fashion-mnist", count=4)
    assert len(mnist(tmp_path, "train", verify=False)) == 3
    fashion = fashion_mnist(tmp_path, "train", verify=False)
    assert (len(fashion), fashion.name) == (4, "fashion_mnist/train")


def test_mnist_checks_md5(tmp_path, monkeypatch):
    write_idx(tmp_path)
    with pytest.raises(ArdmError, match=r"train-images-idx3-ubyte is not the published file: MD5"):
        mnist(tmp_path, "train")
    for name, (zipped, _) in list(idx_module._MNIST.md5.items()):
        unpacked = hashlib.md5((tmp_path / name).read_bytes()).hexdigest()
        monkeypatch.setitem(idx_module._MNIST.md5, name, (zipped, unpacked))
    assert len(mnist(tmp_path, "train")) == 30


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda b: b"\0\0\x08\x01" + b[4:], "begins with 0x00000801, expected 0x00000803"),
        (lambda b: b"\0\0\x0d\x03" + b[4:], "begins with 0x00000d03, expected 0x00000803"),
        (lambda b: b"", "begins with 0x, expected"),
        (lambda b: b[:-1], "bytes, but its header announces"),
        (lambda b: b + b"\0", "bytes, but its header announces"),
        (lambda b: b[:10], "bytes, but its header announces"),
        (lambda b: idx(np.zeros((30, 28, 27))), "expected \\(N, 28, 28\\)"),
        (lambda b: idx(np.zeros((11, 28, 28))), "30 labels, images"),
        (lambda b: idx(np.zeros((0, 28, 28))), "header announces"),
    ],
)
def test_mnist_refuses_broken_files(tmp_path, damage, says):
    path = write_idx(tmp_path) / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArdmError, match=says):
        mnist(tmp_path, "train", verify=False)


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b"no gzip", lambda b: b[:30] + b"\xff" * 9 + b[39:]])
def test_mnist_refuses_broken_gzip(tmp_path, damage):
    path = write_idx(tmp_path, zipped=True) / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArdmError, match=r"cannot read .*train-images-idx3-ubyte\.gz"):
        mnist(tmp_path, "train", verify=False)


def test_mnist_stops_at_the_published_size(tmp_path, monkeypatch):
    write_idx(tmp_path, zipped=True)
    monkeypatch.setattr(idx_module, "_IDX_BYTES", 1000)
    with pytest.raises(ArdmError, match="holds more than 1000 bytes"):
        mnist(tmp_path, "train", verify=False)


def test_mnist_missing_says_what_where_and_how(tmp_path):
    with pytest.raises(
        ArdmError, match=r"no MNIST in .*mnist.train-images-idx3-ubyte\[\.gz\]; set data\.download=true"
    ):
        mnist(tmp_path / "nowhere", "train")
    with pytest.raises(ArdmError, match=r"no Fashion-MNIST in .*fashion-mnist.t10k-images"):
        fashion_mnist(tmp_path, "test")
    (write_idx(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ArdmError, match=r"expected .*t10k-labels-idx1-ubyte"):
        mnist(tmp_path, "test", verify=False)
    with pytest.raises(ArdmError, match="unknown split of MNIST: 'tset'; did you mean 'test'"):
        mnist(tmp_path, "tset")


def test_mnist_download(tmp_path, monkeypatch):
    asked = []

    def deliver(url, known_hash, fname, path):
        asked.append((url, known_hash))
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(gzip.compress(idx(digits(6)["labels" in fname])))

    monkeypatch.setattr(pooch, "retrieve", deliver)
    assert len(mnist(tmp_path, "test", download=True, verify=False)) == 6
    assert len(fashion_mnist(tmp_path, "test", download=True, verify=False)) == 6
    assert len(mnist(tmp_path, "test", download=True, verify=False)) == 6
    ossci, zalando = "https://ossci-datasets.s3.amazonaws.com/mnist/", "/zalandoresearch/fashion-mnist/"
    assert asked[0] == (f"{ossci}t10k-images-idx3-ubyte.gz", "md5:9fb629c4189551a2d022fa330f9573f3")
    assert len(asked) == 4, "fetched once"
    assert all(zalando in url for url, _ in asked[2:])


# ----------------------------------------------------------------------------------------------------- image folders


def picture(height: int, width: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def pixels(image: Image.Image) -> torch.Tensor:
    array = np.array(image)
    return torch.from_numpy(array.transpose(2, 0, 1).copy() if array.ndim == 3 else array[None])


def test_images_in_the_order_of_their_paths(tmp_path):
    names = ["b.png", "a/z.webp", "a/B.TIFF", "c.ppm", "d.bmp"]
    (tmp_path / "a").mkdir()
    for seed, name in enumerate(names):
        picture(5, 7, seed=seed).save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not an image")
    (tmp_path / "folder.png").mkdir()
    got = images(tmp_path)
    assert got.items.dtype == torch.uint8
    assert (got.shape, got.classes, got.name) == ((3, 5, 7), 256, f"{tmp_path.name}/all")
    assert got.labels is None
    same(got.items, torch.stack([pixels(picture(5, 7, seed=seed)) for seed in (2, 1, 0, 3, 4)]))


@pytest.mark.parametrize("suffix", ["png", "pgm", "tif", "bmp"])
def test_grey_images_have_one_channel(tmp_path, suffix):
    picture(4, 6, "L").save(tmp_path / f"x.{suffix}")
    for channels in (None, 1):
        same(images(tmp_path, channels=channels).items, pixels(picture(4, 6, "L"))[None])


def test_channels_3_takes_grey_and_palettes(tmp_path):
    grey, colour = picture(4, 6, "L"), picture(4, 6)
    indexed = colour.quantize(16)
    grey.save(tmp_path / "a.png")
    indexed.save(tmp_path / "b.png")
    indexed.save(tmp_path / "c.gif")
    colour.save(tmp_path / "d.png")
    from_palette = pixels(indexed.convert("RGB"))
    got = images(tmp_path, channels=3).items
    same(got, torch.stack([pixels(grey).expand(3, 4, 6), from_palette, from_palette, pixels(colour)]))


def test_one_bit_images_are_black_and_white(tmp_path):
    for name, image in (("a.png", picture(4, 6, "L").convert("1")), ("b.pbm", picture(4, 6, "L").convert("1"))):
        image.save(tmp_path / name)
    (tmp_path / "c.pbm").write_bytes(b"P1 6 4 " + b"0 1 " * 12)
    assert set(images(tmp_path).items.flatten().tolist()) == {0, 255}


def deep_png(path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    rows = zlib.compress(bytes(2 * (1 + 12)))
    signature = b"\x89PNG\r\n\x1a\n"
    path.write_bytes(signature + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("write", "channels", "says"),
    [
        (lambda p: picture(4, 4).convert("RGBA").save(p), None, "alpha channel.: flatten"),
        (lambda p: picture(4, 4).convert("RGBA").save(p), 3, "alpha channel.: flatten"),
        (lambda p: picture(4, 4, "L").convert("LA").save(p), 1, "alpha channel.: flatten"),
        (lambda p: picture(4, 4).quantize(4).save(p, transparency=0), 3, "alpha channel.: flatten"),
        (lambda p: picture(4, 4).quantize(4).save(p), None, r"palette: set data\.channels=3"),
        (lambda p: picture(4, 4).save(p), 1, "is RGB, but channels is 1"),
        (lambda p: Image.fromarray(np.zeros((4, 4), np.uint16)).save(p), None, "has (16 bits|mode 'I)"),
        (deep_png, 3, "16 bits per channel"),
        (lambda p: p.write_bytes(b"P6 2 2 65535\n" + bytes(24)), 3, "16 bits per channel"),
        (lambda p: picture(4, 4).convert("CMYK").save(p, "TIFF"), 3, "mode 'CMYK'"),
        (lambda p: picture(4, 4).save(p, save_all=True, append_images=[picture(4, 4, seed=1)]), 3, "2 frames"),
        (lambda p: p.write_bytes(b""), None, "cannot be read as an image"),
        (lambda p: picture(4, 4).save(p, "PCX"), None, "cannot be read"),  # only the formats promised are tried
    ],
)
def test_images_refuses_and_names(tmp_path, write, channels, says):
    write(tmp_path / "odd.png")
    with pytest.raises(ArdmError, match=rf"odd\.png .*{says}"):
        images(tmp_path, channels=channels)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "ppm", "bmp", "jpg"])
def test_a_truncated_image_is_named(tmp_path, suffix):
    picture(40, 40).save(tmp_path / f"a.{suffix}")
    picture(40, 40, seed=1).save(tmp_path / f"b.{suffix}")
    whole = (tmp_path / f"b.{suffix}").read_bytes()
    (tmp_path / f"b.{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArdmError, match=rf"b\.{suffix} cannot be read as an image"):
        images(tmp_path)


def test_images_of_another_size_or_kind_are_named(tmp_path):
    picture(5, 7).save(tmp_path / "a.png")
    picture(7, 5).save(tmp_path / "b.png")
    extent = r"b\.png is 7 x 5 \(height x width\) with 3 channels, expected 5 x 7 .* with 3 channels like .*a\.png"
    with pytest.raises(ArdmError, match=extent):
        images(tmp_path)
    with pytest.raises(ArdmError, match=r"a\.png is 5 x 7 .*, expected 6 x 6 .* as requested"):
        images(tmp_path, size=6)
    picture(5, 7, "L").save(tmp_path / "b.png")
    with pytest.raises(ArdmError, match=r"b\.png is 5 x 7 .* with 1 channel, expected 5 x 7 .* with 3 channels like"):
        images(tmp_path)
    assert images(tmp_path, size=[5, 7], channels=3).items.shape == (2, 3, 5, 7)


@pytest.mark.parametrize("wrong", [{"size": (1, 2, 3)}, {"size": 0}, {"channels": 2}, {"split": "tset"}])
def test_images_refuses_wrong_arguments(tmp_path, wrong):
    picture(5, 7).save(tmp_path / "a.png")
    with pytest.raises(ArdmError, match=next(iter(wrong))):
        images(tmp_path, **wrong)


def test_images_missing(tmp_path):
    with pytest.raises(ArdmError, match=r"no folder .*nowhere: expected a folder of images"):
        images(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ArdmError, match="no images in"):
        images(tmp_path)
    picture(2, 2).save(tmp_path / "a.png")
    empty = [split for split in ("train", "valid", "test") if split != split_of("a.png")]
    for split in empty:
        with pytest.raises(ArdmError, match="none of the 1 images"):
            images(tmp_path, split)


def split_of(key: str) -> str:
    return next(split for split, (low, high) in SHARES.items() if low <= fraction(key) < high)


def test_splits_of_images_are_disjoint_complete_and_stay(tmp_path):
    for n in range(200):
        Image.new("L", (1, 1), n).save(tmp_path / f"{n:03}.png")
    parts = {split: images(tmp_path, split).items.flatten().tolist() for split in ("train", "valid", "test")}
    assert sorted(itertools.chain(*parts.values())) == list(range(200))
    assert all(part == sorted(part) for part in parts.values())
    for n in range(0, 200, 2):
        (tmp_path / f"{n:03}.png").unlink()
    for split, part in parts.items():
        assert images(tmp_path, split).items.flatten().tolist() == [n for n in part if n % 2]


def test_shares_and_pinned_places():
    counts = dict.fromkeys(SHARES, 0)
    for n in range(4000):
        counts[split_of(f"folder/{n}.png")] += 1
    assert abs(counts["train"] - 3600) < 100
    assert abs(counts["valid"] - 200) < 60
    assert abs(counts["test"] - 200) < 60
    expected = int.from_bytes(hashlib.sha256(b"a/b.png").digest()[:6], "big") / 2**48
    assert fraction("a/b.png") == expected
    assert fraction("cafe\u0301.png") == fraction("caf\u00e9.png"), "one name on every file system"


# -------------------------------------------------------------------------------------------------------------- .npy


@pytest.mark.parametrize(
    ("top", "kind"),
    [(1, torch.uint8), (255, torch.uint8), (256, torch.int16), (32768, torch.int32), (2**31, torch.int64)],
)
def test_arrays_take_the_smallest_type(tmp_path, top, kind):
    values = np.array([[0, 1], [1, top]], dtype=">i8")
    np.save(tmp_path / "x.npy", values)
    got = arrays(tmp_path / "x.npy")
    assert got.items.dtype == kind
    assert got.items.tolist() == values.tolist()
    assert (got.classes, got.shape, got.name, got.labels) == (top + 1, (2,), "x", None)
    got.items[0, 0] = 1  # a copy: the file stays as it is
    assert np.load(tmp_path / "x.npy")[0, 0] == 0


def test_arrays_in_fortran_order_and_booleans(tmp_path):
    values = np.asfortranarray(np.arange(24).reshape(2, 3, 4))
    np.save(tmp_path / "x.npy", values)
    assert arrays(tmp_path / "x.npy").items.tolist() == values.tolist()
    np.save(tmp_path / "b.npy", values % 3 == 0)
    assert arrays(tmp_path / "b.npy").classes == 2


def test_arrays_classes(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[3, 4]]))
    assert arrays(tmp_path / "x.npy", classes=300).items.dtype == torch.int16
    assert arrays(tmp_path / "x.npy", classes=5).classes == 5
    with pytest.raises(ArdmError, match=r"value 4, but classes=4 allows 0\.\.3"):
        arrays(tmp_path / "x.npy", classes=4)


def test_arrays_of_a_folder_share_their_classes(tmp_path):
    np.save(tmp_path / "train.npy", np.array([[0, 9]]))
    np.save(tmp_path / "test.npy", np.array([[1, 2]]))
    got = arrays(tmp_path, "test")
    assert (got.classes, got.items.tolist(), got.name) == (10, [[1, 2]], f"{tmp_path.name}/test")
    assert arrays(tmp_path, "train").classes == 10
    with pytest.raises(ArdmError, match=r"unknown split in .*: 'tain'; did you mean 'train'"):
        arrays(tmp_path, "tain")


def test_a_single_array_is_shared_out_by_the_numbers_of_its_items(tmp_path):
    values = np.arange(400).reshape(200, 2)
    np.save(tmp_path / "all.npy", values)
    parts = {split: arrays(tmp_path / "all.npy", split).items for split in ("train", "valid", "test")}
    assert torch.equal(arrays(tmp_path / "all.npy", "fit").items, parts["train"])
    assert sorted(row for part in parts.values() for row in part.tolist()) == values.tolist()
    assert len(parts["train"]) > 160
    assert min(map(len, parts.values())) > 2
    whole = arrays(tmp_path / "all.npy")
    assert len(whole.items) == 200
    assert {arrays(tmp_path / "all.npy", split).classes for split in parts} == {whole.classes} == {400}
    np.save(tmp_path / "two.npy", values[:2])
    with pytest.raises(ArdmError, match=r"none of the 2 items .*data\.valid=all in a recipe"):
        arrays(tmp_path / "two.npy", "valid")
    taken = data.of_config(DataConfig("array", str(tmp_path / "two.npy")), "all")
    assert len(taken.items) == 2


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((2, 2)), "float64, expected non-negative integers"),
        (np.array([[0, -1]]), r"values -1\.\.0"),
        (np.array([[0, 2**64 - 1]], np.uint64), "holds values 0"),
        (np.array([["a"]]), "holds <U1"),
        (np.array([1, 2]), r"shape \(2,\), expected \(N, \*shape\)"),
        (np.array(1), "shape"),
        (np.zeros((0, 3), int), r"shape \(0, 3\)"),
    ],
)
def test_arrays_refuses(tmp_path, values, says):
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(ArdmError, match=rf"x\.npy .*{says}"):
        arrays(tmp_path / "x.npy")


def test_arrays_never_unpickles(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[Fuse()]], dtype=object), allow_pickle=True)
    (tmp_path / "y.npy").write_bytes(pickle.dumps(Fuse()))
    for name in ("x.npy", "y.npy"):
        with pytest.raises(ArdmError, match="pickles are never loaded"):
            arrays(tmp_path / name)


def test_arrays_missing_and_damaged(tmp_path):
    with pytest.raises(ArdmError, match=r"no file .*x\.npy"):
        arrays(tmp_path / "x.npy")
    with pytest.raises(ArdmError, match=r"no \.npy files in"):
        arrays(tmp_path, "train")
    np.savez(tmp_path / "x.npz", np.zeros((2, 2), int))
    with pytest.raises(ArdmError, match=r"\.npz archive"):
        arrays(tmp_path / "x.npz")
    np.save(tmp_path / "x.npy", np.zeros((20, 20), int))
    whole = (tmp_path / "x.npy").read_bytes()
    for end in (0, 5, 60, len(whole) - 1):
        (tmp_path / "x.npy").write_bytes(whole[:end])
        with pytest.raises(ArdmError, match=r"cannot be read as \.npy"):
            arrays(tmp_path / "x.npy")


# -------------------------------------------------------------------------------------------------------------- load


def test_load_by_name(tmp_path, cifar):
    write_idx(tmp_path / "idx")
    picture(5, 7).save(tmp_path / "a.png")
    np.save(tmp_path / "x.npy", np.array([[3, 4]]))
    assert load("cifar10", cifar, "fit", verify=False).name == "cifar10/fit"
    assert load("mnist", tmp_path / "idx", "test", verify=False).name == "mnist/test"
    assert load("fashion_mnist", str(tmp_path / "idx"), "test", verify=False).name == "fashion_mnist/test"
    assert load("images", tmp_path, size=(5, 7), channels=3).shape == (3, 5, 7)
    assert load("array", tmp_path / "x.npy", classes=7).classes == 7


def test_load_suggests_the_nearest(tmp_path):
    with pytest.raises(ArdmError, match="unknown data set: 'cifar-10'; did you mean 'cifar10'"):
        load("cifar-10", tmp_path, "train")
    with pytest.raises(ArdmError, match="unknown option of 'images': 'chanels'; did you mean 'channels'"):
        load("images", tmp_path, chanels=3)  # codespell:ignore chanels
    with pytest.raises(ArdmError, match="unknown option of 'images': 'download'"):
        load("images", tmp_path, download=True)


# ----------------------------------------------------------------------------------------------------------- augment


def test_augment_only_flips_and_evenly():
    one = torch.arange(2 * 3 * 5, dtype=torch.uint8).reshape(1, 2, 3, 5)
    batch = one.expand(4000, -1, -1, -1)
    got = augment(batch, torch.Generator().manual_seed(0))
    assert got.dtype == torch.uint8
    straight, mirrored = (got == one).flatten(1).all(1), (got == one.flip(-1)).flatten(1).all(1)
    assert (straight ^ mirrored).all()
    assert abs(int(mirrored.sum()) - 2000) < 160  # five standard deviations


def test_augment_turns_evenly():
    one = torch.arange(9).reshape(1, 1, 3, 3)
    forms = torch.cat([one.rot90(k, (-2, -1)) for k in range(4)])
    forms = torch.cat([forms, forms.flip(-1)])  # the eight symmetries of a square
    got = augment(one.expand(4000, -1, -1, -1), torch.Generator().manual_seed(1), flip=True, rot90=True)
    counts = (got[:, None] == forms).flatten(2).all(2).sum(0)
    assert counts.sum() == 4000
    assert (counts - 500).abs().max() < 105
    turned = augment(one.expand(400, -1, -1, -1), torch.Generator().manual_seed(1), flip=False, rot90=True)
    assert (turned[:, None] == forms[:4]).flatten(2).all(2).sum() == 400


def test_augment_is_drawn_from_the_generator_alone():
    batch = torch.randint(256, (16, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before, kept = torch.random.get_rng_state(), batch.clone()
    first, again = (augment(batch, torch.Generator().manual_seed(5), rot90=True) for _ in range(2))
    same(first, again)
    same(torch.random.get_rng_state(), before)
    same(batch, kept)
    same(augment(batch, torch.Generator(), flip=False), batch)


@pytest.mark.parametrize(("shape", "rot90"), [((3, 4, 4), False), ((2, 3, 4, 5), True)])
def test_augment_refuses_what_is_not_images(shape, rot90):
    with pytest.raises(ArdmError, match="augment takes a batch of images"):
        augment(torch.zeros(shape, dtype=torch.uint8), torch.Generator(), rot90=rot90)


# ----------------------------------------------------------------------------------------------------------- batches


def take(count: int, stream) -> torch.Tensor:
    return torch.stack(list(itertools.islice(stream, count)))


sizes = st.integers(1, 40)


@settings(deadline=None)
@given(items=sizes, batch=sizes, seed=st.integers(-(2**70), 2**70), start=sizes, count=st.integers(1, 6))
def test_batches_resume(items, batch, seed, start, count):
    whole = take(start + count, batches(items, batch, seed))
    assert whole.dtype == torch.long
    assert whole.shape == (start + count, batch)
    same(take(count, batches(items, batch, seed, start)), whole[start:])


@settings(deadline=None)
@given(items=sizes, batch=sizes, seed=st.integers(0, 1000))
def test_batches_hold_whole_epochs_across_their_borders(items, batch, seed):
    flow = take(-(-3 * items // batch), batches(items, batch, seed)).flatten()
    for epoch in range(3):
        assert sorted(flow[epoch * items : (epoch + 1) * items].tolist()) == list(range(items))


def test_batches_differ_by_epoch_and_seed():
    flows = [take(2, batches(100, 100, seed)) for seed in (1, 2)]
    orders = {tuple(order.tolist()) for flow in flows for order in flow}
    assert len(orders) == 4
    before = torch.random.get_rng_state()
    take(3, batches(100, 7, 0))
    same(torch.random.get_rng_state(), before)


def test_batches_start_far_away_at_once():
    far = next(batches(50_000, 128, 0, start=10**12))
    assert len(set(far.tolist())) == 128


def test_batches_are_the_callers_own():
    stream = batches(10, 4, 0)
    first = next(stream)
    assert first.untyped_storage().nbytes() == 4 * 8, "a batch kept does not keep its epoch"
    expected = take(2, batches(10, 4, 0, start=1))
    first.zero_()
    same(take(2, stream), expected)


@pytest.mark.parametrize("wrong", [(0, 1, 0, 0), (1, 0, 0, 0), (1, 1, 0, -1)])
def test_batches_refuses_at_once(wrong):
    with pytest.raises(ArdmError, match="batches needs"):
        batches(*wrong)
