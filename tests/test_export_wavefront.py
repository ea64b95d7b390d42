"""Causal networks along wavefronts in integers: close to the floats, within every bound, and coded both ways."""

import functools
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ardm.bundle import Bundle, load
from ardm.cli.app import app
from ardm.codec.model_coder import ModelCoder
from ardm.codec.registry import machine
from ardm.errors import ArdmError
from ardm.exact.certificate import certify
from ardm.exact.operations import OPERATIONS
from ardm.exact.reference import inputs
from ardm.export import convert
from ardm.export import wavefront as module
from ardm.export.convert import export, unsupported
from ardm.export.precision import Precision
from ardm.export.rounding import faked, read_scales, write_scales
from ardm.export.stream import SINGLE
from ardm.export.wavefront import OPERAND, WavefrontExport, measured
from ardm.models.build import build
from ardm.models.config import ModelConfig
from ardm.settings import from_values
from ardm.train.finetune import recipe_of
from ardm.train.recipe import Recipe
from bundles import smooth, tiny

COARSE = Precision(5, 6)
SHAPES = {"colour": (3, 12, 12), "grey": (1, 12, 12), "two channels": (2, 9, 14), "line": (80,)}


def pictures(shape, count, seed=0, classes=256):
    C, H, W = (1, 1, *shape) if len(shape) == 1 else shape
    x = torch.stack([smooth(C, H, W, seed + k) for k in range(count)]).long()
    return (x * classes // 256).view(count, *shape)


@functools.cache
def trained(name="colour", classes=256, steps=60, **changes):
    """A small network, trained for a second or two."""
    shape = SHAPES[name]
    cycle = {"cycle": 3} if len(shape) == 1 else {}
    settings = {"width": 16, "hidden": 12, "blocks": 3, "components": 3, **cycle, **changes}
    config = ModelConfig(shape=shape, classes=classes, trunk="wavefront", causal="wave", **settings)
    model = build(config)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(steps):
        optimiser.zero_grad()
        model.nats(pictures(shape, 8, 1000 + 8 * step, classes)).mean().backward()
        optimiser.step()
    return Bundle(model.eval().requires_grad_(False), config, card={"name": f"tiny {name}"})


@functools.cache
def exported(name="colour", precision=None, **changes):
    bundle = trained(name, **changes)
    return export(bundle, pictures(bundle.config.shape, 24, classes=bundle.config.classes), precision)


# --- how close it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_integers_cost_little(name):
    """On pictures that did not calibrate."""
    made = exported(name)
    assert abs(made.cost.bits_per_dim) < 0.01
    assert made.cost.model < 7.5  # it has learned


def test_more_bits_come_closer():
    coarse, fine = (exported(precision=bits).cost.bits_per_dim for bits in (COARSE, Precision(12, 12)))
    assert coarse > 0.01
    assert abs(fine) < 0.006


def test_it_starts_with_more_bits_than_other_networks(monkeypatch):
    """Products of 16 bits are as fast as those of bytes in the kernels that run wavefronts."""
    monkeypatch.setattr(convert, "AIM", math.inf)
    assert export(trained(), pictures(SHAPES["colour"], 8)).precision == Precision(8, 11)


def test_values_of_more_than_a_byte():
    """Deviations of 16-bit values are dropped to fit 15 bits; the centre of a channel stays exact."""
    made = exported(classes=1 << 15, steps=30)
    assert abs(made.cost.bits_per_dim) < 0.02
    bounds = certify(made.codec.program)
    assert bounds["apart"].size.max() < 1 << OPERAND
    assert bounds["centre"].lo.min() == -3 * 4 * ((1 << 15) - 1)


def test_the_means_are_those_of_the_network():
    """Rounded to an eighth of a level, except where the rounded weights of far cells decide a tie."""
    bundle, made = trained(), exported()
    x = pictures(SHAPES["colour"], 4, 50)
    trunk, H, W = bundle.model.body.trunk, 12, 12
    y, column = (grid.flatten() for grid in torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij"))
    floats = trunk.stream(x.float() * (2 / 255) - 1, y, column)[1].flatten(0, 1).double().numpy() * 255 * 4
    program = made.codec.program
    values = inputs(program, x.numpy(), np.ones_like(x.numpy()))
    for op in program.ops[: [op.name for op in program.ops].index("nearby") + 1]:
        values[op.out] = OPERATIONS[op.name].run(program, op, [values[n] for n in op.inputs], None)
    assert np.abs(values["mean"] - floats).max() < 1.001
    assert (np.abs(values["mean"] - floats) < 0.01).mean() > 0.97


# --- what it computes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_float32_and_products_of_16_bits_hold_every_matrix(name):
    program = exported(name).codec.program
    bounds = certify(program)
    for op in program.ops:
        if op.name == "linear":
            assert bounds[op.out].peak <= SINGLE
            assert bounds[op.inputs[0]].size.max() < 1 << OPERAND
            assert np.abs(program.tensor(op, "weight")).max() < 1 << OPERAND


def test_the_stream_is_clamped_where_it_could_leave_float32(monkeypatch):
    monkeypatch.setattr(module, "SINGLE", 1 << 16)
    build = WavefrontExport(trained().model)
    bits = Precision(8, 10)
    program = build.program(build.scales(build.seen(pictures(SHAPES["colour"], 8)), bits), bits)
    bounds = certify(program)
    kept = [name for name in bounds if name.startswith("kept")]
    assert len(kept) == 3
    assert all(bounds[name].size.max() == 1 << 15 for name in kept)


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_decoded_is_what_was_encoded(name):
    """Sizes down to one pixel, and planes on their own."""
    codec = exported(name).codec
    made = ModelCoder(codec, 0, machine(codec, "numpy"), 1)
    sizes = [(1, 1), (1, 7), (5, 1), (6, 9)] if len(SHAPES[name]) == 3 else [(1, 1), (1, 40)]
    for k, (H, W) in enumerate(sizes):
        for planes in {1, made.planes}:
            part = smooth(planes, H, W, k).numpy()
            ((symbols,),) = made.encode([[part]])
            stream = made.finish([symbols], 77)
            ((back,), check) = next(iter(made.decode([(stream, [part.shape])])))
            assert np.array_equal(back, part)
            assert check == 77
            assert 8 * len(stream) < symbols.bits + 41


def test_planes_on_their_own_calibrate_too():
    """A grey picture is seen in all channels, where it reaches further than colour."""
    export, x = WavefrontExport(trained().model), pictures(SHAPES["colour"], 8)
    whole, grey = export.seen(x), export.seen(x[:2, :1].expand(-1, 3, -1, -1).repeat(4, 1, 1, 1))
    assert (whole.stream >= grey.stream - 1e-5).all()


def test_the_codec_model_says_how_it_codes():
    made = exported()
    codec = made.codec
    assert (codec.wave, codec.default, codec.lead, dict(codec.orders)) == (2, 0, 0, {})
    assert codec.card["integers"]["cost"] == round(made.cost.bits_per_dim, 5)
    assert (codec.card["integers"]["weights"], codec.card["integers"]["items"]) == (made.precision.weights, 12)
    assert codec.card["name"] == "tiny colour"
    assert codec.card["of"] == trained().identity


def test_heads_and_trunks_without_integers_are_refused():
    config = ModelConfig(shape=(3, 8, 8), trunk="wavefront", causal="wave", head="laplace", width=8, blocks=1)
    bundle = Bundle(build(config), config)
    assert unsupported(bundle) == [
        "a head of kind LaplaceHead cannot be exported: train with model.head=mixture, values or digits"
    ]
    with pytest.raises(ArdmError, match="LaplaceHead cannot be exported"):
        export(bundle, pictures((3, 8, 8), 8))


# --- fine-tuning ------------------------------------------------------------------------------------------------------


def test_a_faked_network_is_its_integers():
    """The code length within `faked` is that of the integers, but for rounding on the grid of the head."""
    bundle, bits, x = trained(), COARSE, pictures(SHAPES["colour"], 24)
    scales, made = measured(bundle.model, x[:12], bits), exported(precision=bits)
    with faked(bundle.model, scales, bits):
        rounded = float(bundle.model.nats(x[12:]).sum(1).mean()) / math.log(2) / x[0].numel()
    assert abs(rounded - made.cost.exact) < 0.004 < abs(rounded - made.cost.model)
    assert float(bundle.model.nats(x[12:]).sum(1).mean()) / math.log(2) / x[0].numel() == pytest.approx(made.cost.model)


def test_training_within_it_wins_back_what_rounding_costs():
    bundle, bits, x = trained(), COARSE, pictures(SHAPES["colour"], 24)
    scales, before = measured(bundle.model, x[:12], bits), exported(precision=bits).cost.exact
    tuned = build(bundle.config)
    tuned.load_state_dict(bundle.model.state_dict())
    optimiser = torch.optim.Adam(tuned.parameters(), lr=1e-3)
    with faked(tuned, scales, bits):
        for step in range(40):
            optimiser.zero_grad()
            tuned.nats(pictures(SHAPES["colour"], 8, 5000 + 8 * step)).mean().backward()
            assert all(p.grad is None or p.grad.isfinite().all() for p in tuned.parameters())
            optimiser.step()
    after = export(Bundle(tuned, bundle.config), x, bits, scales).cost.exact
    assert after < before - 0.005


def test_scales_are_kept_in_a_file(tmp_path):
    bundle, bits, x = trained(), COARSE, pictures(SHAPES["colour"], 24)
    scales = measured(bundle.model, x[:12], bits)
    assert {name.rpartition(".")[2] for name in scales} == {"trunk", "0", "1", "2", "out"}
    write_scales(tmp_path / "scales", scales)
    made = export(bundle, x, bits, read_scales(tmp_path / "scales"))
    assert made.codec.identity == exported(precision=bits).codec.identity


def test_scales_of_another_network_are_refused(tmp_path):
    x, bits = pictures(SHAPES["colour"], 24), COARSE
    scales = measured(trained().model, x[:12], bits)
    others = trained(steps=1, blocks=2), trained(steps=1, width=8), trained(steps=1, hidden=8)
    for other in others:
        with pytest.raises(ArdmError, match="belong to another network"):
            export(other, x, bits, scales)
    with pytest.raises(ArdmError, match="belong to another network"):
        export(trained(), x, bits, {**scales, "body.trunk.blocks.9": scales["body.trunk.blocks.0"]})
    with pytest.raises(ArdmError, match="trunk wavefront"):
        export(tiny("centred", levels=2), x, bits, scales)


def test_scales_and_fine_tuning_exclude_each_other(tmp_path):
    trained(steps=1).save(tmp_path / "model")
    for options, said in (
        (["--scales", "s.safetensors", "--finetune", "3"], "exclude each other"),
        (["--resume"], "--resume needs --finetune"),
    ):
        done = CliRunner().invoke(app, ["export", str(tmp_path / "model"), *options])
        assert done.exit_code == 1
        assert said in done.output
        assert not (tmp_path / "model" / "codec.safetensors").exists()


def test_fine_tuning_counts_steps_and_lowers_every_rate():
    """Regression: a recipe of minutes trained for hours, and its matrices at the full rate."""
    bundle = load("pictures-small")
    whole = from_values(Recipe, bundle.card["recipe"]).train
    train = recipe_of(bundle, "there", ["train.steps=7"]).train
    assert whole.minutes
    assert (train.minutes, train.steps, train.init) == (0, 7, "there")
    assert train.rate == pytest.approx(whole.rate / 3)
    assert train.muon_rate == pytest.approx(whole.muon_rate / 3)
