"""Networks: hidden values that they must not see, sizes that they must take, and no side effects of building them."""

import dataclasses
import math
import subprocess
import sys
import textwrap

import pytest
import torch

from ardm import plan as plans
from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.models.build import build
from ardm.models.config import PRESETS, ModelConfig, preset
from ardm.nets import UNet
from ardm.nets.neighbours import SPREAD_FLOOR, box_mean, neighbours
from ardm.objective import Steps, bound_step, draw
from ardm.walk import sample, score
from toys import all_data, everywhere, generator, randomise, some_data, tiny_image

VARIANTS = {
    "unet": {"trunk": "unet"},
    "unet with attention": {"trunk": "unet", "attention": "middle"},
    "unet of two levels": {"trunk": "unet", "levels": 2, "attention": "all", "blocks": 2},
    "unet that grows": {"trunk": "unet", "levels": 2, "growth": 2},
    "unet with embedding and time": {"trunk": "unet", "attention": "middle", "embedding": 3, "time": True},
    "unet of the paper": {"trunk": "unet", "attention": "middle", "embedding": 3, "time": True, "style": "classic"},
    "unet with labels": {"trunk": "unet", "labels": 3, "dropout": 0.3},
    "unet with a vector": {"trunk": "unet", "vector": 4},
    "centred": {"trunk": "centred"},
    "centred of three levels": {"trunk": "centred", "levels": 3, "growth": 2, "rounded": False},
    "centred with labels and time": {"trunk": "centred", "levels": 2, "labels": 3, "time": True},
    "centred with a vector": {"trunk": "centred", "vector": 4, "hidden": 5},
}
HEADS = ("values", "digits", "mixture")
PAIRS = [(name, head) for name in VARIANTS for head in HEADS if head == "values" or "style" not in VARIANTS[name]]


def mixed(name):
    """A mixture, where the network takes one."""
    return "values" if "style" in VARIANTS[name] else "mixture"


def context_for(config, batch):
    if config.labels:
        return torch.arange(batch) % config.labels
    return torch.randn(batch, config.vector, generator=generator(8), dtype=torch.double) if config.vector else None


def answers(model, state, context=None):
    """Everything a model says about a state."""
    return model(state, context)[everywhere(model, state)]


# --- nothing hidden is seen -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("base", [0, 3])
def test_hidden_digits_change_no_output_and_no_gradient(name, base):
    """C2, on the real networks: other data under the same known digits; and known digits do matter."""
    model = tiny_image(base=base, classes=7, **VARIANTS[name])
    digits, context = model.digits, context_for(model.body.config, 3)
    x = some_data(digits, (2, 3, 3))
    steps = draw(3, len(digits), (2, 3, 3), generator(2))
    depth = steps.stage.view(-1, 1, 1, 1) + (steps.rank < steps.known.view(-1, 1, 1, 1)).long()
    depth[0] = 0  # nothing known of one item
    block = digits.base ** (len(digits) - depth)
    other = digits.truncate(x, depth).value + (x + 1) % block
    other = torch.where(other < digits.classes, other, x)
    assert (other != x).any()
    one, two = digits.truncate(x, depth), digits.truncate(other, depth)
    a, b = answers(model, one, context), answers(model, two, context)
    assert a.isfinite().any()
    assert torch.equal(a, b)
    hidden = Sites.where(depth < len(digits))
    scored = Sites(hidden.index[::2], hidden.sites)  # half of what is hidden: the other half is not even a target
    grads = []
    for state in (one, two):
        loss = model(state, context).log_prob(scored, digits.read(x, depth, scored)).sum()
        grads.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    for g, h in zip(*grads, strict=True):
        assert (g is None and h is None) or torch.equal(g, h)
    site = int((depth[1].flatten() > 0).nonzero()[0])
    y = x.clone()
    y[1].view(-1)[site] = (y[1].view(-1)[site] + digits.classes // 2) % digits.classes
    changed = answers(model, digits.truncate(y, depth), context)
    assert not torch.equal(a, changed)


@pytest.mark.parametrize("name", VARIANTS)
def test_items_do_not_see_each_other(name):
    model = tiny_image(classes=7, base=3, head=mixed(name), **VARIANTS[name])
    x, context = some_data(model.digits, (2, 3, 3), 4), context_for(model.body.config, 4)
    plan = plans.shuffled(2, (2, 3, 3), generator(0)).coarsen([0, 3, 10, 18, 20])
    together = score(model, plan, x, context=context)
    for i in range(4):
        alone = score(model, plan, x[i : i + 1], context=None if context is None else context[i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_answers_belong_to_the_sites_asked(name):
    """Any subset, in any order, and each channel its own: as the whole says."""
    model = tiny_image(classes=5, head=mixed(name), **VARIANTS[name])
    x, context = some_data(model.digits, (2, 3, 3), 3), context_for(model.body.config, 3)
    state = model.digits.truncate(x, (torch.rand(x.shape, generator=generator(1)) < 0.5).long())
    prediction, everything = model(state, context), everywhere(model, state)
    whole = prediction[everything]
    pick = torch.randperm(len(everything), generator=generator(2))[: len(everything) // 2]
    some = Sites(everything.index[pick], everything.sites)
    torch.testing.assert_close(prediction[some], whole[pick], rtol=1e-10, atol=1e-12)
    assert len(prediction[Sites(everything.index[:0], 18)]) == 0
    empty = model.digits.blank(1, (2, 3, 3))
    first = answers(model, empty, None if context is None else context[:1])
    assert not torch.allclose(first[:9].mean(0), first[9:].mean(0))  # the channels are told apart


@pytest.mark.parametrize(("name", "head"), PAIRS)
def test_every_parameter_is_trained(name, head):
    model = tiny_image(classes=7, base=3, head=head, shape=(2, 4, 4), **VARIANTS[name])
    model.eval()
    x, context = some_data(model.digits, (2, 4, 4), 4), context_for(model.body.config, 4)
    steps = Steps(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 9, 2, 17]), draw(4, 2, (2, 4, 4), generator(0)).rank)
    loss = bound_step(model, x, steps, context=context).nats.sum()
    if model.body.config.labels:
        loss = loss + bound_step(model, x, steps).nats.sum()  # "no label" has a row of its own
    loss.backward()
    for parameter, value in model.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter
        assert value.grad.abs().sum() > 0, parameter


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trunk", "levels"), [("unet", 1), ("unet", 3), ("centred", 1), ("centred", 3)])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2), (5, 8)])
def test_images_of_any_size(trunk, size, levels):
    model = tiny_image(trunk, (3, *size), classes=6, base=2, head="mixture", levels=levels)
    assert sample(
        model,
        plans.raster(3, (3, *size)).coarsen([0, 3 * size[0] * size[1], 6 * size[0] * size[1]]),
        model.digits.blank(2, (3, *size)),
        generator(),
    ).shape == (2, 3, *size)


@pytest.mark.parametrize("trunk", ["unet", "centred"])
def test_one_pixel_is_a_distribution(trunk):
    model = tiny_image(trunk, (1, 1, 1), classes=5, base=2, head="digits")
    assert float(score(model, plans.raster(3, (1, 1, 1)), all_data(5, (1, 1, 1))).neg().exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("trunk", ["unet", "centred"])
def test_one_model_serves_images_larger_than_it_was_made_for(trunk):
    model = tiny_image(trunk, (1, 4, 4), classes=4)
    x = some_data(model.digits, (1, 6, 5), 2)
    assert score(model, plans.raster(1, (1, 6, 5)).coarsen([0, 7]), x).isfinite().all()


# --- what is known nearby ---------------------------------------------------------------------------------------------


def brute_box(planes, side):
    """Means over squares, zeros outside, by summing each."""
    reach = side // 2
    wide = torch.nn.functional.pad(planes, (reach,) * 4)
    return wide.unfold(2, side, 1).unfold(3, side, 1).sum((-1, -2)) / side**2


@pytest.mark.parametrize("side", [3, 7, 17])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (20, 5)])
def test_boxes_are_means_over_squares(side, size):
    planes = torch.randn(2, 3, *size, generator=generator(0), dtype=torch.double)
    torch.testing.assert_close(box_mean(planes, side), brute_box(planes, side), rtol=0, atol=1e-12)


def test_neighbours_are_means_of_what_is_known():
    value = torch.rand(2, 2, 9, 11, generator=generator(0), dtype=torch.double) * 2 - 1
    known = (torch.rand(value.shape, generator=generator(1)) < 0.2).double()
    mean, spread = neighbours(value, known)
    shares = ((3, 1.0), (7, 1e-2), (17, 1e-4), (65, 1e-6))
    weight, first, second = (
        sum(share * brute_box(m, side) for side, share in shares) for m in (known, value * known, value**2 * known)
    )
    weight = weight + 1e-9
    torch.testing.assert_close(mean, first / weight, rtol=0, atol=1e-8)
    variance = (second / weight - (first / weight) ** 2).clamp(min=0) + SPREAD_FLOOR**2 + 0.25e-9 / weight
    torch.testing.assert_close(spread, variance.sqrt(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_where_nothing_is_known_the_mean_is_zero_and_hidden_values_do_not_count(dtype):
    known = torch.zeros(1, 1, 200, 3, dtype=dtype)
    mean, spread = neighbours(torch.ones_like(known), known)
    assert mean.abs().max() == 0
    torch.testing.assert_close(spread, torch.full_like(spread, math.sqrt(0.25 + SPREAD_FLOOR**2)))
    known[0, 0, 0] = 1
    value = torch.full_like(known, 0.3)
    value[0, 0, 1:] = torch.randn(199, 3, generator=generator(0)).to(dtype)  # not known
    mean, spread = neighbours(value, known)
    torch.testing.assert_close(mean[0, 0, :8], torch.full_like(mean[0, 0, :8], 0.3), rtol=0, atol=1e-3)
    assert (mean[0, 0, 1:33].diff(dim=0) <= 1e-6).all()  # it fades with distance, and is 0 out of reach
    assert mean[0, 0, 33:].abs().max() < 1e-3
    assert spread[0, 0, :8].max() < 0.05 < 0.4 < spread[0, 0, 33:].min()


# --- conditioning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trunk", ["unet", "centred"])
def test_labels_change_the_answer_and_may_be_left_out(trunk):
    model = tiny_image(trunk, (1, 2, 2), classes=3, labels=2)
    x, plan = all_data(3, (1, 2, 2)), plans.raster(1, (1, 2, 2))
    nats = [
        score(model, plan, x, context=c)
        for c in (torch.zeros(81, dtype=torch.long), torch.ones(81, dtype=torch.long), None)
    ]
    for n in nats:
        assert float(n.neg().exp().sum()) == pytest.approx(1)
    assert min((nats[i] - nats[j]).abs().max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-3


@pytest.mark.parametrize("trunk", ["unet", "centred"])
def test_context_that_does_not_fit_is_refused(trunk):
    blank = tiny_image(trunk).digits.blank(2, (2, 3, 3))
    for changes, context, message in (
        ({}, torch.zeros(2), "takes no context"),
        ({"time": True}, torch.zeros(2), "takes no context"),
        ({"labels": 3}, torch.zeros(2), "class label"),
        ({"labels": 3}, torch.zeros(3, dtype=torch.long), "class label"),
        ({"vector": 3}, torch.zeros(2, 4), "vectors"),
    ):
        with pytest.raises(ArdmError, match=message):
            tiny_image(trunk, **changes)(blank, context)


def test_the_number_of_known_digits_can_be_fed():
    model = tiny_image("centred", (1, 1, 128), classes=4, time=True, levels=1)
    x = torch.full((1, 1, 1, 128), 2)
    few, more = torch.zeros_like(x), torch.zeros_like(x)
    few[..., 100], more[..., 100:120] = 1, 1  # further than convolutions and boxes reach
    site = Sites(torch.tensor([0]), 128)
    a, b = (model(model.digits.truncate(x, d))[site] for d in (few, more))
    assert (a - b).abs().max() > 1e-3


# --- the zoo ----------------------------------------------------------------------------------------------------------


def test_the_input_shows_the_centre_of_what_a_site_may_be():
    """The paper's absorbing value K // 2 at depth 0, the value itself at full depth, all within [−1, 1]."""
    model, seen = tiny_image("centred", (1, 1, 8), classes=7, base=2), []
    model.body.trunk.forward = lambda value, known, masks, condition=None: seen.append((value, known))
    x = torch.arange(7).view(1, 1, 1, 7)
    expected = {0: [3.0] * 7, 1: [1.5] * 4 + [5.0] * 3, 2: [0.5, 0.5, 2.5, 2.5, 4.5, 4.5, 6.0], 3: list(range(7))}
    for d, centre in expected.items():
        model.body(model.digits.truncate(x, torch.full_like(x, d)))
        value, known = seen[-1]
        torch.testing.assert_close((value.flatten() + 1) * 3, torch.tensor(centre).double(), rtol=0, atol=1e-5)
        torch.testing.assert_close(known, torch.full_like(known, d / 3), rtol=0, atol=1e-7)


def test_the_input_says_how_many_digits_are_known():
    """A plane a stage for the U-Net, as in the paper, beside the value; an embedding has a row for "nothing known"."""
    model, seen = tiny_image("unet", (2, 1, 4), classes=7, base=2, embedding=3), []
    model.body.trunk.forward = lambda planes, *rest: seen.append(planes)
    depth = torch.tensor([0, 1, 2, 3]).expand(1, 2, 1, 4)
    state = model.digits.truncate(torch.full((1, 2, 1, 4), 5), depth)
    model.body(state)
    planes = seen[0][0, :, 0]
    assert planes.shape == (2 + 2 * 3 + 2 * 3, 4)
    assert planes[2:8].tolist() == [row for s in range(3) for row in [[float(d > s) for d in range(4)]] * 2]
    rows = model.body.embedding.weight[[7, 4, 4, 5]]
    torch.testing.assert_close(planes[8:].view(2, 3, 4), rows.T.expand(2, 3, 4))


def test_a_seed_decides_the_parameters_and_nothing_else_moves():
    config = ModelConfig(shape=(1, 4, 4), classes=4, width=8, blocks=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = build(config, 1), build(config, 1), build(config, 2)
    assert torch.equal(torch.get_rng_state(), before)
    same = [torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True)]
    other = [torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True)]
    assert all(same)
    assert not all(other)


@pytest.mark.parametrize("trunk", ["unet", "centred"])
@pytest.mark.parametrize("head", HEADS)
def test_a_new_model_begins_near_ignorance(trunk, head):
    """Zero-initialised heads: flat, or a broad mixture around the neighbours."""
    model = build(ModelConfig(shape=(1, 3, 3), classes=16, base=4, head=head, trunk=trunk, width=8, blocks=1)).eval()
    x = torch.full((1, 1, 3, 3), 8)
    with torch.no_grad():
        nats = bound_step(model, x, Steps(torch.tensor([0]), torch.tensor([0]), torch.arange(9).view(1, 1, 3, 3))).nats
    assert float(nats) < 2 * 9 * math.log(4) * 1.5
    if head != "mixture":
        assert float(nats) == pytest.approx(2 * 9 * math.log(4), rel=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_named_sizes_can_be_built_small(name):
    shape = (1, 4, 4) if "shape" not in PRESETS[name] else (16,)
    config = preset(name, shape=shape, classes=4, width=8, blocks=1)
    model = build(config)
    plan = plans.wavefront(shape) if config.causal == "wave" else plans.raster(1, shape).coarsen([0])
    assert score(model, plan, some_data(model.digits, shape)).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "softmax"}, "head must be one of values"),
        ({"trunk": "forest"}, "trunk must be"),
        ({"attention": "some"}, "attention must be"),
        ({"shape": (3, 4)}, r"\(C, H, W\)"),
        ({"shape": (0, 4, 4)}, r"\(C, H, W\)"),
        ({"width": 2}, "width"),
        ({"components": 0}, "components must be at least 1"),
        ({"levels": 2, "blocks": 0}, "several levels"),
        ({"width": 9, "time": True}, "even width"),
        ({"labels": 2, "vector": 2}, "either"),
        ({"base": 300}, "base must lie"),
    ],
)
def test_configurations_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ArdmError, match=message):
        build(dataclasses.replace(ModelConfig(shape=(1, 4, 4), width=8, blocks=1), **changes))


def test_unknown_names_are_refused():
    with pytest.raises(ArdmError, match="unknown preset"):
        preset("huge")


def test_trunks_take_planes_and_nothing_of_diffusion():
    net = randomise(UNet(2, 1, 8, 1))
    planes = torch.rand(2, 2, 4, 5, generator=generator(0), dtype=torch.double)
    out = net(planes, planes[:, :1], planes[:, 1:])(torch.tensor([0, 1]), torch.tensor([3, 19]))
    assert [tuple(o.shape) for o in (out.hidden, out.loc, out.scale)] == [(2, 8), (2,), (2,)]


def test_dropout_acts_in_training_only():
    model = tiny_image("unet", classes=4, dropout=0.5)
    state = model.digits.blank(1, (2, 3, 3))
    assert torch.equal(answers(model, state), answers(model, state))
    model.train()
    assert not torch.equal(answers(model, state), answers(model, state))


@pytest.mark.parametrize("trunk", ["unet", "centred"])
def test_single_precision_agrees(trunk):
    model = tiny_image(trunk, (2, 4, 4), classes=256, base=16, head="mixture")
    x = some_data(model.digits, (2, 4, 4))
    plan = plans.raster(2, (2, 4, 4)).coarsen([0, 5, 20, 32, 40])
    double = score(model, plan, x)
    torch.testing.assert_close(score(model.float(), plan, x), double, rtol=1e-3, atol=0)


# --- importing --------------------------------------------------------------------------------------------------------


STATE = textwrap.dedent("""
    import importlib, random, sys, warnings
    import numpy, torch

    def state():
        flags = torch.backends
        return [
            torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(), torch.initial_seed(),
            torch.get_rng_state().tolist(), torch.is_anomaly_enabled(), torch.get_default_device().type,
            torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(),
            flags.mkldnn.enabled, flags.cudnn.benchmark, flags.cudnn.deterministic, flags.cudnn.allow_tf32,
            flags.cuda.matmul.allow_tf32, torch.distributions.Distribution._validate_args,
            torch._tensor_str.PRINT_OPTS, numpy.geterr(), numpy.get_printoptions(), random.getstate(),
            numpy.random.get_state(), [f for f in warnings.filters if "ardm" in str(f)],
        ]

    before = [str(v) for v in state()]
    for name in sys.argv[1:]:
        importlib.import_module(name)
    after = [str(v) for v in state()]
    print([i for i, (a, b) in enumerate(zip(before, after)) if a != b])
""")


def test_importing_changes_no_global_state():
    rooms = [
        "digits",
        "plan",
        "heads",
        "model",
        "nets",
        "source",
        "walk",
        "objective",
        "models.build",
        "orders",
        "likelihood",
    ]
    names = ["ardm", *(f"ardm.{room}" for room in rooms)]
    done = subprocess.run(
        [sys.executable, "-c", STATE, *names], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_states_are_whole_numbers():
    blank = tiny_image().digits.blank(1, (2, 3, 3))
    assert isinstance(blank, Partial)
    assert blank.value.dtype == blank.depth.dtype == torch.long


def test_the_network_of_the_paper_starts_flat_and_shows_its_absorbing_values():
    """K // 2 where nothing is known, or digits of zero in stages; masks beside them; 192 + 64 channels of 256."""
    for base in (0, 4):
        model = build(ModelConfig(shape=(3, 4, 4), classes=16, base=base, head="values", width=16, blocks=1,
                                  style="classic", embedding=4)).eval()  # fmt: skip
        trunk, seen = model.body.trunk, []
        assert trunk.input.out_channels + trunk.embedding.embedding_dim == 16
        trunk.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given))
        state = model.digits.blank(2, (3, 4, 4))
        logits = model(state)[everywhere(model, state)]
        assert logits.shape == (96, base or 16)
        torch.testing.assert_close(logits.log_softmax(-1), torch.full_like(logits, -math.log(base or 16)))
        shown, masks, _ = seen[0]
        assert (shown == (0 if base else 8)).all()
        assert masks.shape == (2, 3 * len(model.digits), 4, 4)
        assert not masks.any()
