"""Which bundled models are tried on a content, and which one codes it."""

import dataclasses

import numpy as np
import pytest

from ardm.codec import regions, registry, sampling
from ardm.codec.decode import decompress
from ardm.codec.describe import describe
from ardm.codec.encode import compress
from ardm.codec.model_coder import ModelCoder
from ardm.codec.selection import GREY, LETTERS, TEXT, TEXT_MOST, Engine, known_name, suited
from ardm.content import Content, Kind
from ardm.errors import ArdmError, CodecError, ModelMissing
from ardm.exact.model import NAME, CodecModel, fingerprint
from ardm.exact.reference import Reference
from ardm.files import pack as packing
from ardm.files.options import FileOptions
from linemodels import codec as model_of
from linemodels import sound
from waves import wave_model, wave_program

PICTURES = registry.pictures()
"""The bundled model of pictures."""


def image(C, H, W, dtype="u1"):
    return Content(Kind.IMAGE, np.zeros((C, H, W), dtype), "png")


def audio(rate, wide=True, channels=1, length=9):
    return Content(Kind.AUDIO, np.zeros((channels, 1, length), "<u2" if wide else "u1"), "wav", rate=rate)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (image(3, 32, 32), (PICTURES,)),
        (image(1, 28, 28), (GREY, PICTURES)),
        (image(1, 32, 2), (GREY, PICTURES)),
        (image(1, 256, 256), (GREY, PICTURES)),
        (image(1, 256, 257), (GREY,)),
        (image(1, 1, 28), (PICTURES,)),
        (image(2, 28, 28), (PICTURES,)),
        (image(15, 9, 9), (PICTURES,)),
        (image(3, 9, 9, "<u2"), (PICTURES,)),
        (audio(8000), ("speech8k",)),
        (audio(12000), ("speech8k",)),
        (audio(12001), ("speech16k",)),
        (audio(16000, channels=2), ("speech16k",)),
        (audio(24000), ("speech16k",)),
        (audio(24001), ()),
        (audio(44100), ()),
        (audio(0), ()),
        (audio(8000, wide=False), ()),
        (audio(8000, length=0), ("speech8k",)),
        (Content.of_bytes(b"the cat sat"), (LETTERS, TEXT)),
        (Content.of_bytes(b"The cat sat."), (TEXT,)),
        (Content.of_bytes(b"a\nb\tc\r\n"), (TEXT,)),
        (Content.of_bytes(b" "), (LETTERS, TEXT)),
        (Content.of_bytes(b""), ()),
        (Content.of_bytes(b"x" * 19 + b"\xff"), (TEXT,)),
        (Content.of_bytes(b"x" * 18 + b"\xff"), ()),
        (Content.of_bytes(bytes(range(256))), ()),
        (Content.of_bytes("\u4e2d\u6587" .encode() * 9), ()),
        (Content.of_bytes(b"x" * TEXT_MOST), (LETTERS, TEXT)),
        (Content.of_bytes(b"x" * (TEXT_MOST + 1)), ()),
        (Content(Kind.ARRAY, np.zeros((3, 8, 8), np.uint8), "npy", layout="x"), (PICTURES,)),
        (Content(Kind.ARRAY, np.zeros((1, 1, 80), np.uint8), "npy", layout="x"), (PICTURES,)),
    ],
    ids=lambda x: f"{x.kind.name} {x.shape}" if isinstance(x, Content) else "",
)  # fmt: skip
def test_what_is_tried(content, names):
    assert suited(content) == names


def test_bundled_models_are_those_that_are_tried():
    """Every bundled codec model is tried for its own kind of content; only `cifar10-any-order` must be named."""
    kinds = {
        **dict.fromkeys([*registry.PICTURES], "image"),
        GREY: "image",
        TEXT: "text",
        LETTERS: "text",
        "speech8k": "audio",
        "speech16k": "audio",
    }
    assert set(kinds) <= {*registry.bundled(), *registry.PICTURES}
    assert {*registry.bundled()} - {*kinds} == {"cifar10-any-order"}
    for name in {*kinds} & {*registry.bundled()}:
        assert registry.model(name).kind == kinds[name]


# --- levels: the size of the model of pictures ------------------------------------------------------------------------


def names_of_levels(monkeypatch, *here):
    monkeypatch.setattr(registry, "bundled", lambda: dict.fromkeys(here))
    return [suited(image(3, 9, 9), level)[0] for level in (*range(1, 10), None)]


@pytest.mark.parametrize(
    ("here", "names"),
    [
        (
            ("pictures-small", "pictures", "pictures-large"),
            ["pictures-small"] * 3 + ["pictures"] * 4 + ["pictures-large"] * 2 + ["pictures"],
        ),
        (("pictures-small", "pictures"), ["pictures-small"] * 3 + ["pictures"] * 7),
        (("pictures",), ["pictures"] * 10),
        ((), ["pictures-small"] * 3 + ["pictures"] * 4 + ["pictures-large"] * 2 + ["pictures"]),
    ],
)
def test_levels_choose_a_model_that_is_there(monkeypatch, here, names):
    assert names_of_levels(monkeypatch, *here) == names


@pytest.fixture
def sizes(monkeypatch, tmp_path):
    """Two tiny models along wavefronts as the small and the usual model of pictures; returns them by name."""
    models = {}
    for seed, name in enumerate(("pictures-small", "pictures"), 1):
        model = wave_model(wave_program(seed, width=3, inner=2, blocks=1, hidden=3), name=name)
        models[name] = dataclasses.replace(model, golden=fingerprint(model, Reference(model.program)))
        (tmp_path / name).mkdir()
        models[name].save(tmp_path / name / NAME)
    monkeypatch.setattr(registry, "bundled", lambda: {name: tmp_path / name / NAME for name in models})
    return models


def drawn(model, height=9, width=9, seed=0):
    """A picture that a model likes."""
    return Content(Kind.IMAGE, sampling.sample(model, 1, (height, width), seed=seed)[0].astype("u1"), "png")


def test_a_level_codes_with_a_model_of_its_size(sizes):
    content = drawn(sizes["pictures"])
    for level, name in ((1, "pictures-small"), (3, "pictures-small"), (None, "pictures"), (9, "pictures")):
        coder = Engine(level=level, backend="numpy").coder(content)
        assert (coder.model.name, coder.calls) == (name, 0)
    data, report = compress(content, coder)
    assert report.header_bytes == 7
    assert Engine(backend="numpy").models(sizes["pictures"].identity[:4], 0).model.name == "pictures"
    assert decompress(data, Engine(backend="numpy").models) == content
    assert known_name(describe(data)[0].model) == "pictures"
    assert known_name("ffff") == "ffff"


def test_a_model_with_one_order_has_no_number_of_calls(sizes):
    for engine in (Engine(calls=50, backend="numpy"), Engine("pictures", 50, backend="numpy")):
        with pytest.raises(
            ArdmError, match="model pictures codes along one order, so it has no number of calls; got 50"
        ):
            engine.coder(image(3, 9, 9))
    data, _ = compress(drawn(sizes["pictures"]), Engine(backend="numpy").coder(image(3, 9, 9)))
    with pytest.raises(ModelMissing, match=r"not here \(known: pictures-small"):
        Engine(backend="numpy").models("0000", 0)
    with pytest.raises(CodecError, match="damaged file"):
        Engine(backend="numpy").models(sizes["pictures"].identity[:4], 7)
    assert decompress(data, Engine(backend="numpy").models)


def test_bare_files_of_a_bundled_model(sizes):
    content = drawn(sizes["pictures-small"])
    engine = Engine("pictures-small", backend="numpy")
    data, report = compress(content, engine.coder(content), check=0, bare=True)
    assert len(data) - report.bits / 8 <= 2 + 33 / 8
    assert decompress(data, engine.models, bare=True) == content
    with pytest.raises(ModelMissing, match="a bare file does not say which model made it; name the model with -m"):
        decompress(data, Engine(backend="numpy").models, bare=True)
    data, _ = compress(content, engine.coder(content), bare=True)
    with pytest.raises(CodecError, match="another model made it"):
        decompress(data, Engine("pictures", backend="numpy").models, bare=True)


# --- which of them codes it -------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    """Tiny models under the names of bundled ones; returns the names that were asked for."""
    models = {"text27": "text", "english": "bytes", "speech8k": "sound"}
    asked = []

    def model(name):
        asked.append(str(name))
        if str(name) not in models:
            raise ModelMissing(f"no {name}")
        return model_of(models[str(name)])

    monkeypatch.setattr(registry, "model", lambda name: name if isinstance(name, CodecModel) else model(name))
    return asked


def test_the_model_that_takes_fewest_bits_codes(tiny, monkeypatch):
    engine = Engine(backend="float32", device="cpu", threads=1)
    content = Content.of_bytes(b"the cat sat on the mat")
    bits = {name: engine._coder(name).measure(content) for name in ("text27", "english")}
    assert engine.coder(content).model.name == ("tiny text" if bits["text27"] < bits["english"] else "tiny bytes")
    monkeypatch.setattr(ModelCoder, "measure", lambda coder, content: -coder.model.program.classes)
    assert engine.coder(content).model.name == "tiny bytes"


def test_a_single_model_is_not_measured(tiny, monkeypatch):
    monkeypatch.setattr(ModelCoder, "measure", None)
    engine = Engine(backend="float32", device="cpu", threads=1)
    assert engine.coder(Content.of_bytes(b"The cat.")).model.name == "tiny bytes"
    assert engine.coder(Content(Kind.AUDIO, sound(2, 9), "wav", rate=8000)).model.name == "tiny sound"


def test_models_that_are_not_there_are_passed_over(tiny):
    engine = Engine(backend="float32", device="cpu", threads=1)
    assert engine.coder(image(1, 28, 28)) is None
    assert engine.coder(audio(16000)) is None
    assert engine.coder(Content.of_bytes(b"\xff" * 9)) is None
    assert tiny == [GREY, PICTURES, "speech16k"]
    with pytest.raises(ModelMissing):
        dataclasses.replace(engine, model="speech16k").coder(audio(16000))


def test_a_model_is_loaded_once(tiny):
    engine = Engine(backend="float32", device="cpu", threads=1)
    assert engine.coder(Content.of_bytes(b"Hello")) is engine.coder(Content.of_bytes(b"World"))
    assert tiny == [TEXT]


def test_models_of_text_and_sound_have_one_order_at_every_level(tiny):
    heard = Content(Kind.AUDIO, sound(1, 9), "wav", rate=8000)
    for level in (1, 7, 9):
        engine = Engine(level=level, backend="float32", device="cpu", threads=1)
        assert engine.coder(heard).calls == 0
        assert engine.coder(Content.of_bytes(b"Hello")).calls == 0, "from left to right at every level"


def test_an_archive_takes_the_model_that_suits_most_bytes(tiny):
    how = FileOptions(engine=Engine(backend="float32", device="cpu", threads=1))
    letters, words = Content.of_bytes(b"the cat sat "), Content.of_bytes(b"The cat sat. " * 5)
    heard = Content(Kind.AUDIO, sound(1, 300), "wav", rate=8000)
    blank = image(3, 400, 400)
    assert packing._coder([letters, words], how).model.name == "tiny bytes"
    assert packing._coder([letters, heard, words], how).model.name == "tiny sound"
    assert packing._coder([heard] + [words] * 12, how).model.name == "tiny bytes"
    assert packing._coder([blank, words], how).model.name == "tiny bytes", "the next, where the first is not there"
    assert packing._coder([blank], how) is None
    assert packing._coder([Content.of_bytes(b"\xff" * 50)], how) is None
    many = [words] * 60 + [heard] * 1000
    assert packing._coder(many, how).model.name == "tiny sound"


# --- content is encoded once ------------------------------------------------------------------------------------------


@pytest.fixture
def encoded(monkeypatch):
    """The models that encoded a part, one entry a part."""
    seen, real = [], ModelCoder._symbols

    def counting(self, part):
        seen.extend([self.model.name] * len(part))
        return real(self, part)

    monkeypatch.setattr(ModelCoder, "_symbols", counting)
    return seen


def test_choosing_encodes_a_content_once_with_each_model(tiny, encoded, monkeypatch):
    monkeypatch.setattr(regions, "CODED_RUN", 5)
    engine, content = Engine(backend="float32", device="cpu", threads=1), Content.of_bytes(b"the cat sat on the mat")
    engine.coder(content)
    encoded.clear()  # what exporting the models encoded
    coder = engine.coder(content)
    data, _ = compress(content, coder)
    assert sorted(encoded) == ["tiny bytes", "tiny text"]
    long = Content.of_bytes(b"the cat sat on the mat " * 5)
    encoded.clear()
    coder = engine.coder(long)
    chosen, _ = compress(long, coder)
    assert sorted(encoded) == ["tiny bytes"] * 4 + ["tiny text"] * 4
    assert chosen == compress(long, engine._coder("text27" if coder.model.name == "tiny text" else "english"))[0]
    assert decompress(data, engine_of(coder)) == content


def engine_of(coder):
    return lambda identity, calls: coder


def test_symbols_of_another_content_are_not_taken(tiny, encoded):
    engine = Engine(backend="float32", device="cpu", threads=1)
    one, other = Content.of_bytes(b"the cat sat on the mat"), Content.of_bytes(b"the dog sat on the mat")
    coder = engine.coder(one)
    encoded.clear()
    data, _ = compress(other, coder)
    assert encoded == [coder.model.name]
    assert decompress(data, engine_of(coder)) == other
    compress(one, coder)
    assert encoded == [coder.model.name] * 2, "they are kept for the next content alone"
