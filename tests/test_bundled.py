"""The codec model in the package, on the photographs in the package."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import ardm
from ardm.codec import decode, encode, registry
from ardm.content import Content, Kind
from ardm.exact.certificate import certify
from ardm.exact.model import fingerprint
from ardm.export.stream import SINGLE
from ardm.formats import read
from ardm.media.pictures import read_image

DEMO = Path(str(resources.files("ardm") / "assets" / "demo"))
GOLDEN = Path(__file__).parent / "golden"


def crop(name, y, x, h, w):
    return np.ascontiguousarray(read_image(DEMO / f"{name}.png").numpy()[:, y : y + h, x : x + w])


@pytest.fixture(scope="module")
def model():
    return registry.model(registry.pictures())


@pytest.mark.parametrize("backend", ["float32", "float64", "int64", "numpy"])
def test_every_backend_proves_itself(model, backend):
    assert fingerprint(model, registry._made(model, backend, "cpu")) == model.golden


def test_sums_inside_the_network_fit_float32(model):
    """All but one layer, which PyTorch sums in float64 after this training; C sums all of them in 32 bits."""
    peaks = [bound.peak for name, bound in certify(model.program).items() if name.startswith(("up", "down"))]
    assert sum(peak > SINGLE for peak in peaks) <= 1
    assert max(peaks) < 2**31


def test_a_higher_level_takes_fewer_bits():
    """Eight tiles, by every model that a level names."""
    tiles = [[crop("tiles", 32, x, 32, 32)] for x in range(0, 256, 32)]
    names = list(dict.fromkeys(registry.pictures(level) for level in range(1, 10)))
    assert names[0] == "pictures-small"
    bits = [sum(job[0].bits for job in registry.coder(name).encode(tiles)) for name in names]
    assert bits == sorted(bits, reverse=True)


def test_a_pixel_more_is_not_a_tile_more():
    """33×33 pixels cost no more a pixel than 32×32 of them and a header."""
    coder = registry.coder()
    small, large = crop("astronaut", 8, 8, 32, 32), crop("astronaut", 8, 8, 33, 33)
    bits = [next(iter(coder.encode([[part]])))[0].bits for part in (small, large)]
    assert bits[1] / large.size <= (bits[0] + 8 * 16) / small.size


def test_smaller_than_png_and_webp():
    """The figure of the README in small: 8 tiles, each a file of its own, headers included."""
    import io

    from PIL import Image

    sizes = np.zeros(3, dtype=int)
    coder = registry.coder()
    for x in range(0, 256, 32):
        tile = crop("tiles", 32, x, 32, 32)
        sizes[0] += len(encode.compress(Content(Kind.IMAGE, tile, "png"), coder)[0])
        for k, options in enumerate(
            [{"format": "PNG", "optimize": True}, {"format": "WEBP", "lossless": True, "method": 6}]
        ):
            file = io.BytesIO()
            Image.fromarray(np.moveaxis(tile, 0, 2)).save(file, **options)
            sizes[1 + k] += file.tell()
    assert sizes[0] < 0.9 * sizes[2] < 0.9 * sizes[1]


@pytest.mark.parametrize("name", sorted(p.stem for p in GOLDEN.glob("bundled-*.ardm")))
def test_files_of_the_bundled_models_decode_for_ever(name):
    """Whatever models later versions bring: those in the package at a release stay."""
    wanted = json.loads((GOLDEN / "bundled.json").read_text())[name]
    found = ardm.decompress((GOLDEN / f"{name}.ardm").read_bytes())
    assert found.numpy().tobytes().hex()[:64] == wanted["begins"]
    y, x, h, w = wanted["crop"]
    assert np.array_equal(found.numpy(), crop(wanted["picture"], y, x, h, w))


def test_a_picture_with_everything_comes_back():
    path = DEMO / "coffee.png"
    loaded = read(path.read_bytes(), path.name)
    data, report = encode.compress(loaded.content, registry.coder(), path.read_bytes())
    assert not report.stored
    assert decode.decompress(data, registry.maker()) == loaded.content
