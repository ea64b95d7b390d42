"""Floats to integers: close to the model that was trained, within every bound, and with nothing leaking."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ardm.bundle import Bundle
from ardm.codec import model_coder, registry
from ardm.errors import ArdmError
from ardm.exact.backend import Backend
from ardm.exact.bounds import Bound
from ardm.exact.kernels.kernel import EXACT
from ardm.exact.kernels.linear import byte_product, groups
from ardm.exact.model import fingerprint
from ardm.export.calibrate import watched
from ardm.export.coding import coding, cost, random_ranks
from ardm.export.convert import HEADS as EXPORTED
from ardm.export.convert import export, unsupported
from ardm.export.precision import Precision
from ardm.export.quantise import PAIR, levels, matrix, narrow, rounded, scales
from ardm.models.build import HEADS
from ardm.models.config import preset
from ardm.orders import OrderConfig
from bundles import exact, smooth, tiny
from toys import generator

UNET = {"trunk": "unet", "scale": 0.5}


def items(bundle, count=16):
    C, H, W = bundle.config.shape
    return torch.stack([smooth(C, H, W, seed) for seed in range(count)]).long() % bundle.config.classes


# --- how close it is --------------------------------------------------------------------------------------------------


def test_cost_is_measured_along_the_coding_order():
    bundle = tiny(**UNET)
    made = exact((12, 12), **UNET)
    measured_cost = cost(bundle, made, items(bundle, 4))
    assert measured_cost.bits_per_dim == measured_cost.exact - measured_cost.model
    coder = model_coder.ModelCoder(made, made.default, registry.machine(made, "float64", "cpu"), 1)
    bits = [job[0].bits for job in coder.encode([[x.numpy()] for x in items(bundle, 4)])]
    assert math.isclose(measured_cost.exact, np.mean(bits) / 192, rel_tol=1e-12)


def test_the_fewest_bits_that_cost_little_are_taken(monkeypatch):
    from ardm.export import convert as module

    bundle, seen = tiny(**UNET), []
    monkeypatch.setattr(module, "AIM", math.inf)
    assert export(bundle, items(bundle), tried=seen.append).precision == module.SEARCH[0]
    monkeypatch.setattr(module, "AIM", -math.inf)
    assert export(bundle, items(bundle), tried=seen.append).precision == module.SEARCH[-1]
    assert [made.precision for made in seen[1:]] == list(module.SEARCH)


def test_too_few_items_to_calibrate_and_measure_with_are_refused():
    bundle = tiny(**UNET)
    for count in (0, 1):
        with pytest.raises(ArdmError, match=f"at least 2 items.*got {count}"):
            export(bundle, items(bundle)[:count])


def test_a_model_in_training_is_exported_without_its_dropout():
    """The cost is that of evaluation, and the model goes on in the mode that it was in."""
    model = tiny("recurrent", (32,), 32, head="values", causal="wave", dropout=0.5)
    items, bits = torch.randint(0, 32, (4, 32), generator=generator()), Precision(10, 11)
    model = replace(model, model=copy.deepcopy(model.model))
    expected = export(model, items, bits).cost
    model.model.train()
    model.model.head.eval()
    assert export(model, items, bits).cost == expected
    assert [part.training for part in (model.model, model.model.body, model.model.head)] == [True, True, False]


def test_any_order_models_code_along_one_order():
    along = coding(tiny("unet", order=OrderConfig(), shape=(3, 4, 4)))
    assert (list(along.cells), along.default, along.lead) == ([48, 20], 48, 1)
    assert np.array_equal(along.planned.ranks, random_ranks((3, 4, 4), 1)[0])
    assert np.bincount(along.cells[20].ravel()).tolist() == [2, 2, 3, 2, 3] * 4, "as even as possible without a curve"


def test_networks_that_cannot_be_exported_are_listed():
    assert unsupported(tiny()) == []
    assert unsupported(tiny(trunk="unet")) == []
    bundle = tiny()
    foreign = Bundle(copy.deepcopy(bundle.model), bundle.config, bundle.order)
    foreign.model.body = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.GLU(1))
    assert [line for line in unsupported(foreign) if "GLU is not supported" in line]


@pytest.mark.parametrize("head", [name for name, make in HEADS.items() if type(make(preset("tiny"))) not in EXPORTED])
def test_heads_without_integers_are_refused(head):
    """Also a subclass of a head that has them: its distributions are others."""
    bundle = tiny("unet", head=head)
    assert [line for line in unsupported(bundle) if "cannot be exported: train with model.head=mixture" in line]
    with pytest.raises(ArdmError, match="cannot be exported"):
        export(bundle, items(bundle))


@pytest.mark.parametrize("attention", ["none", "middle"])
def test_a_u_net_becomes_a_codec(attention):
    """Trained convolutions, exported and coded: tiles of the model's own size, whatever the size of the picture."""
    bundle = tiny(trunk="unet", attention=attention, scale=0.5)
    made = export(bundle, items(bundle), Precision(10, 10))
    assert abs(made.cost.bits_per_dim) < 0.02
    coders = [
        model_coder.ModelCoder(made.codec, made.codec.default, registry.machine(made.codec, backend, "cpu"), 1)
        for backend in ("float32", "int64")
    ]
    part = smooth(3, 11, 9).numpy()
    streams = [coder.finish(next(iter(coder.encode([[part]]))), 5) for coder in coders]
    assert streams[0] == streams[1]
    ((samples,), check) = next(iter(coders[0].decode([(streams[1], [part.shape])])))
    assert np.array_equal(samples, part)
    assert check == 5


# --- one matrix -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(4, 14),
    st.integers(1, 12),
    st.integers(18, 53),
    st.integers(0, 99),
)
def test_a_matrix_keeps_its_bits_and_its_peak(inputs, outputs, bits, top, peak, seed):
    rng = np.random.default_rng(seed)
    weight, bias = rng.normal(size=(inputs, outputs)) * 10.0 ** rng.integers(-3, 1), rng.normal(size=outputs)
    size = np.full(inputs, (1 << top) - 1)
    scale_in, scale_out = size / rng.uniform(0.1, 9, inputs), rng.uniform(1, 300, outputs)
    made = matrix(weight, bias, size, scale_in, scale_out, bits, 1 << peak)
    loose = made.shift == 0  # nothing can be taken from these
    assert (np.abs(made.weight).max(0)[~loose] < 1 << (bits - 1)).all()
    assert ((size @ np.abs(made.weight) + np.abs(made.bias))[~loose] <= 1 << peak).all()
    x = rng.integers(0, size + 1, (20, inputs))
    y = x @ made.weight + made.bias >> made.shift
    real = x / scale_in @ weight * scale_out + bias * scale_out
    error = (x.sum(1)[:, None] * 0.5 + 0.5) / 2.0**made.shift + 1
    assert (np.abs(y - real) <= error).all()


def test_neighbours_fit_sixteen_bits_together():
    rng = np.random.default_rng(1)
    size = np.full(31, 255)
    made = matrix(rng.normal(size=(31, 20)), np.zeros(20), size, size / 3.0, np.full(20, 100.0), 8)
    products = np.pad(made.weight * 255, ((0, 1), (0, 0))).reshape(16, 2, 20)
    assert products.clip(min=0).sum(1).max() <= PAIR
    assert (-products).clip(min=0).sum(1).max() <= PAIR


def test_a_channel_that_hardly_moves_has_a_scale():
    assert list(scales([np.array([2.0, 0.0, 1e-9]), np.array([1.0, 0.0, 0.0])], 255)) == [127.5, 8160.0, 8160.0]
    assert list(scales([np.zeros(2)], 255)) == [64.0, 64.0]


def test_tensors_are_held_in_the_smallest_type():
    held = narrow({"a": np.array([-127]), "b": np.array([128]), "c": np.array([40000]), "d": np.array([1 << 40])})
    assert [held[k].dtype.itemsize for k in "abcd"] == [1, 2, 4, 8]


def test_watching_sees_the_largest_input():
    layer = nn.Linear(3, 2)
    with watched(nn.Sequential(layer)) as ranges:
        layer(torch.tensor([[1.0, -5.0, 0.0]]))
        layer(torch.tensor([[[-2.0, 1.0, 0.0]]]))
    assert list(ranges.columns(layer)) == [2.0, 5.0, 0.0]
    assert ranges.given(layer) == 5.0


def test_groups_are_exact_and_in_order():
    rng = np.random.default_rng(2)
    weight, size = rng.integers(-2000, 2000, (64, 5)), np.full(64, 1000)
    found = groups(weight, np.zeros(5, dtype=np.int64), size)
    assert [run.start for run in found[1:]] == [run.stop for run in found[:-1]]
    assert (found[0].start, found[-1].stop) == (0, 64)
    for run in found:
        assert (size[run] @ np.abs(weight[run])).max() <= EXACT[torch.float32]
    assert groups(np.array([[1 << 20]]), np.zeros(1, dtype=np.int64), np.array([1 << 10])) == []


def test_products_of_bytes_are_used_only_where_they_are_exact(monkeypatch):
    """Weights of 127 beside 127 saturate where pairs are added in 16 bits: there `small` must decline, or be exact."""
    plain = Bound(np.zeros(64, dtype=np.int64), np.full(64, 255), "rows", 0)
    shift, bias = np.zeros(9, dtype=np.int64), np.arange(9)
    for weight in (np.full((64, 9), 127), np.tile([[127], [1]], (32, 9)), np.full((64, 9), -64)):
        product = byte_product(weight, bias, shift, plain, torch.device("cpu"))
        if product is not None:
            x = torch.randint(256, (50, 64), generator=generator(0))
            x[0], x[1] = 255, 0
            assert torch.equal(product(x.float()).long(), x @ torch.from_numpy(weight) + torch.from_numpy(bias))
    signed = Bound(np.full(64, -1), np.full(64, 255), "rows", 0)
    assert byte_product(np.ones((64, 9), dtype=np.int64), bias, shift, signed, torch.device("cpu")) is None
    wide = Bound(np.zeros(64, dtype=np.int64), np.full(64, 256), "rows", 0)
    assert byte_product(np.ones((64, 9), dtype=np.int64), bias, shift, wide, torch.device("cpu")) is None
    right = torch.ops.onednn.qlinear_pointwise

    def off_by_one(*arguments):
        return right(*arguments) + (torch.arange(9) == 4)

    class Wrong:
        qlinear_prepack, qlinear_pointwise = torch.ops.onednn.qlinear_prepack, staticmethod(off_by_one)

    monkeypatch.setattr(torch.ops, "onednn", Wrong)
    assert byte_product(np.ones((64, 9), dtype=np.int64), bias, shift, plain, torch.device("cpu")) is None


def test_bytes_give_the_same_frequencies():
    made = exact((8, 8))
    try:
        run = Backend(made.program, "int8")
    except ArdmError as error:
        pytest.skip(str(error))
    assert run.byte_products > 0
    assert fingerprint(made, run) == made.golden


# --- rounding while training ------------------------------------------------------------------------------------------


def test_rounded_weights_and_levels_are_those_of_integers():
    """Their product is that of the integer matrix, before its output is rounded."""
    torch.manual_seed(0)
    layer = nn.Linear(24, 10)
    x = torch.rand(50, 24, generator=generator(1)) * 3
    for bits, top in ((8, 255), (8, 1023)):
        given, made = np.full(24, top / 3.0), np.full(10, 100.0)
        weight, bias = layer.weight.detach().double().numpy().T, layer.bias.detach().double().numpy()
        integers = matrix(weight, bias, np.full(24, top), given, made, bits)
        X = (x.double().numpy() * given + 0.5).astype(np.int64).clip(0, top)
        exact_sum = (X @ integers.weight + integers.bias) / 2.0**integers.shift - 0.5
        S, T = torch.from_numpy(given).float(), torch.from_numpy(made).float()
        y = nn.functional.linear(levels(x, S, top), rounded(layer.weight, S, T, bits, top), layer.bias)
        assert np.abs(y.detach().double().numpy() * 100.0 - exact_sum).max() < 0.02


def test_gradients_pass_as_if_nothing_were_rounded():
    weight = torch.randn(4, 6, generator=generator(2), requires_grad=True)
    x = torch.rand(8, 6, generator=generator(3), requires_grad=True)
    S, T = torch.full((6,), 255.0), torch.full((4,), 50.0)
    nn.functional.linear(levels(x, S, 255), rounded(weight, S, T, 8, 255)).sum().backward()
    assert torch.allclose(weight.grad, levels(x, S, 255).sum(0).expand(4, 6))
    assert torch.allclose(x.grad, rounded(weight, S, T, 8, 255).sum(0).expand(8, 6))
