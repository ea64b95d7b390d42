"""Products and norms that are faster on some processors: the numbers and gradients of PyTorch's own layers."""

import copy

import pytest
import torch
from torch import nn

from ardm import objective
from ardm.digits import Sites
from ardm.models.build import build
from ardm.models.config import preset
from ardm.nets import products
from ardm.nets.neighbours import BANDED, box_mean, box_sums
from ardm.nets.norms import GroupNorm, RMSNorm
from ardm.nets.products import Linear, Pointwise, by_onednn, linear
from ardm.nets.transformer import Layer, turn
from toys import generator, randomise

LAST = torch.channels_last


def gradients(layer, x, g):
    """The output of a layer for x, and the gradients of x and of all parameters for those of the output, g."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    made = layer(x)
    made.backward(g.to(made.dtype))
    return [made.detach(), x.grad, *(p.grad for p in layer.parameters())]


def agree(found, expected, tolerance):
    """Equal up to a share of the largest number."""
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance * float(b.abs().max()))


# --- products ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 12), (1, 12)])
def test_onednn_computes_the_same_products_in_both_directions(shape, bias):
    torch.manual_seed(0)
    plain, x, g = nn.Linear(12, 7, bias=bias), torch.randn(*shape), torch.randn(*shape[:-1], 7)
    ours = copy.deepcopy(plain)
    ours.forward = lambda x: by_onednn(x, ours.weight, ours.bias)
    agree(gradients(ours, x, g), gradients(plain, x, g), 1e-6)


def test_onednn_computes_in_float32_and_not_in_less():
    x, weight = torch.randn(64, 512, generator=generator(0)), torch.randn(32, 512, generator=generator(1))
    exact = x.double() @ weight.double().T
    assert (by_onednn(x, weight) - exact).abs().max() < 1e-6 * 512  # bfloat16 would be wrong by 0.1
    assert (by_onednn(x, weight) - exact).abs().max() > 0


@pytest.mark.parametrize(
    ("capability", "amd", "faster"),
    [("AVX512", True, True), ("AVX2", True, False), ("AVX512", False, False), ("DEFAULT", True, False)],
)
def test_the_processor_decides(monkeypatch, capability, amd, faster):
    """Measured: with AVX2 alone, on an AMD EPYC of the third generation, MKL is as fast."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products, "is_amd", lambda: amd)
    assert products.onednn_is_faster() == (faster and torch.backends.mkl.is_available())


def test_a_network_says_the_same_by_both_libraries(monkeypatch):
    """A training step of a Transformer; and that the path is taken where it is chosen."""
    model = randomise(build(preset("text-tiny", shape=(9,), classes=5))).float()
    x, steps = torch.randint(5, (3, 9), generator=generator(0)), objective.draw(3, 1, (9,), generator(1))
    calls, found = [], []
    real = products.times
    monkeypatch.setattr(products, "times", lambda *given: calls.append(1) or real(*given))
    for faster in (False, True):
        monkeypatch.setattr(products, "onednn_is_faster", lambda faster=faster: faster)
        model.zero_grad()
        nats = objective.bound_step(model, x, steps).nats
        nats.mean().backward()
        found.append([nats.detach(), *(p.grad.clone() for p in model.parameters())])
        assert bool(calls) == faster
    agree(found[1], found[0], 1e-5)


def test_other_dtypes_autocast_and_nothing_at_all_stay_with_pytorch(monkeypatch):
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "by_onednn", lambda *given: pytest.fail("taken"))
    layer, x = Linear(4, 3), torch.randn(2, 4)
    assert layer.double()(x.double()).dtype == torch.double
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert linear(x[:0], layer.weight).shape == (0, 3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
def test_convolutions_of_single_pixels_are_convolutions(layout):
    torch.manual_seed(0)
    ours, plain = Pointwise(6, 5), nn.Conv2d(6, 5, 1)
    plain.load_state_dict(ours.state_dict())
    x, g = torch.randn(2, 6, 3, 4).contiguous(memory_format=layout), torch.randn(2, 5, 3, 4)
    found = gradients(ours, x, g)
    agree(found, gradients(plain, x, g), 1e-6)
    assert found[0].is_contiguous(memory_format=layout)


# --- norms ------------------------------------------------------------------------------------------------------------

NORMS = [(2, 6, 8, 8, 3), (3, 64, 16, 16, 32), (2, 32, 33, 32, 32), (1, 5, 40, 30, 1), (2, 6, 2, 3, 2)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-13), (torch.float, 2e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(("B", "C", "H", "W", "groups"), NORMS)
def test_group_norm_and_its_gradients_are_pytorchs(B, C, H, W, groups, dtype, tolerance, layout):
    """Few pixels and many; images in bfloat16 with weights in float32, as under autocast."""
    torch.manual_seed(0)
    ours = GroupNorm(groups, C, eps=1e-6).to(torch.promote_types(dtype, torch.float))
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    plain = nn.GroupNorm(groups, C, eps=1e-6).double()
    plain.load_state_dict(ours.state_dict())
    x, g = (torch.randn(B, C, H, W, dtype=torch.double).contiguous(memory_format=layout).to(dtype) for _ in range(2))
    x = x * 2 + 1
    found = gradients(ours, x, g)
    agree(found, gradients(plain, x.double(), g.double()), tolerance)
    assert found[0].dtype == found[1].dtype == dtype
    assert found[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-13), (torch.float, 2e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("shape", [(3, 5, 12), (7, 12), (0, 12), (1, 12)])
def test_rms_norm_and_its_gradients_are_pytorchs(shape, dtype, tolerance):
    torch.manual_seed(0)
    ours, plain = RMSNorm(12, eps=1e-6).to(dtype), nn.RMSNorm(12, eps=1e-6).double()
    nn.init.normal_(ours.weight)
    plain.load_state_dict(ours.state_dict())
    x, g = (torch.randn(*shape, dtype=torch.double).to(dtype) for _ in range(2))
    found, expected = gradients(ours, x, g), gradients(plain, x.double(), g.double())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=tolerance * float(b.abs().max() if b.numel() else 0))
    assert found[0].dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        again = gradients(ours, x, g)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


def test_group_norm_of_one_number_has_no_gradient():
    layer = GroupNorm(4, 4)
    x = torch.full((1, 4, 1, 1), 7.0).contiguous(memory_format=LAST)
    made, gradient, *_ = gradients(layer, x, torch.ones(1, 4, 1, 1))
    assert made.abs().max() == 0
    assert gradient.abs().max() < 1e-2


# --- sums over boxes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (70, 3), (1, BANDED + 1)])
def test_sums_over_boxes_are_those_of_pooling(size):
    planes = torch.randn(2, 3, *size, generator=generator(0), dtype=torch.double)
    expected = sum(share * box_mean(planes, side) for side, share in ((3, 1.0), (7, 1e-2), (17, 1e-4), (65, 1e-6)))
    torch.testing.assert_close(box_sums(planes), expected, rtol=0, atol=1e-13)
    assert box_sums(torch.zeros_like(planes)).abs().max() == 0


def test_sums_over_boxes_stay_exact_under_autocast():
    planes = torch.randn(1, 2, 9, 9, generator=generator(0))
    plain = box_sums(planes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(box_sums(planes), plain)


# --- the last layer, at the places asked ------------------------------------------------------------------------------


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
def test_a_layer_asked_at_some_places_says_what_it_says_everywhere(modern, rotary):
    """In any order, twice, several of one item and none of another; with the same gradients."""
    torch.manual_seed(0)
    layer = Layer(8, 2, 12, modern, 0.0, 1.0).double()
    h = torch.randn(3, 5, 8, dtype=torch.double)
    by = turn(torch.rand(5, 2, dtype=torch.double), torch.double) if rotary else None
    index, position = torch.tensor([2, 0, 2, 2, 0]), torch.tensor([4, 0, 1, 4, 3])
    g = torch.randn(5, 8, dtype=torch.double)

    def everywhere(x):
        return layer(x, (by, by))[index, position]

    layer_at = lambda x: layer(x, (by, by), asked=(index, position))  # noqa: E731
    found = []
    for run in (layer_at, everywhere):
        layer.zero_grad()
        x = h.clone().requires_grad_()
        made = run(x)
        made.backward(g)
        found.append([made.detach(), x.grad, *(p.grad.clone() for p in layer.parameters())])
    agree(*found, 1e-13)
    assert layer(h, (by, by), asked=(index[:0], position[:0])).shape == (0, 8)


def test_the_last_layer_computes_only_what_is_asked():
    """The perceptron of the last layer sees the rows asked, and that of the first one sees all."""
    model = randomise(build(preset("text-tiny", shape=(9,), classes=5)))
    seen = []
    for layer in model.body.trunk.layers:
        layer.up.register_forward_hook(lambda module, given, made: seen.append(given[0].shape[:-1].numel()))
    model(model.digits.blank(4, (9,)))[Sites(torch.tensor([3, 30]), 9)]
    assert seen == [36, 2]
