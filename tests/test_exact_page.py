"""docs/exact.md is enough: a decoder written from it reads what the library writes, on its own integers."""

from dataclasses import replace

import numpy as np
import pytest

from ardm.codec.model_coder import ModelCoder
from ardm.exact.backend import Backend
from ardm.exact.model import NAME, CodecModel, fingerprint
from ardm.exact.reference import Reference
from ardm.export.calibrate import Examples
from ardm.export.precision import Precision
from ardm.export.unet import unet
from bundles import exact
from exact_by_the_page import EXP, SIGMOID, Model
from linemodels import SCHEMA, coder, items
from test_exact_unet import items_of, net
from waves import picture, values_program, wave_model, wave_program


def order_of(S, C, H, W, calls):
    """Any order will do: digits one after the other, sites scattered."""
    scattered = (np.arange(C * H * W).reshape(C, H, W) * 7) % (calls // S)
    return scattered[None] + (calls // S) * np.arange(S)[:, None, None, None]


def by_the_page(tmp_path, codec, samples):
    codec.save(tmp_path / NAME)
    page = Model(tmp_path / NAME)
    assert page.identity == codec.identity
    assert page.golden() == page.about["golden"]
    by = ModelCoder(codec, codec.default, Backend(codec.program), 1)
    compare(page, by, samples)


def compare(page, coder, samples):
    codec = coder.model
    (coded,) = coder.encode([[samples]])
    stream = coder.finish(coded, 0x12345678)
    found, check = page.decode(stream, codec.default, samples.shape)
    assert check == 0x12345678
    assert (found == samples).all()


def test_the_tables():
    from ardm import ans
    from ardm.exact import sigmoid as tables

    assert ans.EXP.tolist() == EXP
    assert tables.SIGMOID.tolist() == SIGMOID


UNET = {"trunk": "unet"}


@pytest.mark.parametrize("changes", [UNET, {**UNET, "base": 16}, {**UNET, "head": "values", "base": 4, "classes": 60},
                                     {**UNET, "head": "digits", "base": 16}], ids=str)  # fmt: skip
@pytest.mark.parametrize("planes", [3, 1])
def test_tiles(tmp_path, changes, planes):
    codec = exact(**changes)
    samples = np.random.default_rng(0).integers(0, codec.program.classes, (planes, 4, 5)).astype(np.uint8)
    by_the_page(tmp_path, codec, samples)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two levels", "two levels, all", "stages of a mixture", "embedding and time"])
def test_unets(tmp_path, name):
    model = net(name)
    program = unet(model, Examples(items_of(model, 8)))(Precision(8, 8))
    S, (C, H, W) = program.digits, model.shape
    calls = 3 * S
    codec = CodecModel(program, {calls: order_of(S, C, H, W, calls)}, calls)
    codec = replace(codec, golden=fingerprint(codec, Reference(program)))
    x = items_of(model, 2, 7).numpy().astype(np.uint8)
    by_the_page(tmp_path, codec, np.concatenate([x[0], x[1][:, :, :2]], axis=2)[:, : H - 1])


@pytest.mark.parametrize("name", ["text", "bytes", "sound", "8 bits", "classic"])
def test_sequences_and_rows(tmp_path, name):
    made = coder(name)
    made.model.save(tmp_path / NAME)
    page = Model(tmp_path / NAME)
    assert page.identity == made.model.identity
    assert page.golden() == page.about["golden"]
    samples = items(name, 2, 11, 5).numpy()[: 1 if name in ("sound", "8 bits") else 2]
    if made.model.alphabet:
        samples = np.frombuffer(made.model.alphabet, np.uint8)[samples]
    compare(page, made, samples.astype("<u2" if made.model.program.classes > 256 else "u1")[None])


@pytest.mark.parametrize("program", [wave_program(C=3, K=16), values_program()], ids=["mixture", "values"])
def test_wavefronts(tmp_path, program):
    codec = wave_model(program)
    codec = replace(codec, golden=fingerprint(codec, Reference(program)))
    for planes in (program.channels, 1):
        by_the_page(tmp_path, codec, picture(planes, 3, 5, program.classes).astype(np.uint8))


@pytest.mark.parametrize("together", [1 << 10, 2])
def test_tables_as_text(tmp_path, together, monkeypatch):
    """Rows with a header, plain lines and quoted cells between them."""
    made = coder("table")
    made.model.save(tmp_path / NAME)
    page = Model(tmp_path / NAME)
    assert page.identity == made.model.identity
    assert page.golden() == page.about["golden"]
    if together == 2:  # as for a column of millions of values
        monkeypatch.setitem(made.__dict__, "together", 2)
        monkeypatch.setattr(page, "together", lambda n: 2)
    assert page.together(4) == made.together
    text = SCHEMA.decode(items("table", 3, seed=1).tolist()) + "?,1\n" + 'f,20,"say ""x""",only\n' * 2 + "f,1"
    compare(page, made, np.frombuffer(text.encode(), np.uint8).reshape(1, 1, -1))
