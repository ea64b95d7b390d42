"""Random numbers by item, site and digit: SplitMix64, uniform, independent, and the same in every batch and order."""

import math

import numpy as np
import pytest
import torch

import ardm
from ardm import api
from ardm import plan as plans
from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.random_numbers import DIGIT, DRAWS, GAMMA, ORDERS, RandomNumbers, mixed, numbers_of
from ardm.source import Draw
from ardm.walk import last, walk
from toys import Fixed, generator, tiny_image, toy

MASK = (1 << 64) - 1


def splitmix(state):
    """The published generator, in Python's integers: the output of a state after its step."""
    z = state = (state + GAMMA) & MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return z ^ z >> 31


def one(seed, item, site, digit):
    """A uniform number by its definition."""
    start = splitmix((seed + item * GAMMA) & MASK)
    return (splitmix((start + (site + digit * DIGIT) * GAMMA) & MASK) >> 11) * 2.0**-53


def index(*numbers):
    return torch.tensor(numbers)


# --- the function -----------------------------------------------------------------------------------------------------


def test_the_output_function_is_that_of_splitmix64():
    """The first outputs of seed 0 are those of the published code."""
    known = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
    state = (torch.arange(3) + 1) * GAMMA
    assert [v % (1 << 64) for v in mixed(state).tolist()] == list(known)
    assert [splitmix((k * GAMMA) & MASK) for k in range(3)] == list(known)


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_numbers_follow_their_definition(seed):
    item, site, digit = index(0, 3, 10**6, 2**31), index(7, 0, 2**40, 5), index(0, 1, 7, 2)
    found = RandomNumbers(seed).uniform(item, site, digit)
    assert found.dtype == torch.double
    assert found.tolist() == [one(seed, *map(int, row)) for row in zip(item, site, digit, strict=True)]
    shifted = RandomNumbers(seed, first=2).uniform(item, site, digit)
    assert shifted.tolist() == [
        one(seed, int(i) + 2, int(s), int(d)) for i, s, d in zip(item, site, digit, strict=True)
    ]


def test_a_grid_lists_the_numbers_of_items_digits_and_sites():
    grid = RandomNumbers(5).grid(2, 3, 4)
    assert grid.shape == (2, 3, 4)
    for i, d, s in np.ndindex(2, 3, 4):
        assert float(grid[i, d, s]) == one(5, i, s, d)


def test_children_differ_from_each_other_and_keep_the_items():
    parent = RandomNumbers(3)
    rows = [parent.child(k).grid(2, 1, 50).flatten() for k in range(4)] + [parent.grid(2, 1, 50).flatten()]
    assert len(torch.stack(rows).unique()) == 500
    assert torch.equal(parent.child(1).grid(4, 1, 5)[2:], RandomNumbers(3, first=2).child(1).grid(2, 1, 5))


def test_a_generator_gives_new_numbers_each_time_and_repeats_with_its_seed():
    chance = generator(1)
    a, b = (numbers_of(chance).grid(1, 1, 9) for _ in range(2))
    assert not (a == b).any()
    assert torch.equal(a, numbers_of(generator(1)).grid(1, 1, 9))
    assert not torch.equal(a, numbers_of(generator(1)).child(0).grid(1, 1, 9))


@pytest.mark.parametrize("bad", [-1, 2**64, 1.5, None, True, "0"])
def test_seeds_that_are_none_are_refused(bad):
    with pytest.raises(ArdmError, match="seed"):
        RandomNumbers(bad)
    with pytest.raises(ArdmError, match="first"):
        RandomNumbers(0, -1)


# --- statistics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_numbers_are_uniform_by_item_by_site_and_by_digit(seed):
    """Chi-square of 256 cells; 5 standard deviations each."""
    for shape in ((1, 1, 1 << 16), (1 << 16, 1, 1), (1 << 10, 8, 8)):
        u = RandomNumbers(seed).grid(*shape).flatten()
        assert u.min() >= 0
        assert u.max() < 1
        seen = (u * 256).long().bincount(minlength=256).double()
        chi = float((seen - 256).square().sum() / 256)
        assert abs(chi - 255) < 5 * math.sqrt(2 * 255), shape


def test_each_of_the_53_bits_is_set_half_of_the_time():
    n = 1 << 15
    bits = (RandomNumbers(0).grid(n // 64, 1, 64).flatten() * 2.0**53).long()
    for k in range(53):
        share = float((bits >> k & 1).double().mean())
        assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(n), k


def test_neighbours_are_not_correlated():
    """Items, sites, digits, seeds and purposes, next to each other or far apart; pairs fill the square evenly."""
    items, digits, sites = 64, 2, 256
    u = RandomNumbers(0).grid(items, digits, sites)
    pairs = {
        "item": (u[1:], u[:-1]),
        "site": (u[..., 1:], u[..., :-1]),
        "digit": (u[:, 1:], u[:, :-1]),
        "seed": (u, RandomNumbers(1).grid(items, digits, sites)),
        "purpose": (RandomNumbers(0).child(DRAWS).grid(items, digits, sites), RandomNumbers(0).child(ORDERS).grid(items, digits, sites)),
        "diagonal": (u[1:, :, 1:], u[:-1, :, :-1]),
        "item and site": (u[:, 0, :64], u[:, 0, :64].T),
    }  # fmt: skip
    for name, (a, b) in pairs.items():
        a, b = a.flatten(), b.flatten()
        if name == "item and site":
            a, b = a[off := torch.arange(len(a)) % 65 != 0], b[off]  # the diagonal is the same number
        n = len(a)
        r = float(torch.corrcoef(torch.stack([a, b]))[0, 1])
        assert abs(r) < 5 / math.sqrt(n), name
        cells = ((a * 8).long() * 8 + (b * 8).long()).bincount(minlength=64).double()
        chi = float((cells - n / 64).square().sum() / (n / 64))
        assert abs(chi - 63) < 7 * math.sqrt(2 * 63), name  # a pair and its mirror count twice


def test_orders_are_uniform():
    """All 24 orders of four sites, of 24,000 items."""
    ranks = plans.shuffled(1, (4,), RandomNumbers(0), 24_000).when.view(-1, 4)
    code = ranks @ torch.tensor([64, 16, 4, 1])
    seen = code.bincount(minlength=256).double()
    seen = seen[seen > 0]
    assert len(seen) == 24
    assert float((seen - 1000).square().sum() / 1000) < 23 + 5 * math.sqrt(46)


# --- batches and orders -----------------------------------------------------------------------------------------------

IMAGES = tiny_image("centred", shape=(1, 3, 3), classes=5, base=2)


@pytest.mark.parametrize("order", ["random", "confident", "raster"])
def test_two_samples_are_the_first_two_of_four(order):
    four = ardm.sample(IMAGES, 4, 7, order, seed=3)
    assert torch.equal(ardm.sample(IMAGES, 2, 7, order, seed=3), four[:2])
    assert torch.equal(ardm.sample(IMAGES, 2, 7, order, seed=3, first=2), four[2:])
    assert len({tuple(x.flatten().tolist()) for x in four}) == 4
    assert not torch.equal(ardm.sample(IMAGES, 4, 7, order, seed=4), four)


def test_completions_do_not_depend_on_the_batch():
    x = ardm.sample(IMAGES, 3, 7, seed=1)
    known = torch.rand(x.shape, generator=generator(2)) < 0.4
    done = ardm.fill(IMAGES, x, known, 5, "random", seed=9)
    assert torch.equal(ardm.fill(IMAGES, x[:1], known[:1], 5, "random", seed=9), done[:1])


JOINT = torch.tensor([[4, 1, 0.5], [1, 1, 1], [0.1, 2, 1]]).double() / 11.6


def conditionals(value, depth):
    """Logits of two sites, from their joint distribution."""
    there = (depth > 0)[..., None]
    first = torch.where(there[:, 1], JOINT.T[value[:, 1]], JOINT.sum(1))
    second = torch.where(there[:, 0], JOINT[value[:, 0]], JOINT.sum(0))
    return torch.stack([first, second], 1).log()


def test_what_continues_from_samples_of_the_same_seed_is_drawn_anew():
    """With the numbers of the sample, a completion would mostly be the sample again, and of another distribution."""
    model, n = ardm.wrap(conditionals, (2,), 3), 4000
    x = ardm.sample(model, n, 2, "raster")
    again = {
        "fill": ardm.fill(model, x, torch.tensor([False, True]), 2),
        "refine": ardm.refine(model, x, share=0.5),
        "remask and refine": ardm.refine(model, ardm.sample_remasked(model, n, 2, 0.0), share=0.5),
    }
    for name, y in again.items():
        seen = (3 * y[:, 0] + y[:, 1]).bincount(minlength=9).double()
        chi = float(((seen - n * JOINT.flatten()).square() / (n * JOINT.flatten())).sum())
        assert chi < 8 + 5 * math.sqrt(16), name


def test_an_item_has_the_same_order_in_every_batch():
    four, two = (plans.shuffled(2, (6,), RandomNumbers(1), n).when for n in (4, 2))
    assert torch.equal(four[:2], two)
    assert not torch.equal(four[0], four[1])
    assert torch.equal(plans.shuffled(2, (6,), RandomNumbers(1, first=2), 2).when, four[2:])
    jumps = plans.absorbing(5, (6,), 4, RandomNumbers(1)).when
    assert torch.equal(plans.absorbing(5, (6,), 2, RandomNumbers(1)).when, jumps[:2])
    made = api.make_plan(IMAGES, 7, generator=RandomNumbers(1), batch=4).when
    assert torch.equal(api.make_plan(IMAGES, 7, generator=RandomNumbers(1), batch=2).when, made[:2])


class Independent:
    """A model whose predictions depend on site and digit only: then so do the draws, in any order and any steps."""

    digits = Digits(9, 3)

    def __call__(self, state, context=None):
        table = torch.randn(2, 6, 3, generator=generator(4), dtype=torch.double)

        class At:
            def __getitem__(self, sites):
                return table[sites.of(state.depth), sites.position]

            def log_prob(self, sites, digit):
                raise AssertionError

        return At()


def test_draws_do_not_depend_on_the_order_given_the_same_predictions():
    model, blank = Independent(), Digits(9, 3).blank(3, (6,))
    made = [
        plans.raster(2, (6,)),
        plans.shuffled(2, (6,), generator(1), 3),
        plans.shuffled(2, (6,), generator(2)).coarsen([0, 3, 6]),
        plans.unstaged(2, (6,), generator(3)),
    ]
    drawn = [last(walk(model, plan, Draw(RandomNumbers(7)), blank), blank).value for plan in made]
    for other in drawn[1:]:
        assert torch.equal(drawn[0], other)
    assert not torch.equal(drawn[0], last(walk(model, made[0], Draw(RandomNumbers(8)), blank), blank).value)


def test_a_draw_inverts_the_cdf_at_the_number_of_its_site():
    from ardm.digits import Sites

    logits = torch.tensor([[0.0, 1.0, -1.0]]).expand(6, -1)
    sites = Sites(torch.tensor([0, 2, 3, 4, 7, 8]), 3)
    drawn = Draw(RandomNumbers(2))(Fixed(logits), sites, None)
    cdf = logits[0].double().softmax(-1).cumsum(-1)
    for site, digit in zip(sites.index.tolist(), drawn.tolist(), strict=True):
        u = float(RandomNumbers(2).child(DRAWS).uniform(index(site // 3), index(site % 3)))
        assert digit == int((cdf <= u).sum())


def test_a_toy_of_two_digits_uses_another_number_for_each():
    model = toy(Digits(4, 2), (5,), scale=0.0)
    blank = model.digits.blank(400, (5,))
    x = last(walk(model, plans.raster(2, (5,)), Draw(RandomNumbers(0)), blank), blank).value
    assert (x.flatten().bincount(minlength=4) / 2000 - 0.25).abs().max() < 0.06
