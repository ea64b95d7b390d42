"""The bundled codec models of text, sound and grey images: chosen automatically, exact, and stable."""

import hashlib
import lzma
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ardm.codec import decode, encode, registry, sampling
from ardm.codec.selection import Engine
from ardm.content import Content, Kind
from ardm.exact.model import fingerprint
from ardm.formats import read

GOLDEN = Path(__file__).parent / "golden"
VERSE = "And the earth was without form, and void; and darkness was upon the face of the deep."
LETTERS = "in the beginning god created the heaven and the earth and the earth was without form and void"


def voice(rate):
    """A fifth of a second of "six" (Speech Commands, P. Warden, Google, CC BY 4.0), at 16 kHz or every second sample."""
    whole = read((GOLDEN / "voice.wav").read_bytes(), "voice.wav").content
    return Content(Kind.AUDIO, whole.samples[:, :, :: 16000 // rate].copy(), "wav", rate=rate)


def stroke():
    """What the model of grey pictures itself would draw, 28 × 28."""
    return Content(Kind.IMAGE, sampling.sample("grey", 1, (28, 28), seed=4)[0].astype(np.uint8), "png")


CONTENTS = {
    "text27": Content.of_bytes(LETTERS.encode()),
    "english": Content.of_bytes(VERSE.encode()),
    "speech8k": voice(8000),
    "speech16k": voice(16000),
    "grey": stroke(),
}


def test_no_golden_is_that_of_nothing():
    """A self-test at steps that an item does not have would let every machine pass."""
    for name in registry.bundled():
        assert registry.model(name).golden != hashlib.sha256().hexdigest()


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("backend", ["float32", "float64", "int64", "numpy"])
def test_every_backend_proves_itself(name, backend):
    model = registry.model(name)
    assert fingerprint(model, registry._made(model, backend, "cpu")) == model.golden


@pytest.mark.parametrize("name", CONTENTS)
def test_a_bundled_model_is_chosen_automatically_and_restores(name):
    content = CONTENTS[name]
    if content.kind == Kind.AUDIO:  # a step for each sample of a stream
        content = replace(content, samples=content.samples[..., :300].copy())
    coder = Engine().coder(content)
    assert coder.model.name == name
    data, report = encode.compress(content, coder)
    assert not report.stored
    assert decode.decompress(data, registry.maker()) == content


@pytest.mark.parametrize("name", ["text27", "english"])
def test_a_line_of_text_is_half_of_what_deflate_makes_of_it(name):
    data, _ = encode.compress(CONTENTS[name], Engine().coder(CONTENTS[name]))
    raw = CONTENTS[name].samples.tobytes()
    assert len(data) < 0.6 * min(len(zlib.compress(raw, 9)), len(lzma.compress(raw, lzma.FORMAT_ALONE)))


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n[:6] == "speech")) for n in CONTENTS])
def test_files_decode_for_ever(name):
    """Whatever models later versions bring: those in the package at a release stay."""
    assert decode.decompress((GOLDEN / f"lines-{name}.ardm").read_bytes(), registry.maker()) == CONTENTS[name]


def test_samples_are_the_same_everywhere():
    made = sampling.sample("text27", 2, (1, 40), seed=3)
    assert made.shape == (2, 1, 1, 40)
    assert np.array_equal(made[:1], sampling.sample("text27", 1, (1, 40), seed=3))
