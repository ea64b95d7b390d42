"""The centred U-Net: its first layer by brute force, what a constant changes, sizes, and what is known of a pixel."""

import pytest
import torch

from ardm.models.build import build
from ardm.models.config import preset
from ardm.nets import Centred
from ardm.nets.centred import Standardised
from ardm.nets.channels import by_channel
from ardm.nets.neighbours import UNIT, nearby, rounded, unit
from toys import generator, randomise


def net(channels=2, stages=1, levels=2, **sizes):
    made = Centred(channels, stages, 6, 1, levels, 2, 5, **sizes)
    return randomise(made)


def some(*shape, share=0.3, seed=0):
    """Values that are 0 where nothing is known, and a mask as numbers."""
    known = (torch.rand(shape, generator=generator(seed)) < share).double()
    return (torch.rand(shape, generator=generator(seed + 1), dtype=torch.double) - 0.5) * known, known


def everywhere(network, value, known, condition=None):
    """Features of all sites, item by item."""
    B, D = len(value), value[0].numel()
    site = torch.arange(B * D)
    return network(value, known, known, condition)(site // D, site % D)


def test_deviations_of_few_classes_are_of_the_size_of_one():
    """Two neighbouring values are 2 units apart at most, where UNIT alone would make it 40 for black and white."""
    assert [unit(classes) for classes in (2, 5, 21, 256)] == [1, 0.25, UNIT, UNIT]
    for classes in (2, 16, 256):
        trunk = build(preset("centred-tiny", shape=(1, 4, 4), classes=classes)).body.trunk
        assert trunk.unit * (classes - 1) >= 1, "half the distance of two values, in levels"


def test_the_first_layer_reads_windows_less_the_mean_at_their_centre():
    network, (value, known) = net(), some(2, 2, 4, 6)
    mean, _, _ = nearby(value, known)
    filled = torch.where(known > 0, value, mean)
    found = network._centred(filled, mean)
    for y, x in ((0, 0), (1, 3), (3, 5)):
        wanted = torch.zeros(2, 6, dtype=torch.double)
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                if 0 <= y + dy < 4 and 0 <= x + dx < 6:
                    gap = filled[:, :, y + dy, x + dx] - mean[:, :, y, x]
                    wanted += gap @ network.window[:, :, dy + 2, dx + 2].T / UNIT
        torch.testing.assert_close(found[:, :, y, x], wanted)


def test_a_constant_moves_the_locations_and_one_plane_of_the_inputs():
    """With no weight on that plane, nothing else changes: the network sees deviations."""
    network, (value, known) = net(), some(1, 2, 8, 8, share=0.6)
    with torch.no_grad():
        network.coarse.weight[:, :2] = 0
    one, two = (everywhere(network, value + shift * known, known) for shift in (0.0, 0.25))
    torch.testing.assert_close(two.loc, one.loc + 0.25, rtol=0, atol=1e-6)  # up to the prior, 1e-9 of a value at 0
    torch.testing.assert_close(two.hidden, one.hidden, rtol=1e-5, atol=1e-5)
    randomise(network)
    assert not torch.allclose(*(everywhere(network, value + s * known, known).hidden for s in (0.0, 0.25)), atol=1e-2)


def test_locations_are_the_rounded_means_of_the_known():
    value, known = some(2, 2, 5, 7)
    mean = nearby(value, known)[0]
    for rounding, step in ((0, 0.0), (255, 1 / (8 * 127.5)), (3, 1 / 12)):
        found = everywhere(net(rounding=rounding), value, known)
        assert (found.loc - mean.flatten()).abs().max() <= step / 2 + 1e-12
        assert bool((found.scale == UNIT).all())
        if step:
            torch.testing.assert_close(found.loc / step, (found.loc / step).round(), rtol=0, atol=1e-9)
    assert torch.equal(rounded(mean, 0), mean)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 7)])
def test_any_size_is_taken(levels, size):
    value, known = some(2, 2, *size)
    network = net(levels=levels)
    found = everywhere(network, value, known)
    assert tuple(found.hidden.shape) == (2 * 2 * size[0] * size[1], 5)
    assert found.hidden.isfinite().all()
    h = torch.randn(2, 6, *size, generator=generator(3), dtype=torch.double)
    assert network.through(h, None).shape == h.shape


def test_lower_levels_see_the_whole_picture():
    """One number in a corner changes the blocks' output far beyond the reach of their kernels at full resolution."""
    h = torch.zeros(2, 6, 32, 32, dtype=torch.double)
    h[1, :, 0, 0] = 1
    one, other = net(levels=3).through(h, None)
    assert (one - other)[:, 17, 17].abs().max() > 0
    one, other = net(levels=1).through(h, None)
    assert (one - other)[:, 9:].abs().max() == 0


def test_a_site_sees_what_is_known_of_its_pixel_alone_in_its_own_layer():
    """With features of 0 the layer of a channel reads the deviations and masks of its pixel."""
    network, (value, known) = net(channels=3), some(2, 3, 4, 4)
    with torch.no_grad():
        for part in (
            network.window,
            network.masks.weight,
            network.masks.bias,
            network.coarse.weight,
            network.coarse.bias,
        ):
            part.zero_()
        for block in [*network.down, *network.up, network.grow, network.shrink]:
            for parameter in block.parameters():
                parameter.zero_()
    found = everywhere(network, value, known).hidden.view(2, 3, 4, 4, 5)
    mean = nearby(value, known)[0]
    inputs = torch.cat([(value - mean) * known / UNIT, known], 1)
    for c in range(3):
        weight = network.own.weight[c, 6:]
        wanted = (torch.einsum("bihw,io->bhwo", inputs, weight) + network.own.bias[c]).relu()
        torch.testing.assert_close(found[:, c], wanted)


def test_a_condition_reaches_every_block():
    network = net(condition=3)
    value, known = some(1, 2, 4, 4)
    a, b = (everywhere(network, value, known, torch.full((1, 3), c, dtype=torch.double)).hidden for c in (0.0, 1.0))
    assert not torch.allclose(a, b)
    assert sum(block.condition is not None for block in network.modules() if hasattr(block, "condition")) == 4


@pytest.mark.parametrize("dtype", [torch.float, torch.double, torch.bfloat16])
def test_each_row_goes_through_the_layer_of_its_channel(dtype):
    h, channel = torch.randn(7, 4, generator=generator(0)), torch.tensor([2, 0, 0, 2, 1, 2, 0])
    weight, bias = torch.randn(3, 4, 5, generator=generator(1)).to(dtype), torch.randn(3, 5, generator=generator(2))
    with torch.autocast("cpu", torch.bfloat16):
        found = by_channel(h, channel, weight, bias.to(dtype))
    assert found.dtype == torch.promote_types(torch.float, dtype)
    for n, c in enumerate(channel):
        wanted = h[n].to(found.dtype) @ weight[c].to(found.dtype) + bias.to(dtype)[c]
        torch.testing.assert_close(found[n], wanted)


def test_filters_have_mean_0_and_a_learnt_norm_so_that_what_all_inputs_share_moves_nothing():
    layer = randomise(Standardised(4, 1.0))
    torch.testing.assert_close(layer.weight.mean((1, 2, 3)), torch.zeros(4).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), layer.gain.abs(), rtol=1e-6, atol=1e-9)
    h = torch.rand(1, 4, 5, 5, generator=generator(0), dtype=torch.double)
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # borders see zeros outside
    torch.testing.assert_close(layer(h + 7)[inside], layer(h)[inside], rtol=0, atol=1e-9)
    assert (layer(2 * h) - layer(h)).abs().max() > 1e-2
