"""Pictures for a codec: every kind is there, in its share, the same each time, and JPEG files are never taken unreduced."""

import numpy as np
import pytest
import torch
from PIL import Image

from ardm import data
from ardm.data.drawn import KINDS, drawn
from ardm.errors import ArdmError
from ardm.train.recipe import DataConfig


@pytest.fixture
def photos(tmp_path):
    """Eight photographs, 80 × 100, whose red channel says which; one is too small, one is a JPEG."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(8):
        pixels = rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)
        pixels[..., 0] = n
        Image.fromarray(pixels).save(folder / "more" / f"{n}.png")
    Image.fromarray(np.zeros((20, 400, 3), np.uint8)).save(folder / "small.png")
    Image.fromarray(np.full((80, 100, 3), 99, np.uint8)).save(folder / "past.jpg")
    return folder


@pytest.fixture
def cifar(tmp_path):
    """Two records a file."""
    rng, home = np.random.default_rng(1), tmp_path / "data"
    home.mkdir()
    for name in [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]:
        records = rng.integers(0, 256, (2, 3073), dtype=np.uint8)
        records[:, 0] = 0
        records.tofile(home / name)
    return home


def equal_channels(items):
    return (items == items[:, :1]).flatten(1).all(1)


def test_the_kinds_have_their_shares(cifar, photos):
    made = data.load("pictures", cifar, None, photos=str(photos), crops=90, verify=False, grey=0.2, synthetic=0.1)
    taken = 10 + 9 * 9  # of the photograph that is too small, none
    total = len(made)
    assert made.shape == (3, 32, 32)
    assert made.classes == 256
    assert total == taken + round(0.2 * taken / 0.7) + round(0.1 * taken / 0.7)
    red = made.items[:, 0].flatten(1)
    crops = [(red == n).all(1).sum() for n in range(8)]
    assert sum(crops) >= 72
    assert equal_channels(made.items).sum() >= round(0.2 * taken / 0.7)
    assert "10 of 10 photographs" in made.about


def test_it_is_the_same_each_time_and_its_parts_share_no_photograph(cifar, photos):
    options = {"photos": str(photos), "crops": 50, "verify": False, "reduce": (2,), "grey": 0.0, "synthetic": 0.0}
    one, two = (data.load("pictures", cifar, "fit", **options) for _ in range(2))
    assert one.fingerprint == two.fingerprint
    files = [set(data.load("pictures", cifar, split, **options).files.used) for split in ("train", "valid", "test")]
    assert not files[0] & files[1]
    assert len(set.union(*files)) == 10
    assert len(data.load("pictures", cifar, "valid", **{**options, "photos": ""})) == 1, "half of the last batch"


def test_crops_are_means_of_squares(tmp_path, photos):
    options = {"photos": str(photos), "crops": 40, "grey": 0.0, "synthetic": 0.0, "size": 24}
    flat = data.load("pictures", "", None, **options, reduce=(1,))
    assert len(flat) == 4 * 8, "neither the small one nor the JPEG"
    assert flat.items[:, 1].float().std() == pytest.approx(73.9, rel=0.05)
    halves = data.load("pictures", "", None, **options, reduce=(3,))
    assert halves.items[:, 1].float().std() == pytest.approx(73.9 / 3, rel=0.05)
    assert len(halves) == 4 * 9
    assert (halves.items[:, 0].flatten(1) == halves.items[:, 0, 0, :1]).all()


def test_synthetic_pictures_are_of_every_kind():
    items = torch.from_numpy(drawn(24, 32, np.random.default_rng(0)))
    assert items.shape == (24, 3, 32, 32)
    assert equal_channels(items).sum() >= 8
    assert len({item.numpy().tobytes() for item in items}) == 24
    colours = [len(item.flatten(1).unique(dim=1)[0]) for item in items]
    assert max(colours[:: len(KINDS)]) <= 7, "flat areas"


def test_settings_of_a_recipe_reach_it(cifar, photos):
    config = DataConfig(
        "pictures", str(cifar), "train", "valid", photos=str(photos), crops=20, reduce=(1, 2), grey=0.0, verify=False
    )
    assert len(data.of_config(config, "train")) > 20
    with pytest.raises(ArdmError, match=r"data\.photos is set, but 'cifar10' has no such option"):
        data.of_config(DataConfig(photos="there"), "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grey": 0.6, "synthetic": 0.5}, "less than 1 together"),
        ({"reduce": (0,)}, "at least 1"),
        ({"crops": -1}, "at least 1"),
        ({"size": 33}, "no pictures of 33 x 33"),
        ({"photos": "nowhere"}, "no folder"),
    ],
)
def test_what_cannot_be_is_refused(cifar, options, message):
    with pytest.raises(ArdmError, match=message):
        data.load("pictures", cifar, "fit", verify=False, **options)


def test_a_photograph_of_16_bits_is_refused(tmp_path, cifar):
    Image.fromarray(np.zeros((90, 90), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ArdmError, match="more than 8 bits"):
        data.load("pictures", cifar, None, verify=False, photos=str(tmp_path))


def test_grey_pictures_are_digits_photographs_and_synthetic(tmp_path, photos):
    digits = np.random.default_rng(1).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    for name in ("train", "t10k"):
        images = b"\0\0\10\3" + b"".join(n.to_bytes(4, "big") for n in digits.shape) + digits.tobytes()
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(images)
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(b"\0\0\10\1" + (40).to_bytes(4, "big") + bytes(40))
    options = {"verify": False, "photos": str(photos), "crops": 40, "synthetic": 0.2}
    x = data.load("grey", tmp_path, "train", **options).items
    assert x.shape[1:] == (1, 28, 28)
    held = {item.numpy().tobytes() for item in x}
    assert all(digit.tobytes() in held for digit in digits)
    assert len(x) > 40 / 0.8
    assert torch.equal(x, data.load("grey", tmp_path, "train", **options).items)
    options = {"verify": False, "synthetic": 0.5}
    parts = [data.load("grey", tmp_path, split, **options).items for split in ("train", "valid")]
    shared = set.intersection(*({item.numpy().tobytes() for item in part} for part in parts))
    assert shared < {digit.tobytes() for digit in digits}, "and no synthetic one"
