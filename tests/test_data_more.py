"""Text, sounds, tables and binary sets: published layouts in miniature, what becomes an item, what is refused."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import tarfile
import wave
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pooch
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ardm import data
from ardm.data import binary, drawings, mnists, registry, speech, texts
from ardm.data.audio import windows
from ardm.data.dataset import smallest
from ardm.data.folders import fraction
from ardm.errors import ArdmError
from ardm.schema import MAX_CATEGORIES, Schema, learn
from ardm.train.recipe import DataConfig

LETTERS = " abcdefghijklmnopqrstuvwxyz"


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.dtype == b.dtype
    assert torch.equal(a, b)


def letters(count: int, seed: int = 0) -> bytes:
    return bytes(np.frombuffer(LETTERS.encode(), np.uint8)[np.random.default_rng(seed).integers(0, 27, count)])


def classes(text: bytes) -> list[int]:
    return [LETTERS.index(chr(c)) for c in text]


# --------------------------------------------------------------------------------------------------------------- text


def test_items_of_training_overlap_and_are_no_copy(tmp_path):
    raw = letters(1000)
    (tmp_path / "a.txt").write_bytes(raw)
    got = data.load("text", tmp_path / "a.txt", "train", length=20, stride=7, alphabet="27")
    assert (got.classes, got.shape, got.name) == (27, (20,), "a/train")
    assert got.items.untyped_storage().nbytes() <= 1000
    assert len(got) == (900 - 20) // 7 + 1
    for n in (0, 1, len(got) - 1):
        assert got.items[n].tolist() == classes(raw[7 * n : 7 * n + 20])
    same(got.items[torch.tensor([3, 1])], got.items.contiguous()[[3, 1]])
    assert len(data.load("text", tmp_path / "a.txt", "fit", length=20)) == (900 - 20) // 5 + 1, "a quarter by default"


def test_items_of_other_splits_follow_one_another(tmp_path):
    raw = bytes(np.random.default_rng(1).integers(0, 256, 1000, np.uint8))
    (tmp_path / "a.txt").write_bytes(raw)
    for split, part in (("valid", raw[900:950]), ("test", raw[950:]), (None, raw)):
        got = data.load("text", tmp_path / "a.txt", split, length=20, stride=3)
        assert bytes(got.items.flatten().tolist()) == part[: len(part) // 20 * 20]
        assert got.classes == 256


def test_every_file_of_a_folder_is_split(tmp_path):
    (tmp_path / "sub").mkdir()
    parts = [letters(100, n) for n in range(3)]
    for name, part in zip(("b.txt", "sub/a.md", "a.txt"), parts, strict=True):
        (tmp_path / name).write_bytes(part)
    (tmp_path / ".hidden.txt").write_bytes(b"no")
    (tmp_path / "notes.doc").write_bytes(b"no")
    ordered = [parts[2], parts[0], parts[1]]
    train = data.load("text", tmp_path, "train", length=1, stride=1)
    assert bytes(train.items.flatten().tolist()) == b"".join(part[:90] for part in ordered)
    test = data.load("text", tmp_path, "test", length=1)
    assert bytes(test.items.flatten().tolist()) == b"".join(part[95:] for part in ordered)


def test_files_named_as_splits_are_the_splits(tmp_path):
    for n, split in enumerate(("train", "valid", "test")):
        (tmp_path / f"{split}.txt").write_bytes(letters(30, n))
    (tmp_path / "other.txt").write_bytes(b"UPPER")
    for n, split in enumerate(("fit", "valid", "test")):
        got = data.load("text", tmp_path, split, length=10, stride=10, alphabet="27")
        assert got.items.flatten().tolist() == classes(letters(30, n))
    assert len(data.load("text", tmp_path, None, length=10)) == 9
    (tmp_path / "valid.txt").unlink()
    with pytest.raises(ArdmError, match=r"no .*valid\.txt beside train\.txt"):
        data.load("text", tmp_path, "valid")


def test_text_names_what_is_not_in_the_alphabet(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"some words\nand more")
    with pytest.raises(
        ArdmError, match=r"a\.txt: byte 10 .* at position 10 is neither a\.\.z nor a space; use alphabet=b"
    ):
        data.load("text", tmp_path, alphabet="27", length=2)
    with pytest.raises(ArdmError, match="unknown alphabet: 'byte'; did you mean 'bytes'"):
        data.load("text", tmp_path, alphabet="byte")
    with pytest.raises(ArdmError, match="has 19 characters, fewer than an item of length 20"):
        data.load("text", tmp_path, length=20)
    with pytest.raises(ArdmError, match="length must be at least 1; got 0"):
        data.load("text", tmp_path, length=0)
    with pytest.raises(ArdmError, match="no folder"):
        data.load("text", tmp_path / "nowhere")


@pytest.fixture
def small_text8(monkeypatch):
    """A text8 of 2,000 characters, and that its MD5 is the published one."""
    raw = letters(2000)
    monkeypatch.setattr(texts, "_BYTES", 2000)
    monkeypatch.setitem(texts._MD5, "text8", hashlib.md5(raw).hexdigest())
    return raw


@pytest.mark.parametrize("inside", ["text8", "text8.zip", "text8/text8"])
def test_text8_is_checked_and_split(tmp_path, small_text8, inside):
    path = tmp_path / inside
    path.parent.mkdir(exist_ok=True)
    if inside.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("text8", small_text8)
    else:
        path.write_bytes(small_text8)
    for folder in (tmp_path, path):
        train = data.load("text8", folder, "train", length=50)
        assert (train.classes, train.shape, len(train)) == (27, (50,), (1800 - 50) // 12 + 1)
    for split, part in (("valid", small_text8[1800:1900]), ("test", small_text8[1900:])):
        got = data.load("text8", tmp_path, split, length=25)
        assert got.items.flatten().tolist() == classes(part)
        assert got.name == f"text8/{split}"


def test_the_published_lengths_are_the_defaults(tmp_path):
    for name, length in (("text8", 250), ("enwik8", 256)):
        (tmp_path / name).write_bytes(letters(10_000))
        assert data.load(name, tmp_path, "test", verify=False).shape == (length,)


def test_text8_refuses_other_files(tmp_path, small_text8):
    with pytest.raises(
        ArdmError, match=r"no text8 in .*set data\.download=true .*, or put text8\.zip \(from http://matt"
    ):
        data.load("text8", tmp_path, "train")
    (tmp_path / "text8").write_bytes(small_text8[:-1])
    with pytest.raises(ArdmError, match="holds 1999 bytes, expected 2000"):
        data.load("text8", tmp_path, "train")
    (tmp_path / "text8").write_bytes(small_text8[:-1] + b"-")
    with pytest.raises(ArdmError, match="not the published file: MD5"):
        data.load("text8", tmp_path, "train")
    with pytest.raises(ArdmError, match="at position 1999 is neither"):
        data.load("text8", tmp_path, "train", verify=False)
    (tmp_path / "text8").unlink()
    with zipfile.ZipFile(tmp_path / "text8.zip", "w") as archive:
        archive.writestr("other", b"x")
    with pytest.raises(ArdmError, match="cannot read text8 from"):
        data.load("text8", tmp_path, "train")
    with pytest.raises(ArdmError, match="unknown split of text8: None"):
        data.load("text8", tmp_path)


def test_text8_download(tmp_path, monkeypatch, small_text8):
    asked = []

    def deliver(url, known_hash, fname, path):
        asked.append((url, known_hash))
        with zipfile.ZipFile(path / fname, "w") as archive:
            archive.writestr("text8", small_text8)

    monkeypatch.setattr(pooch, "retrieve", deliver)
    assert len(data.load("text8", tmp_path, "test", download=True, length=10)) == 10
    assert len(data.load("text8", tmp_path, "valid", download=True, length=10)) == 10
    assert [url for url, _ in asked] == ["http://mattmahoney.net/dc/text8.zip"]
    assert asked[0][1].startswith("sha256:a6640522")


# --------------------------------------------------------------------------------------------------------------- bits


def bit_text(values: np.ndarray, separator: str, end: str = "\n") -> bytes:
    return "".join(separator.join(map(str, row)) + end for row in values.tolist()).encode()


@pytest.mark.parametrize("end", ["\n", "\r\n", ",\n"])
@pytest.mark.parametrize("trailing", [True, False])
def test_bits_in_the_ways_they_are_written(tmp_path, end, trailing):
    values = np.random.default_rng(0).integers(0, 2, (9, 7))
    text = bit_text(values, ",", end)
    (tmp_path / "x").write_bytes(text if trailing else text.rstrip(b",\r\n"))
    assert (binary.read_bits(tmp_path / "x", ",") == values).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "holds no digits"),
        (b"0,1\n1,2\n", "line 2 holds a value other than 0 and 1"),
        (b"0,1\n1\n", "line 2 is not 2 digits"),
        (b"0,1\n1,0,1\n0\n", "line 2 is not 2 digits"),
        (b"0 1\n1 0\n", "line 1 is not 2 digits"),
        (b"10\n01\n", "line 1 is not"),
        (b"0,1\n\n1,1\n", "line 2 is not"),
        (b"0,-\n1,1\n", "line 1 holds a value other"),
    ],
)
def test_bits_names_the_line(tmp_path, text, says):
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(ArdmError, match=says):
        binary.read_bits(tmp_path / "x", ",")


def test_density_reads_the_published_layout(tmp_path, monkeypatch):
    values = {
        split: np.random.default_rng(n).integers(0, 2, (4 + n, 16))
        for n, split in enumerate(("train", "valid", "test"))
    }
    for split, rows in values.items():
        path = tmp_path / "datasets" / "nltcs" / f"nltcs.{split}.data"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bit_text(rows, ","))
    for folder in (tmp_path, tmp_path / "datasets"):
        got = data.load("density", folder, "valid", set="nltcs", verify=False)
        assert got.items.tolist() == values["valid"].tolist()
        assert (got.classes, got.name, got.items.dtype) == (2, "nltcs/valid", torch.uint8)
    seen = data.load("density", tmp_path, "test", set="nltcs", verify=False, pixels=(2, 4, 2)).items
    assert seen.shape == (6, 2, 4, 2)
    assert seen[3, :, 1, 0].tolist() == values["test"][3, 4:6].tolist(), "the columns of a pixel are together"
    with pytest.raises(ArdmError, match=r"must be 16 columns in all, those of nltcs; got \(1, 4, 5\)"):
        data.load("density", tmp_path, "test", set="nltcs", verify=False, pixels=(1, 4, 5))
    with pytest.raises(ArdmError, match=r"has 5 rows, expected 2157; set data\.verify=false"):
        data.load("density", tmp_path, "valid", set="nltcs")
    monkeypatch.setitem(binary._SETS, "nltcs", (15, 4, 5, 6))
    with pytest.raises(ArdmError, match="line 1 has 16 values, expected 15"):
        data.load("density", tmp_path, "valid", set="nltcs")
    with pytest.raises(ArdmError, match="unknown density-estimation set: 'nltc'; did you mean 'nltcs'"):
        data.load("density", tmp_path, "valid", set="nltc")
    with pytest.raises(ArdmError, match=r"no adult/adult\.test\.data in .*; set data\.download=true"):
        data.load("density", tmp_path, "test", set="adult")


def test_density_download_is_checked_by_its_shape(tmp_path, monkeypatch):
    asked = []

    def deliver(url, known_hash, fname, path):
        asked.append((url, known_hash))
        path.mkdir(parents=True)
        (path / fname).write_bytes(bit_text(np.ones((2157, 16), int), ","))

    monkeypatch.setattr(pooch, "retrieve", deliver)
    assert len(data.load("density", tmp_path, "valid", set="nltcs", download=True)) == 2157
    assert len(data.load("density", tmp_path, "valid", set="nltcs", download=True)) == 2157
    assert [(url.rsplit("/", 3)[1:], known) for url, known in asked] == [
        (["datasets", "nltcs", "nltcs.valid.data"], None)
    ]


def test_binarized_mnist(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).integers(0, 2, (12, 784))
    (tmp_path / "binarized_mnist_test.amat").write_bytes(bit_text(rows, " "))
    got = data.load("binarized_mnist", tmp_path, "test", verify=False)
    assert got.items.flatten(1).tolist() == rows.tolist()
    assert (got.shape, got.classes, got.name) == ((1, 28, 28), 2, "binarized_mnist/test")
    with pytest.raises(ArdmError, match="has 12 rows, expected 10000"):
        data.load("binarized_mnist", tmp_path, "test")
    monkeypatch.setitem(mnists._AMAT_ROWS, "test", 12)
    with pytest.raises(ArdmError, match="not the published file"):
        data.load("binarized_mnist", tmp_path, "test")
    monkeypatch.setitem(mnists._AMAT_MD5, "test", hashlib.md5(rows[:10].astype(np.uint8).tobytes()).hexdigest())
    assert len(data.load("binarized_mnist", tmp_path, "test")) == 12
    with pytest.raises(ArdmError, match=r"no binarized_mnist_train\.amat in"):
        data.load("binarized_mnist", tmp_path, "fit")


# ------------------------------------------------------------------------------------------------------- binarisations


@pytest.fixture
def grey(tmp_path):
    """MNIST of 60 and 10 random images."""
    for stem, count in (("train", 60), ("t10k", 10)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
        pixels[:, 0], pixels[:, 1] = 0, 255
        head = bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in pixels.shape)
        (tmp_path / f"{stem}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        (tmp_path / f"{stem}-labels-idx1-ubyte").write_bytes(
            bytes((0, 0, 8, 1)) + count.to_bytes(4, "big") + bytes(count)
        )
    return tmp_path


def test_a_threshold_and_a_fixed_sample(grey):
    pixels = {split: data.load("mnist", grey, split, verify=False).items for split in ("fit", "valid", "test")}
    for seed, (split, x) in enumerate(pixels.items(), 1):
        by = {how: data.load("mnist", grey, split, verify=False, binarize=how) for how in ("threshold", "stochastic")}
        assert all(got.classes == 2 and got.labels is not None and not got.grey for got in by.values())
        same(by["threshold"].items, (x > 127).to(torch.uint8))
        drawn = np.random.Generator(np.random.PCG64(seed)).random(x[:, 0].shape, dtype=np.float32)
        same(
            by["stochastic"].items[:, 0], torch.from_numpy((drawn * np.float32(255) < x[:, 0].numpy()).astype(np.uint8))
        )
    whole = data.load("mnist", grey, "train", verify=False, binarize="stochastic")
    parts = [data.load("mnist", grey, split, verify=False, binarize="stochastic").items for split in ("fit", "valid")]
    same(whole.items, torch.cat(parts))
    assert data.load("fashion_mnist", grey, "test", verify=False, binarize="threshold").classes == 2
    with pytest.raises(ArdmError, match="unknown binarisation: 'treshold'; did you mean 'threshold'"):
        data.load("mnist", grey, "fit", verify=False, binarize="treshold")  # codespell:ignore treshold


def test_binarize_draws_with_the_intensity_as_probability():
    batch = torch.tensor([0, 51, 204, 255], dtype=torch.uint8).expand(5000, -1)
    before = torch.random.get_rng_state()
    got = data.binarize(batch, torch.Generator().manual_seed(0))
    assert got.dtype == torch.uint8
    assert got.float().mean(0)[[0, 3]].tolist() == [0, 1]
    assert (got.float().mean(0)[1:3] - torch.tensor([0.2, 0.8])).abs().max() < 0.03
    same(got, data.binarize(batch, torch.Generator().manual_seed(0)))
    assert not torch.equal(got, data.binarize(batch, torch.Generator().manual_seed(1)))
    same(torch.random.get_rng_state(), before)
    assert data.binarize(batch.long(), torch.Generator()).dtype == torch.long


# ----------------------------------------------------------------------------------------------------------- Omniglot


def drawing(seed: int) -> np.ndarray:
    """Ink (105, 105), 1."""
    return (np.random.default_rng(seed).random((105, 105)) < 0.3).astype(np.uint8)


def draw(root, name: str, alphabet: str, character: int, drawers, seed: int = 0) -> None:
    for d in drawers:
        path = root / name / alphabet / f"character{character:02}" / f"{character:04}_{d:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawing(seed + 100 * character + d) == 0).save(path)  # white paper, black ink


@pytest.fixture
def omniglot(tmp_path):
    for character in (1, 2):
        draw(tmp_path, "images_background", "Greek", character, range(1, 21))
    draw(tmp_path, "images_evaluation", "Angelic", 1, range(1, 21), seed=5000)
    return tmp_path


def test_omniglot_by_drawer(omniglot):
    for split, drawers in (("train", range(1, 17)), ("valid", (17, 18)), ("test", (19, 20))):
        got = data.load("omniglot", omniglot, split, size=105, verify=False)
        expected = [drawing(5000 + 100 + d) for d in drawers] + [drawing(100 * c + d) for c in (1, 2) for d in drawers]
        assert (got.items[:, 0].numpy() == np.stack(expected)).all()
        assert got.labels.tolist() == [k for k in range(3) for _ in drawers]
        assert (got.classes, got.shape) == (2, (1, 105, 105))
    assert len(data.load("omniglot", omniglot, "test", set="background", verify=False)) == 4


def test_omniglot_is_shrunk_by_averaging(omniglot):
    blocks = np.random.default_rng(0).integers(0, 2, (7, 7))
    blocks[0, 0] = 0
    path = next((omniglot / "images_evaluation").rglob("*_19.png"))
    for column, some in ((slice(4), 1), (slice(3), 0)):  # 4 of the 16 pixels of a box, and 3 of them
        paper = blocks.repeat(15, 0).repeat(15, 1)
        paper[column, 0] = 1
        Image.fromarray(paper == 0).save(path)
        got = data.load("omniglot", omniglot, "test", set="evaluation", verify=False).items[0, 0].numpy()
        expected = blocks.repeat(4, 0).repeat(4, 1)
        expected[0, 0] = some
        assert (got == expected).all()


def test_omniglot_archives_and_shared_drawings(tmp_path, omniglot, monkeypatch):
    places = {name: omniglot / name for name in ("images_background", "images_evaluation")}
    zipped = tmp_path / "zips"
    zipped.mkdir()
    for name, place_ in places.items():
        with zipfile.ZipFile(zipped / f"{name}.zip", "w") as archive:
            for path in place_.rglob("*.png"):
                archive.write(path, path.relative_to(omniglot).as_posix())
            archive.writestr(f"{name}/notes.txt", "x")
        monkeypatch.setitem(drawings._MD5, name, hashlib.md5((zipped / f"{name}.zip").read_bytes()).hexdigest())
    a, b = (data.load("omniglot", folder, "train", verify=False) for folder in (omniglot, zipped))
    same(a.items, b.items)
    same(a.labels, b.labels)
    monkeypatch.setitem(drawings._SETS, "all", (tuple(places), 60))
    assert len(data.load("omniglot", zipped, "train")) == 48
    monkeypatch.setitem(drawings._MD5, "images_background", "0" * 32)
    with pytest.raises(ArdmError, match="not the published file"):
        data.load("omniglot", zipped, "train")
    for name in ("images_background_small1", "images_background_small2"):
        draw(tmp_path / "small", name, "Greek", 1, range(1, 21))
    draw(tmp_path / "small", "images_background_small2", "Latin", 1, range(1, 21))
    assert len(data.load("omniglot", tmp_path / "small", "test", set="small", verify=False)) == 4


def test_omniglot_refuses(omniglot):
    with pytest.raises(ArdmError, match="holds 60 drawings of the set 'all', expected 32460"):
        data.load("omniglot", omniglot, "test")
    with pytest.raises(ArdmError, match="no images_background_small1 in"):
        data.load("omniglot", omniglot, "test", set="small1")
    with pytest.raises(ArdmError, match="size is 32, expected 28 or 105"):
        data.load("omniglot", omniglot, "test", size=32)
    path = next((omniglot / "images_evaluation").rglob("*_20.png"))
    Image.new("1", (28, 28)).save(path)
    with pytest.raises(ArdmError, match=r"_20\.png is 28 x 28"):
        data.load("omniglot", omniglot, "test", set="evaluation", verify=False)
    path.write_bytes(b"no image")
    with pytest.raises(ArdmError, match=r"_20\.png cannot be read"):
        data.load("omniglot", omniglot, "test", set="evaluation", verify=False)


# -------------------------------------------------------------------------------------------------------------- sound


def clip(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**15), 2**15, length).astype("<i2")


def write_wav(path, samples: np.ndarray, rate: int = 8000, channels: int = 1, width: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())


@settings(deadline=None)
@given(size=st.integers(0, 60), length=st.integers(1, 20), stride=st.integers(1, 20))
def test_windows_cover_a_clip_and_pad_nothing(size, length, stride):
    whole = torch.arange(size)
    got = windows(whole, length, stride)
    assert got.shape[1] == length
    assert all(row.tolist() == list(range(int(row[0]), int(row[0]) + length)) for row in got)
    assert bool(len(got)) == (size >= length)
    if len(got) and stride <= length:
        assert set(got.flatten().tolist()) == set(range(size))
    starts = got[:, 0].tolist()
    assert starts == sorted(set(starts)), "no window comes twice"
    assert all(start % stride == 0 for start in starts[:-1])


def test_a_folder_of_sounds(tmp_path):
    stereo = clip(200, 1).reshape(100, 2)
    write_wav(tmp_path / "b.wav", clip(50, 2))
    write_wav(tmp_path / "a" / "s.WAV", stereo, channels=2)
    write_wav(tmp_path / "c.wav", clip(10, 3))
    got = data.load("sounds", tmp_path, length=40)
    assert (got.classes, got.rate, got.dropped, got.items.dtype) == (65536, 8000, 1, torch.int32)
    ours = [stereo[:, 0], stereo[:, 1], clip(50, 2)]
    expected = [
        c[s : s + 40] for c, starts in zip(ours, ((0, 40, 60), (0, 40, 60), (0, 10)), strict=True) for s in starts
    ]
    assert (got.items.numpy() - 32768 == np.stack(expected)).all()
    whole = data.clips("sounds", tmp_path)
    assert [len(c) for c in whole.clips] == [100, 100, 50, 10]
    assert (whole.clips[2].numpy() - 32768 == ours[2]).all()
    with pytest.raises(ArdmError, match=r"all 4 clips .* shorter than length 101; the longest has 100"):
        data.load("sounds", tmp_path, length=101)


def test_sounds_are_split_by_path(tmp_path):
    for n in range(60):
        write_wav(tmp_path / f"{n}.wav", np.full(8, n, "<i2"))
    parts = {split: data.load("sounds", tmp_path, split, length=8) for split in ("train", "test")}
    assert {int(x[0]) - 32768 for x in parts["train"].items} == {n for n in range(60) if fraction(f"{n}.wav") < 0.9}
    assert {int(x[0]) - 32768 for x in parts["test"].items} == {n for n in range(60) if fraction(f"{n}.wav") >= 0.95}
    same(data.load("sounds", tmp_path, "fit", length=8).items, parts["train"].items)
    assert len(data.load("sounds", tmp_path, "train", length=4)) == 5 * len(parts["train"]), "overlapping by default"


def test_sounds_refuse_and_name(tmp_path):
    write_wav(tmp_path / "a.wav", clip(50))
    write_wav(tmp_path / "b.wav", clip(50), rate=16000)
    with pytest.raises(ArdmError, match=r"b\.wav has 16000 samples per second, expected 8000 like .*a\.wav"):
        data.load("sounds", tmp_path)
    with pytest.raises(ArdmError, match=r"a\.wav has 8000 samples per second, expected 16000 as requested"):
        data.load("sounds", tmp_path, rate=16000)
    write_wav(tmp_path / "b.wav", np.zeros(9, np.uint8), width=1)
    with pytest.raises(ArdmError, match=r"b\.wav has 8 bits per sample, expected 16"):
        data.load("sounds", tmp_path)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    with pytest.raises(ArdmError, match=r"b\.wav cannot be read as sound"):
        data.load("sounds", tmp_path)
    with pytest.raises(ArdmError, match="unknown data set of sounds: 'mnist'"):
        data.clips("mnist", tmp_path)


def test_flac(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.flac", clip(300), 8000, subtype="PCM_16")
    assert (data.clips("sounds", tmp_path).clips[0].numpy() - 32768 == clip(300)).all()
    monkeypatch.setattr("ardm.codec.flac_stream.soundfile_package", lambda: None)
    assert (data.clips("sounds", tmp_path).clips[0].numpy() - 32768 == clip(300)).all()


@pytest.fixture
def fsdd(tmp_path):
    for digit, speaker, take in itertools.product((3, 7), ("ann", "bob"), range(50)):
        path = tmp_path / "recordings" / f"{digit}_{speaker}_{take}.wav"
        write_wav(path, np.full(20 if take == 9 else 30, 100 * digit + take, "<i2"))
    return tmp_path


def test_fsdd_takes(fsdd):
    for split, takes in (("train", range(5, 50)), ("fit", range(10, 50)), ("valid", range(5, 10)), ("test", range(5))):
        whole = data.clips("fsdd", fsdd, split, verify=False)
        assert [int(c[0]) - 32768 for c in whole.clips] == [100 * d + t for d in (3, 7) for _ in "ab" for t in takes]
        assert whole.label == [d for d in (3, 7) for _ in range(2 * len(takes))]
        assert whole.rate == 8000
    valid = data.load("fsdd", fsdd, "valid", length=25, verify=False)
    assert (valid.dropped, len(valid)) == (4, 2 * 4 * 4), "two windows a clip, one clip of each speaker and digit short"
    assert valid.labels.tolist() == [3] * 16 + [7] * 16
    with pytest.raises(ArdmError, match="has 20 recordings of the split 'test', expected 300"):
        data.load("fsdd", fsdd, "test")
    with pytest.raises(ArdmError, match=r"no recordings of FSDD .* expected files such as .*github"):
        data.load("fsdd", fsdd / "nowhere", "test")


def test_fsdd_counts_are_demanded(fsdd, monkeypatch):
    monkeypatch.setattr(speech, "_DIGITS", 2)
    monkeypatch.setattr(speech, "_FSDD_SPEAKERS", 2)
    assert len(data.load("fsdd", fsdd / "recordings", "test", length=30)) == 20


@pytest.fixture
def sc09(tmp_path):
    home = tmp_path / "sc"
    lists = {"validation_list.txt": ["one/b.wav", "bed/b.wav"], "testing_list.txt": ["nine/c.wav", "one/c.wav"]}
    for n, key in enumerate(["one/a.wav", "one/b.wav", "one/c.wav", "nine/a.wav", "nine/c.wav", "bed/b.wav"]):
        write_wav(home / key, np.full(16000 - n, 50 + n, "<i2"), rate=16000)
    for name, keys in lists.items():
        (home / name).write_text("".join(key + "\n" for key in keys))
    return home


def test_sc09_protocol(sc09):
    for split, values, labels in (("train", [50, 53], [1, 9]), ("valid", [51], [1]), ("test", [52, 54], [1, 9])):
        got = data.load("sc09", sc09, split, verify=False)
        assert (got.items[:, 0] - 32768).tolist() == values
        assert got.labels.tolist() == labels
        assert (got.shape, got.classes, got.rate) == ((16000,), 65536, 16000)
        for row, value in zip(got.items, values, strict=True):
            size = 16000 - (value - 50)
            assert (row[:size] - 32768 == value).all()
            assert (row[size:] == 32768).all(), "silence at the end"
    assert [len(c) for c in data.clips("sc09", sc09, "test", verify=False).clips] == [15998, 15996]
    with pytest.raises(ArdmError, match="has 2 digits of the split 'train', expected 31158"):
        data.load("sc09", sc09, "train")
    write_wav(sc09 / "two" / "a.wav", clip(16001), rate=16000)
    with pytest.raises(ArdmError, match="more than 16000 samples"):
        data.load("sc09", sc09, "train", verify=False)
    with pytest.raises(ArdmError, match=r"no Speech Commands in .*put speech_commands_v0\.02\.tar\.gz"):
        data.load("sc09", sc09 / "one", "train")


def test_sc09_archive_gives_digits_and_nothing_else(sc09, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    archive = folder / "speech_commands_v0.02.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(sc09.rglob("*.*")):
            tar.add(path, "./" + path.relative_to(sc09).as_posix())
        for name in ("../one/evil.wav", "/one/evil.wav", "one/../../evil.wav", "_background_noise_/n.wav"):
            tar.addfile(tarfile.TarInfo(name))
    got = data.load("sc09", folder, "train", verify=False)
    same(got.items, data.load("sc09", sc09, "train", verify=False).items)
    home = folder / "speech_commands_v0.02"
    found = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    digits = {f"one/{take}.wav" for take in "abc"} | {"nine/a.wav", "nine/c.wav"}
    assert found == digits | {"validation_list.txt", "testing_list.txt"}
    assert not list(tmp_path.rglob("evil.wav"))
    archive.write_bytes(archive.read_bytes()[:2000])
    assert len(data.load("sc09", folder, "train", verify=False)) == 2, "unpacked once"


def test_a_broken_archive_is_not_taken_for_unpacked(sc09, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    archive = folder / "speech_commands_v0.02.tar.gz"
    archive.write_bytes(b"no archive")
    with pytest.raises(ArdmError, match=r"not the published file: SHA-256 .*or set data\.verify=false"):
        data.load("sc09", folder, "train")
    for _ in range(2):
        with pytest.raises(ArdmError, match="cannot unpack"):
            data.load("sc09", folder, "train", verify=False)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(sc09 / "one" / "a.wav", "one/a.wav")
    for _ in range(2):
        with pytest.raises(ArdmError, match="it lacks its lists"):
            data.load("sc09", folder, "train", verify=False)


# ------------------------------------------------------------------------------------------------------------- schema

cells = st.text(st.characters(codec="utf-8"), max_size=6)


@st.composite
def tables(draw):
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=8))
    names = draw(st.lists(cells, min_size=width, max_size=width))
    return names, rows


def canonical(rows: list[list[str]], delimiter: str, ending: str) -> str:
    """Quoted where a value holds what means something else, and where it is empty and alone."""

    def cell(value: str, alone: bool) -> str:
        quoted = set(value) & {delimiter, '"', "\r", "\n"} or (alone and not value)
        return f'"{value.replace(chr(34), chr(34) * 2)}"' if quoted else value

    return "".join(delimiter.join(cell(value, len(row) == 1) for value in row) + ending for row in rows)


@settings(deadline=None)
@given(tables(), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_canonical_text_comes_back(table, delimiter, ending, header):
    names, rows = table
    text = canonical([names, *rows] if header else rows, delimiter, ending)
    assert list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)) == ([names, *rows] if header else rows)
    schema, codes = learn(text, header, delimiter)
    assert schema.decode(codes) == text
    assert schema.encode(text) == codes
    assert [[kinds[c] for kinds, c in zip(schema.categories, row, strict=True)] for row in codes] == rows
    again = Schema.from_values(json.loads(json.dumps(schema.to_values())))
    assert again == schema
    assert again.encode(text) == codes


TEXT = "colour,size\nred,10\nblue,9\nred,9\n"


def test_learn():
    schema, codes = learn(TEXT)
    assert schema == Schema(("colour", "size"), (("blue", "red"), ("9", "10")))
    assert schema.columns == (2, 2)
    assert codes == [[1, 1], [0, 0], [1, 0]]
    for text in (TEXT, TEXT[:-1], TEXT.replace("\n", "\r\n"), TEXT.replace(",", ";"), TEXT.replace(",", "\t")):
        schema, again = learn(text)
        assert again == codes
        assert schema.decode(again) == text


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("a,b\n1,2\n", True),
        ("1,2\n3,4\n", False),
        ("a,1\nb,2\n", False),  # a number is no name
        ("red,x\nblue,y\nred,z\n", False),  # it comes again
        ("a,a\nb,c\n", False),
        ("a,\nb,c\n", False),
        ("a,b\n", False),  # nothing would be left
    ],
)
def test_a_header_is_found_out(text, header):
    assert learn(text)[0].header is header
    assert learn(text + "x,y\n", header=True)[0].header


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no rows"),
        ("a,b\n1\n", "row 1 has 1 values, expected 2"),
        ("a,b\n1,2\n\n", "row 2 has 0 values"),
        ('a,b\n"x,1\n', "is not CSV: line"),
        ('a,b\n"x"y,1\n', "is not CSV: line 2"),
    ],
)
def test_learn_refuses(text, says):
    with pytest.raises(ArdmError, match=says):
        learn(text, header=True)


def test_identifiers_are_refused_with_advice():
    many = "id,kind\n" + "".join(f"{n},x\n" for n in range(1500))
    with pytest.raises(ArdmError, match=r"'id' has 1500 distinct values in 1500 rows, .*leave it out .data.drop."):
        learn(many)
    assert learn(many + many.partition("\n")[2] * 2)[0].columns == (1500, 1), "each comes three times"
    assert learn("id\n" + "".join(f"{n}\n" for n in range(1000)))[0].columns == (1000,)
    with pytest.raises(ArdmError, match=f"1 to {MAX_CATEGORIES} distinct"):
        Schema(("a",), (tuple(map(str, range(MAX_CATEGORIES + 1))),))


def test_a_schema_names_what_it_does_not_know():
    schema, _ = learn(TEXT)
    with pytest.raises(ArdmError, match="row 2, column 'colour': 'rad' is not a known value; did you mean 'red'"):
        schema.encode("colour,size\nred,9\nrad,9\n")
    with pytest.raises(ArdmError, match="row 1, column 'size': '' is not a known value; known are '9', '10'"):
        schema.encode("colour,size\nred,\n")
    with pytest.raises(ArdmError, match="the first line must name the columns colour, size; it is"):
        schema.encode("red,9\n")
    with pytest.raises(ArdmError, match="row 1 has 3 values, expected 2"):
        schema.encode("colour,size\nred,9,9\n")
    for row, says in (([2, 0], "class 2 is not in 0..1"), ([-1, 0], "class -1"), ([0], "has 1 classes")):
        with pytest.raises(ArdmError, match=says):
            schema.decode([row])
    assert schema.encode("colour,size\n") == []
    assert schema.decode([]) == "colour,size\n"


@pytest.mark.parametrize(
    "change",
    [
        {"names": ["a"]},
        {"names": "ab"},
        {"names": None},
        {"categories": [["x"], ["y", "y"]]},
        {"categories": [["x"], []]},
        {"categories": [["x"], [1]]},
        {"header": 1},
        {"delimiter": ",,"},
        {"delimiter": 3},
        {"line_ending": "\r"},
        {"more": 1},
    ],
)
def test_a_schema_from_wrong_values(change):
    good = Schema(("a", "b"), (("x",), ("y", "z"))).to_values()
    assert Schema.from_values(good).columns == (1, 2)
    with pytest.raises(ArdmError):
        Schema.from_values({**good, **change})


# ------------------------------------------------------------------------------------------------------------- tables


def test_a_table_and_its_splits(tmp_path):
    rng = np.random.default_rng(0)
    rows = [["abc"[rng.integers(3)], str(rng.integers(300))] for _ in range(800)]
    text = "letter,number\n" + "".join(",".join(row) + "\n" for row in rows)
    (tmp_path / "t.csv").write_text(text)
    whole = data.load("table", tmp_path)
    assert whole.columns == tuple(len({row[n] for row in rows}) for n in range(2))
    assert whole.classes == max(whole.columns)
    assert whole.items.dtype == torch.from_numpy(np.zeros(1, smallest(whole.classes))).dtype
    assert whole.schema.decode(whole.items.tolist()) == text
    parts = {split: data.load("table", tmp_path / "t.csv", split) for split in ("train", "valid", "test")}
    assert sum(map(len, parts.values())) == 800
    assert abs(len(parts["train"]) - 720) < 50
    assert all(part.columns == whole.columns and part.schema == whole.schema for part in parts.values())
    same(data.load("table", tmp_path, "fit").items, parts["train"].items)
    (tmp_path / "t.csv").write_text(text + "a,5\n" * 50)
    longer = data.load("table", tmp_path, "train")
    same(longer.items[: len(parts["train"])], parts["train"].items)


def test_a_table_of_numbers(tmp_path):
    values = np.array([[5, 100], [7, 100], [5, 3]])
    np.save(tmp_path / "t.npy", values)
    got = data.load("table", tmp_path / "t.npy")
    assert got.items.tolist() == [[0, 1], [1, 1], [0, 0]]
    assert (got.columns, got.classes) == ((2, 2), 2)
    assert got.schema.decode(got.items.tolist()) == "5,100\n7,100\n5,3\n"
    np.save(tmp_path / "t.npy", values[None])
    with pytest.raises(ArdmError, match="expected \\(rows, columns\\)"):
        data.load("table", tmp_path / "t.npy")


def test_tables_refuse(tmp_path):
    with pytest.raises(ArdmError, match=r"must be a table .* or a folder with one; there is none"):
        data.load("table", tmp_path)
    for name in ("a.csv", "b.tsv"):
        (tmp_path / name).write_text("x\ny\nx\n")
    with pytest.raises(ArdmError, match=r"it holds a\.csv, b\.tsv"):
        data.load("table", tmp_path)
    with pytest.raises(ArdmError, match=r"none of the 3 rows .* falls into the split"):
        for split in ("train", "valid", "test"):
            data.load("table", tmp_path / "a.csv", split)
    (tmp_path / "a.csv").write_bytes(b"caf\xe9\n")
    with pytest.raises(ArdmError, match="is not UTF-8: byte 233 at position 3"):
        data.load("table", tmp_path / "a.csv")


def test_fit_is_train_in_a_folder_of_arrays(tmp_path):
    """As for all data without a published validation set; recipes train on "fit" by default."""
    for name, n in (("train", 3), ("valid", 2)):
        np.save(tmp_path / f"{name}.npy", np.full((n, 2), n))
    same(data.load("array", tmp_path, "fit").items, data.load("array", tmp_path, "train").items)
    assert data.load("array", tmp_path, "fit").name.endswith("/train")
    np.save(tmp_path / "fit.npy", np.full((1, 2), 1))
    assert len(data.load("array", tmp_path, "fit")) == 1


def test_some_items_stand_for_all():
    """Of items in a meaningful order, such as a folder for each class, the first ones would be of one class."""
    items, labels = torch.arange(10)[:, None], torch.arange(10) // 5
    sorted_items = data.Dataset(items, 10, "t", labels)
    assert sorted_items.some(4).items[:, 0].tolist() == [0, 2, 5, 7]
    assert sorted_items.some(4).labels.tolist() == [0, 0, 1, 1]
    assert data.Dataset(items, 10, "t", labels, shuffled=True).some(4).items[:, 0].tolist() == [0, 1, 2, 3]
    assert sorted_items.some(0) is sorted_items is sorted_items.some(11)


@pytest.mark.parametrize(
    ("name", "one", "two", "shared"),
    [
        ("cifar10", "train", "valid", True),
        ("cifar10", "fit", "valid", False),
        ("fsdd", "train", "fit", True),
        ("fsdd", "train", "test", False),
        ("images", "train", "valid", False),
        ("images", "fit", "train", True),
        ("images", "all", "test", True),
        ("table", "train", None, True),
    ],
)
def test_splits_that_share_items(name, one, two, shared):
    assert data.share_items(name, one, two) == data.share_items(name, two, one) == shared


def test_columns_must_fit_the_items():
    schema = Schema(("a", "b"), (("x",), ("y", "z")))
    items = torch.zeros(3, 2, dtype=torch.uint8)
    part = data.Dataset(items, 2, "t", columns=(1, 2), schema=schema, rate=8, dropped=4).subset([0, 2])
    assert (part.columns, part.schema, part.rate, part.dropped, len(part)) == ((1, 2), schema, 8, 4, 2)
    for columns, count in (((1, 2, 2), 2), ((1, 3), 2)):
        with pytest.raises(ArdmError, match="columns of"):
            data.Dataset(items, count, "t", columns=columns)


# ------------------------------------------------------------------------------------------------------------- recipes


def test_a_recipe_sets_the_options_that_it_names(tmp_path):
    (tmp_path / "a.txt").write_bytes(letters(400))
    config = DataConfig("text", str(tmp_path))
    assert data.of_config(config, "train").shape == (256,)
    changed = replace(config, length=30, stride=10, alphabet="27")
    train = data.of_config(changed, "fit")
    assert (train.shape, train.classes, len(train)) == ((30,), 27, 34)
    with pytest.raises(
        ArdmError,
        match=r"data\.rate is set, but 'text' has no such option; .* length, stride, alphabet, suffixes, each$",
    ):
        data.of_config(replace(config, rate=8000), "train")
    with pytest.raises(ArdmError, match=r"data\.length is set, but 'cifar10' has no such option; .* verify$"):
        data.of_config(DataConfig(length=4), "train")
    with pytest.raises(ArdmError, match="unknown data set: 'txt'; did you mean 'text'"):
        data.of_config(replace(config, name="txt"), "train")


def test_a_recipe_can_say_no(tmp_path, grey):
    (tmp_path / "t.csv").write_text("a,b\nc,d\n")
    config = DataConfig("table", str(tmp_path / "t.csv"))
    assert data.of_config(config, None).schema.header
    assert not data.of_config(replace(config, header=False), None).schema.header
    with pytest.raises(ArdmError, match="not the published file"):
        data.of_config(DataConfig("mnist", str(grey)), "fit")
    assert len(data.of_config(DataConfig("mnist", str(grey), verify=False), "fit")) == 50


def test_only_training_is_binarised_anew(grey):
    config = DataConfig("mnist", str(grey), verify=False, binarize="dynamic")
    train = data.of_config(config, config.train, training=True)
    measured, valid = (data.of_config(config, split) for split in (config.train, config.valid))
    assert (train.grey, train.classes, int(train.items.max())) == (True, 2, 255)
    assert (measured.grey, measured.classes, int(measured.items.max())) == (False, 2, 1), (
        "to measure or to calibrate on"
    )
    same(valid.items, data.load("mnist", grey, "valid", verify=False, binarize="stochastic").items)
    assert not valid.grey


def test_every_option_of_a_recipe_is_of_some_reader():
    from inspect import signature

    taken = {name for reader in registry.READERS.values() for name in signature(reader).parameters}
    assert set(registry.UNSET) <= taken
    assert set(registry.UNSET) <= set(DataConfig.__dataclass_fields__)
    plain = {"name", "folder", "train", "valid", "download", "flip", "rotate", "labels"}
    assert set(DataConfig.__dataclass_fields__) - plain == set(registry.UNSET)


def test_errors_name_settings_that_the_command_line_has_too():
    """Not a keyword of Python alone: over the source of every reader."""
    for path in sorted(Path(data.__file__).parent.glob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for keyword, setting in (("download=True", "data.download=true"), ("verify=False", "data.verify=false")):
                told = line.lstrip().startswith(('f"', "raise", "get =")) and keyword in line
                assert not told or f"{setting} (from Python: {keyword})" in line, f"{path.name}:{number}"
