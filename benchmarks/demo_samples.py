"""What the page in the browser holds beside models: sizes of its sample pictures in other formats, and a file to decode.

python benchmarks/demo_samples.py      # writes docs/demo/samples/; needs the extra "bench"
"""

import json
from importlib import resources
from pathlib import Path

from ardm.bench.classical import classical
from ardm.bench.codec import Absent
from ardm.codec import encode, registry
from ardm.content import Content, Kind
from ardm.formats import read

DEMO = Path(str(resources.files("ardm") / "assets" / "demo"))
TARGET = Path(__file__).parents[1] / "docs" / "demo" / "samples"
PICTURES = ("cat", "astronaut", "coffee", "tiles")
CODECS = {"oxipng": "PNG, optimised", "WebP lossless": "WebP, lossless", "JPEG XL e9": "JPEG XL, lossless"}
FACE = slice(16, 64), slice(40, 88)
CALLS = 50


def sizes(name):
    """Bytes of a picture in each format."""
    content = read((DEMO / f"{name}.png").read_bytes()).content
    found = {}
    for codec in classical([content], names=CODECS):
        if isinstance(codec, Absent):
            raise SystemExit(f"{codec.name} is missing: {codec.why}")
        (found[CODECS[codec.name]],) = codec.compress([content]).sizes
    return found


def any_order():
    """The face of the cat, as the any-order model writes it."""
    samples = read((DEMO / "cat.png").read_bytes()).content.samples[:, FACE[0], FACE[1]].copy()
    return encode.compress(Content(Kind.IMAGE, samples, "png"), registry.coder("cifar10-any-order", CALLS))[0]


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    (TARGET / "sizes.json").write_text(json.dumps({name: sizes(name) for name in PICTURES}, indent=1) + "\n")
    (TARGET / "cat-any-order.ardm").write_bytes(any_order())
