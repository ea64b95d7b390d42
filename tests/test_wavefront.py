"""Networks along wavefronts: one dense pass is the chain rule, nothing later is seen, and a walk computes each pixel once."""

import math

import pytest
import torch

import ardm
from ardm import likelihood
from ardm import plan as plans
from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.models.build import build
from ardm.models.config import ModelConfig
from ardm.nets import Wavefront, shifted
from ardm.nets.wavefront import Block
from ardm.objective import causal_step
from ardm.ranks import wavefront_steps
from ardm.walk import sample, score
from toys import all_data, generator, randomise, some_data

SHAPES = [(1, 1, 1), (3, 1, 1), (3, 1, 6), (2, 6, 1), (1, 5, 7), (3, 5, 7), (2, 7, 2), (1,), (9,), (40,)]


def wave(shape=(3, 4, 5), classes=16, seed=0, **changes):
    settings = {"width": 8, "blocks": 3, "components": 2, "hidden": 6, "cycle": 2, **changes}
    return randomise(build(ModelConfig(shape, classes, trunk="wavefront", causal="wave", **settings)), seed)


class Forgetful:
    """A model without its memory: every step is a dense pass."""

    def __init__(self, model):
        self.model, self.digits = model, model.digits

    def __call__(self, state, context=None):
        return self.model(state, context)


# --- one block, two ways ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "across"), [(1, 1), (1, 4), (3, 1), (2, 2), (4, 3)])
def test_shifted_rows_are_a_convolution(height, across):
    torch.manual_seed(height)
    block = Block(4, 6).double()
    for p in block.parameters():
        torch.nn.init.normal_(p)
    h = torch.randn(2, height, across, 4, dtype=torch.double, requires_grad=True)
    ways = (
        lambda: block(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1),
        lambda: shifted.pixels(block(shifted.laid(h), across), across),
    )
    wanted = torch.randn(2, height, across, 4, dtype=torch.double)
    outs = [way() for way in ways]
    torch.testing.assert_close(*outs)
    grads = [torch.autograd.grad((out * wanted).sum(), [h, *block.parameters()]) for out in outs]
    torch.testing.assert_close(*grads)


def test_several_blocks_of_shifted_rows_keep_what_lies_between_rows_at_zero():
    torch.manual_seed(0)
    blocks = [Block(4, 6).double() for _ in range(3)]
    for p in (p for b in blocks for p in b.parameters()):
        torch.nn.init.normal_(p)
    h = torch.randn(2, 3, 5, 4, dtype=torch.double, requires_grad=True)
    rows, plain = shifted.laid(h), h.permute(0, 3, 1, 2)
    for block in blocks:
        rows, plain = block(rows, 5), block(plain)
        assert torch.equal(shifted.laid(shifted.pixels(rows, 5)), rows)
    first = torch.autograd.grad(shifted.pixels(rows, 5).square().sum(), h, retain_graph=True)
    torch.testing.assert_close(first, torch.autograd.grad(plain.square().sum(), h))


# --- one pass is the walk ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_one_pass_scores_what_the_walk_does(shape):
    model, plan = wave(shape), plans.wavefront(shape)
    x = some_data(model.digits, shape, 3)
    nats = model.nats(x).sum(1).double()
    torch.testing.assert_close(nats, score(model, plan, x), rtol=1e-11, atol=0)
    torch.testing.assert_close(nats, score(Forgetful(model), plan, x), rtol=1e-11, atol=0)
    torch.testing.assert_close(nats, likelihood.causal(model, x, chunk=2).nats)
    torch.testing.assert_close(nats, likelihood.exact(model, plan, x, chunk=5).nats)


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 7, 2), (40,)])
def test_it_draws_the_same_with_and_without_its_memory(shape):
    model, plan, blank = wave(shape), plans.wavefront(shape), wave(shape).digits.blank(4, shape)
    drawn = [sample(m, plan, blank, generator(1)) for m in (model, Forgetful(model))]
    assert torch.equal(*drawn)
    assert len(drawn[0].unique()) > 4


def test_a_walk_computes_each_pixel_once(monkeypatch):
    model, shape, seen = wave((2, 6, 5)), (2, 6, 5), []
    stream = Wavefront.stream

    def counted(self, value, y, x):
        seen.extend(zip(y.tolist(), x.tolist(), strict=True))
        return stream(self, value, y, x)

    monkeypatch.setattr(Wavefront, "stream", counted)
    sample(model, plans.wavefront(shape), model.digits.blank(3, shape), generator())
    assert sorted(seen) == [(y, x) for y in range(6) for x in range(5)]


def test_the_memory_holds_a_few_wavefronts():
    model = wave((1, 30, 40))
    walking = model.walking()
    x = some_data(model.digits, (1, 30, 40), 2)
    walking(Partial(x, torch.ones_like(x)))[Sites(torch.tensor([1199, 2399]), 1200)]
    kept = walking._memory.kept
    assert [tuple(k.shape) for k in kept] == [(4, 2, 31, 8)] * 3


def test_the_probabilities_of_everything_sum_to_one():
    for shape in ((1, 2, 2), (2, 1, 2), (3,)):
        model = wave(shape, classes=4)
        assert float(model.nats(all_data(4, shape)).detach().sum(1).neg().exp().sum()) == pytest.approx(1)


# --- the order --------------------------------------------------------------------------------------------------------


def test_the_order_is_x_plus_2y_channel_by_channel():
    when = wavefront_steps((3, 4, 5))
    assert when[2, 3, 1] == 3 * (1 + 2 * 3) + 2
    assert plans.wavefront((3, 32, 32)).when.max() + 1 == len(plans.wavefront((3, 32, 32))) == 3 * 94 == 282
    assert len(plans.wavefront((1, 7, 1))) == 7, "no step is empty"
    assert plans.wavefront((5,)).when.flatten().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_site_sees_what_its_order_reveals_later(shape):
    """Changing a site changes no distribution of an earlier or equal step but its own nats."""
    model, when = wave(shape), torch.from_numpy(wavefront_steps(shape)).flatten()
    x = some_data(model.digits, shape, 1)
    D, nats = x[0].numel(), model.nats(x)[0]
    for j in range(D):
        y = x.clone().flatten(1)
        y[0, j] = (y[0, j] + 5) % 16
        other = model.nats(y.view(x.shape))[0]
        early = (when <= when[j]) & (torch.arange(D) != j)
        assert torch.equal(nats[early], other[early])


@pytest.mark.parametrize(("shape", "cycle"), [((3, 5, 7), 0), ((2, 1, 6), 0), ((2, 6, 1), 0), ((1, 1, 40), 3)])
def test_no_gradient_comes_from_later(shape, cycle):
    torch.manual_seed(0)
    trunk = randomise(Wavefront(shape[0], 8, 6, 3, 255, cycle))
    steps = torch.from_numpy(wavefront_steps(shape)).flatten()
    value = torch.rand(1, *shape, generator=generator(), dtype=torch.double).mul(2).sub(1).requires_grad_()
    features = trunk.everywhere(value)
    reached = 0
    for site in range(value[0].numel()):
        for out in (features.hidden[site].sum(), features.loc[site]):
            (grad,) = torch.autograd.grad(out, value, retain_graph=True, allow_unused=True)
            grad = torch.zeros_like(value) if grad is None else grad
            assert (grad.flatten()[steps >= steps[site]] == 0).all()
            reached += int((grad != 0).sum())
    assert reached > 2 * value[0].numel() or shape == (1, 1, 1)


def test_each_pixel_sees_its_neighbours_and_the_channels_before():
    shape = (3, 5, 7)
    model, x = wave(shape), some_data(wave(shape).digits, shape, 1)
    nats = model.nats(x).view(shape)
    for (y, z), seen in {(2, 3): [(2, 4), (3, 2), (3, 3), (3, 4), (4, 1), (2, 6)], (0, 0): [(4, 6)]}.items():
        other = x.clone()
        other[0, 1, y, z] = (other[0, 1, y, z] + 7) % 16
        changed = model.nats(other).view(shape) != nats
        assert changed[2, y, z]
        assert not changed[0, y, z]
        if model.body.config.blocks >= 3:
            assert all(changed[:, i, j].all() for i, j in seen)


# --- any size, any start ----------------------------------------------------------------------------------------------


def test_a_model_of_one_size_scores_and_samples_every_size():
    model = wave((3, 32, 32), blocks=2)
    for size in ((1, 1), (3, 50), (41, 2)):
        x = some_data(model.digits, (3, *size), 2)
        told = ardm.score(model, x)
        assert (told.estimator, told.is_bound) == ("exact", False)
        torch.testing.assert_close(told.nats, ardm.score(model, x, order="own").nats)
    assert ardm.sample(wave((2, 3, 5)), 2).shape == (2, 2, 3, 5)
    with pytest.raises(ArdmError, match=r"must have the shape"):
        model.nats(torch.zeros(1, 2, 4, 4, dtype=torch.long))


def test_what_comes_first_can_be_given():
    model, shape = wave((2, 4, 5)), (2, 4, 5)
    x, when = some_data(model.digits, shape, 3), torch.from_numpy(wavefront_steps(shape))
    known = when < 11
    done = ardm.fill(model, x, known)
    assert torch.equal(done[:, known], x[:, known])
    each = torch.stack([when < n for n in (0, 7, 100)])  # another start for each item
    done = ardm.fill(model, x, each)
    assert torch.equal(done[each], x[each])
    told = likelihood.exact(model, plans.wavefront(shape).given(each), x, model.digits.truncate(x, each.long()))
    nats = model.nats(x).view(x.shape)
    torch.testing.assert_close(told.nats, (nats * ~each).flatten(1).sum(1).double())
    walked = score(model, plans.wavefront(shape).given(each), x, model.digits.truncate(x, each.long()))
    torch.testing.assert_close(told.nats, walked)


def test_gaps_and_other_orders_are_refused():
    model, shape = wave((2, 4, 5)), (2, 4, 5)
    x, when = some_data(model.digits, shape, 1), torch.from_numpy(wavefront_steps(shape))
    with pytest.raises(ArdmError, match="has one order and ignores what is known behind a hole"):
        ardm.fill(model, x, when > 3)
    with pytest.raises(ArdmError, match=r"before it is not known; walk along plan\.wavefront"):
        score(model, plans.raster(1, shape), x)
    with pytest.raises(ArdmError, match=r"scores along the wavefronts of plan\.wavefront only"):
        model.nats(x, torch.arange(40))
    with pytest.raises(ArdmError, match="single order, which takes 22 calls; got 21"):
        ardm.sample(model, 1, 21)
    assert torch.equal(model.nats(x, when[None]), model.nats(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"causal": ""}, "set model.causal to wave"),
        ({"causal": "single"}, "causal 'single' is for trunk"),
        ({"trunk": "centred"}, "has no setting causal"),
        ({"labels": 3}, "has no setting labels"),
        ({"base": 4}, "base 0|base at 0"),
        ({"shape": (4, 4)}, r"take shape \(C, H, W\) or \(D,\)"),
        ({"head": "values"}, "takes head mixture"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    given = {"shape": (3, 4, 4), "classes": 16, "trunk": "wavefront", "causal": "wave", **changes}
    with pytest.raises(ArdmError, match=message):
        build(ModelConfig(**given))


def test_context_is_refused():
    model = wave()
    x = some_data(model.digits, (3, 4, 5), 2)
    with pytest.raises(ArdmError, match="wavefront take no context"):
        model.nats(x, context=torch.tensor([0, 1]))


# --- its parts --------------------------------------------------------------------------------------------------------


def test_names_and_shapes_of_its_parameters():
    """Checkpoints and exporters rely on them."""
    shapes = {name: tuple(p.shape) for name, p in wave((3, 4, 4), width=8, hidden=6, blocks=1).named_parameters()}
    assert shapes == {
        "body.trunk.first": (8, 3, 22), "body.trunk.known": (8, 22), "body.trunk.bias": (8,),
        "body.trunk.blocks.0.up": (6, 40), "body.trunk.blocks.0.ub": (6,),
        "body.trunk.blocks.0.down": (8, 6), "body.trunk.blocks.0.db": (8,),
        "body.trunk.lift": (3, 8, 8), "body.trunk.own": (3, 8, 3), "body.trunk.lift_bias": (3, 8),
        "head.out.weight": (6, 8), "head.out.bias": (6,),
    }  # fmt: skip
    assert Wavefront(1, 8, 6, 4, 255, cycle=3).blocks[2].taps == [(0, -4), (0, 0)]


def test_every_parameter_is_trained():
    model = wave((3, 4, 5))
    causal_step(model, some_data(model.digits, (3, 4, 5), 8)).nats.sum().backward()
    for name, p in model.named_parameters():
        used = p.grad.ne(0)
        if name.endswith(".own"):  # channel c reads the channels before it
            assert used.any(1).tolist() == [[False] * 3, [True, False, False], [True, True, False]]
        else:
            assert used.any(), name


def test_it_begins_around_the_neighbours_mean():
    """Flat pictures cost little before training; and the mean is rounded to an eighth of a level."""
    model = build(ModelConfig((3, 8, 8), trunk="wavefront", causal="wave", width=8, blocks=1))
    flat = model.nats(torch.full((1, 3, 8, 8), 77)).view(3, 8, 8)
    assert float(flat[:, 1:, 1:].mean().detach()) < math.log(256) - 1
    value = torch.rand(1, 3, 8, 8, generator=generator()) * 2 - 1
    mean = model.body.trunk.everywhere(value).loc[:64] * 255 * 4
    torch.testing.assert_close(mean, mean.round(), atol=1e-3, rtol=0)


def test_bfloat16_blurs_little():
    model = wave((3, 8, 8), width=32, blocks=4).float()
    x = some_data(model.digits, (3, 8, 8), 4)
    exact = likelihood.causal(model, x).bits_per_dim
    with torch.autocast("cpu", torch.bfloat16):
        assert likelihood.causal(model, x).bits_per_dim == pytest.approx(exact, rel=0.01)
