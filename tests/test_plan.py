"""When each digit becomes known: laws that every plan keeps, what the builders promise, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm import plan
from ardm.digits import Digits, Partial, Sites
from ardm.errors import ArdmError
from ardm.plan import GIVEN, NEVER, Plan
from ardm.ranks import RANKS, bayer_ranks, checkerboard_ranks, halton_ranks, wavefront_ranks
from toys import generator, only


def when(*stages):
    """A shared plan on a row of sites, from the steps of each stage."""
    return Plan(torch.tensor([list(stages)]))


def follow(p, batch=1):
    """Reveal whatever the plan selects, counting: the depth after the walk and the sites of each step."""
    depth = p.depth(0).expand(batch, *p.shape).clone()
    steps = []
    for k in range(len(p)):
        assert torch.equal(depth, p.depth(k).expand_as(depth))
        sites = p.select(k, Partial(torch.zeros_like(depth), depth), None)
        depth = depth.flatten().index_add(0, sites.index, torch.ones_like(sites.index)).view_as(depth)
        steps.append(sites)
    return depth, steps


BUILDERS = {
    "raster": lambda S, shape, g: plan.raster(S, shape),
    "shuffled": plan.shuffled,
    "shuffled, one per item": lambda S, shape, g: plan.shuffled(S, shape, g, batch=3),
    "unstaged": plan.unstaged,
    "blocks": lambda S, shape, g: plan.blocks(S, shape, 2, g),
    "ranked": lambda S, shape, g: plan.ranked(torch.randperm(math.prod(shape), generator=g), shape, S),
    "bayer": lambda S, shape, g: plan.image(S, (1, *shape), bayer_ranks(*shape)),
    "coarsened": lambda S, shape, g: plan.raster(S, shape).coarsen(
        [math.prod(shape) * s + k for s in range(S) for k in (0, 2)]
    ),
}


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_every_digit_is_revealed_once_in_its_turn(name, stages):
    p = BUILDERS[name](stages, (2, 3), generator(1))
    assert p.when.min() == 0
    assert len(p) == int(p.when.max()) + 1
    depth, steps = follow(p, batch=3)
    assert (depth == stages).all()
    assert sum(len(s) for s in steps) == 3 * 6 * stages
    for sites in steps:
        assert torch.equal(sites.index, sites.index.unique())  # item by item, positions ascending


@pytest.mark.parametrize("stages", [1, 3])
def test_a_shared_plan_is_that_plan_for_each_item(stages):
    shared = plan.shuffled(stages, (5,), generator(2)).coarsen([s * 5 + k for s in range(stages) for k in (0, 1, 3)])
    own = Plan(shared.when.expand(4, -1, -1).contiguous())
    depth = torch.zeros(4, 5, dtype=torch.long)
    for k in range(len(shared)):
        state = Partial(depth, shared.depth(k).expand(4, 5))
        a, b = shared.select(k, state, None), own.select(k, state, None)
        assert torch.equal(a.index, b.index)
        assert a.sites == b.sites == 5
        assert torch.equal(shared.group(k), a.index[a.batch_index == 0])


# --- the laws of coarsen, given, only ---------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_coarsening_keeps_the_order_and_the_starts(data):
    D, S = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 3))
    fine = plan.shuffled(S, (D,), generator(data.draw(st.integers(0, 99))))
    cuts = data.draw(st.sets(st.integers(0, S * D - 1))) | set(range(0, S * D, D))
    starts = sorted(cuts)
    coarse = fine.coarsen(starts)
    assert len(coarse) == len(starts)
    for old, new in zip(fine.when.flatten().tolist(), coarse.when.flatten().tolist(), strict=True):
        assert starts[new] <= old < [*starts, S * D][new + 1]
    for k, first in enumerate(starts):
        assert torch.equal(coarse.depth(k), fine.depth(first))


def test_coarsening_to_every_step_changes_nothing():
    p = plan.shuffled(2, (4,), generator(0))
    assert torch.equal(p.coarsen(range(8)).when, p.when)
    assert len(plan.raster(1, (4,)).coarsen([0])) == 1


@pytest.mark.parametrize("starts", [[], [1, 2], [0, 2, 2], [0, 3, 1], [0, 4], [-1, 0]])
def test_coarsening_refuses_other_starts(starts):
    with pytest.raises(ArdmError, match="starts must"):
        plan.raster(1, (4,)).coarsen(starts)


def test_coarsening_refuses_two_digits_of_a_site_in_a_step():
    with pytest.raises(ArdmError, match="more significant"):
        plan.raster(2, (2,)).coarsen([0])


def test_what_is_given_is_struck_off():
    p = when([0, 1, 2], [3, 4, 5])
    after = p.given(torch.tensor([[2, 1, 0]]))
    assert after.when.tolist() == [[[GIVEN, GIVEN, 0], [GIVEN, 1, 2]]]
    assert after.depth(0).tolist() == [[2, 1, 0]]
    assert len(after) == 3
    assert follow(after)[0].tolist() == [[2, 2, 2]]


def test_a_group_of_which_a_part_is_given_keeps_the_rest():
    p = when([0, 0, 1, 1])
    assert p.given(torch.tensor([[1, 0, 1, 1]])).when.tolist() == [[[GIVEN, 0, GIVEN, GIVEN]]]
    assert len(p.given(torch.ones(1, 4, dtype=torch.long))) == 0


def test_given_parts_may_differ_between_items():
    p = when([0, 1, 2])
    after = p.given(torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]]))
    assert after.when[:, 0].tolist() == [[GIVEN, 0, 1], [GIVEN, GIVEN, 1], [GIVEN, 0, GIVEN]]
    shared = plan.shuffled(1, (3,), generator(0), batch=3).given(torch.tensor([[1, 0, 0]]))
    assert len(shared.when) == 3
    assert (shared.when[:, 0, 0] == GIVEN).all()


def test_outside_is_never_revealed_and_steps_keep_their_number():
    p = only(when([0, 1, 2, 3], [4, 5, 6, 7]), torch.tensor([[True, False, True, False]]))
    assert p.when.tolist() == [[[0, NEVER, 2, NEVER], [4, NEVER, 6, NEVER]]]
    assert len(p) == 7
    depth, steps = follow(p)
    assert depth.tolist() == [[2, 0, 2, 0]]
    assert [len(s) for s in steps] == [1, 0, 1, 0, 1, 0, 1]
    assert p.coarsen([0, 2, 4]).when.tolist() == [[[0, NEVER, 1, NEVER], [2, NEVER, 2, NEVER]]]
    assert len(only(p, torch.zeros(1, 4, dtype=torch.bool))) == 0


def test_given_and_never_together():
    p = only(when([0, 1, 2], [3, 4, 5]), torch.tensor([[True, True, False]])).given(torch.tensor([[1, 2, 1]]))
    assert p.when.tolist() == [[[GIVEN, GIVEN, GIVEN], [0, GIVEN, NEVER]]]
    assert follow(p)[0].tolist() == [[2, 2, 1]]


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_an_elder_digit_comes_first():
    for good in ([[-1], [-1]], [[-1], [0]], [[0], [1]], [[NEVER], [NEVER]], [[3], [NEVER]]):
        when(*good)
    for bad in ([[3], [1]], [[2], [2]], [[0], [-1]], [[NEVER], [0]], [[NEVER], [GIVEN]]):
        with pytest.raises(ArdmError, match="more significant"):
            when(*bad)


def test_plans_refuse_what_is_no_tensor_of_steps():
    with pytest.raises(ArdmError, match="int64"):
        Plan(torch.zeros(1, 1, 3))
    with pytest.raises(ArdmError, match="int64"):
        Plan(torch.zeros(1, 3, dtype=torch.long))
    for shape in ((1, 1, 0), (0, 1, 3)):
        with pytest.raises(ArdmError, match="no size 0"):
            Plan(torch.zeros(shape, dtype=torch.long))
    with pytest.raises(ArdmError, match="given"):
        when([0, -2])
    with pytest.raises(ArdmError, match="one plan for all items"):
        plan.shuffled(1, (3,), generator(0), batch=2).group(0)


def test_a_plan_refuses_a_walk_that_begins_elsewhere():
    digits = Digits(8, 2)
    state = digits.truncate(torch.tensor([[5, 6]]), torch.tensor([[1, 0]]))
    p = plan.raster(3, (2,))
    with pytest.raises(ArdmError, match=r"plan\.given"):
        p.select(0, state, None)
    assert p.given(state.depth).select(0, state, None).index.tolist() == [1]
    with pytest.raises(ArdmError, match=r"plan\.given"):
        p.given(state.depth).select(0, digits.blank(1, (2,)), None)
    with pytest.raises(ArdmError, match="the plan is for"):
        plan.raster(3, (3,)).select(0, digits.blank(1, (2,)), None)
    with pytest.raises(ArdmError, match="the plan is for"):
        plan.shuffled(3, (2,), generator(0), batch=2).select(0, digits.blank(3, (2,)), None)


@pytest.mark.parametrize("ranks", [[0, 1, 1], [1, 2, 3], [0, 1, 3]])
def test_an_order_must_be_a_permutation(ranks):
    with pytest.raises(ArdmError, match="ranks must hold each"):
        plan.ranked(torch.tensor(ranks), (3,))


# --- builders ---------------------------------------------------------------------------------------------------------


def test_ranks_are_steps_of_sites():
    assert plan.ranked(torch.tensor([2, 0, 1]), (3,), 2).when.tolist() == [[[2, 0, 1], [5, 3, 4]]]
    rows = torch.tensor([[2, 0, 1], [0, 1, 2]])
    assert plan.ranked(rows, (3,), 2).when.tolist() == [[[2, 0, 1], [3, 4, 5]]]
    assert plan.raster(2, (2, 2)).when.flatten().tolist() == list(range(8))


def test_shuffled_orders_are_uniform_and_independent_between_stages_and_items():
    n = 6000
    p = plan.shuffled(2, (3,), generator(0), batch=n).when - 3 * torch.arange(2)[:, None]
    codes = (p * torch.tensor([9, 3, 1])).sum(-1)
    pairs = codes[:, 0] * 27 + codes[:, 1]
    counts = pairs.unique(return_counts=True)[1]
    assert len(counts) == 36
    assert ((counts - n / 36).square() / (n / 36)).sum() < 70  # chi-square, 35 degrees of freedom: p ≈ 4e-4


def test_absorbing_times_are_independent_and_uniform():
    p = plan.absorbing(3, (2,), 9000, generator(0)).when[:, 0]
    counts = (p[:, 0] * 3 + p[:, 1]).bincount(minlength=9)
    assert (counts - 1000).abs().max() < 150


def test_unstaged_digits_are_mixed_between_stages():
    p = plan.unstaged(2, (40,), generator(0)).when[0]
    assert sorted(p.flatten().tolist()) == list(range(80))
    assert p[1].min() < p[0].max()
    assert (p[1] > p[0]).all()


def test_blocks_follow_each_other_shuffled_inside():
    p = plan.blocks(2, (7,), 3, generator(0)).when[0]
    assert [sorted(p[0, a:b].tolist()) for a, b in ((0, 3), (3, 6), (6, 7))] == [[0, 1, 2], [3, 4, 5], [6]]
    assert torch.equal(p[1], p[0] + 7)
    assert len({tuple(plan.blocks(1, (7,), 3, generator(i)).when[0, 0].tolist()) for i in range(200)}) == 36


@pytest.mark.parametrize("name", RANKS)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (2, 2), (3, 5), (8, 8), (16, 12), (7, 20)])
def test_orders_of_pixels_are_permutations(name, size):
    ranks = RANKS[name](*size)
    assert ranks.shape == size
    assert ranks.dtype == np.int64
    assert sorted(ranks.flatten().tolist()) == list(range(size[0] * size[1]))


def test_the_bayer_matrix():
    assert bayer_ranks(2, 2).tolist() == [[0, 2], [3, 1]]
    assert bayer_ranks(4, 4).tolist() == [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]


@pytest.mark.parametrize("size", [8, 16])
def test_every_prefix_of_the_bayer_order_is_even(size):
    """After 4^j pixels each cell of a 2^j grid holds one; in between, counts of cells differ by at most one."""
    ranks = bayer_ranks(size, size)
    for j in range(int(math.log2(size)) + 1):
        side = size // 2**j
        for n in range(size * size + 1):
            cells = (ranks < n).reshape(2**j, side, 2**j, side).sum((1, 3))
            assert cells.max() - cells.min() <= 1


def test_prefixes_of_the_halton_order_are_even():
    ranks = halton_ranks(32, 32)
    for n in (16, 64, 256, 512):
        quarters = (ranks < n).reshape(2, 16, 2, 16).sum((1, 3))
        assert quarters.max() - quarters.min() <= 4


def test_the_halton_order_visits_cells_in_turn():
    assert halton_ranks(2, 3).tolist() == [[5, 3, 1], [2, 0, 4]]  # (½, ⅓), (¼, ⅔), (¾, 1/9), …


def test_checkerboard_and_wavefront():
    assert checkerboard_ranks(2, 3).tolist() == [[0, 3, 1], [4, 2, 5]]
    assert wavefront_ranks(2, 3).tolist() == [[0, 1, 3], [2, 4, 5]]
    assert wavefront_ranks(2, 3, slope=2).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_channels_follow_each_other_by_the_offset():
    pixels = bayer_ranks(8, 8)
    p = plan.image(2, (3, 8, 8), pixels, offset=1 / 8, first=1).when[0]
    assert sorted(p[0].flatten().tolist()) == list(range(192))
    assert torch.equal(p[1], p[0] + 192)
    order = p[0].flatten(1).argsort(1)
    assert all(
        torch.equal(order[c], torch.from_numpy(pixels).flatten().argsort()) for c in range(3)
    )  # one order for all
    lead, second, third = p[0, 1], p[0, 2], p[0, 0]
    assert int(lead.min()) == 0
    assert (second > lead).all()
    assert (third > second).all()
    for later, earlier in ((second, lead), (third, second)):
        assert int((earlier < later.min()).sum()) in (8, 9)  # an eighth of 64 pixels ahead


def test_without_an_offset_a_pixel_is_revealed_whole():
    p = plan.image(1, (3, 2, 2), np.array([[0, 1], [2, 3]]), offset=0, first=1).when[0, 0]
    assert p.flatten(1).T.tolist() == [[2, 0, 1], [5, 3, 4], [8, 6, 7], [11, 9, 10]]


def test_select_counts_sites_of_other_items():
    p = plan.shuffled(1, (2, 2), generator(3), batch=2)
    sites = p.select(0, Partial(*[torch.zeros(2, 2, 2, dtype=torch.long)] * 2), None)
    assert isinstance(sites, Sites)
    assert sites.batch_index.tolist() == [0, 1]
    assert [int(p.when[i, 0].flatten()[j]) for i, j in enumerate(sites.position.tolist())] == [0, 0]


PLANS = {"plan": plan.raster(3, (4,)), "an image": plan.raster(3, (2, 2))}


@pytest.mark.parametrize("name", PLANS)
def test_a_mask_is_given_with_all_its_digits(name):
    p, shape = PLANS[name], (1, 2, 2) if name == "an image" else (1, 4)
    known = torch.tensor([True, False, False, True]).view(shape)
    right = p.given(known.long() * 3)
    for mask in (known, known.byte(), known.numpy()):
        found = p.given(mask)
        assert torch.equal(found.when, right.when)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("depth", [-2, 4])
def test_depths_beyond_the_digits_are_not_given(name, depth):
    known = torch.zeros(PLANS[name].shape, dtype=torch.long)[None]
    known.view(-1)[0] = depth
    with pytest.raises(ArdmError, match=r"depth: depths lie in -1\.\.3"):
        PLANS[name].given(known)


def test_one_item_needs_no_batch():
    p, known = plan.raster(2, (4,)), torch.tensor([2, 0, 1, 0])
    assert torch.equal(p.given(known).when, p.given(known[None]).when)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1), (2, 4), (1, 2, 2), ()])
def test_what_is_said_of_other_sites_is_refused(shape):
    p, said = plan.shuffled(1, (4,), generator(), batch=3), torch.zeros(shape, dtype=torch.long)
    with pytest.raises(ArdmError, match=r"depth must have the shape \(4,\) of an item .*1 or 3 of them; got"):
        p.given(said)


# --- dilated steps ------------------------------------------------------------------------------------------------------


def test_dilated_steps_are_those_of_the_paper():
    """Luxembourg et al. 2025: blocks of 8 in base 2 take strides of 4, 2, 1; a shorter last block and stages follow."""
    steps = plan.dilated(2, (12,), 8).when[0]
    assert steps[0].tolist() == [0, 2, 1, 2, 0, 2, 1, 2, 3, 5, 4, 5]
    assert torch.equal(steps[1], steps[0] + 6)
    assert plan.dilated(1, (2, 3), 6, base=3).when[0, 0].tolist() == [[0, 1, 0], [1, 0, 1]]
    assert len(plan.dilated(1, (1024,), 1024)) == 10
    assert torch.equal(plan.dilated(1, (5,), 1).when, plan.raster(1, (5,)).when)


@pytest.mark.parametrize("base", [2, 3])
@pytest.mark.parametrize("size", [1, 2, 5, 6, 16, 40])
def test_dilated_plans_reveal_everything_block_after_block(size, base):
    p = plan.dilated(2, (35,), size, base)
    depth, steps = follow(p)
    assert (depth == 2).all()
    assert all(len(sites) and len(set((sites.position // size).tolist())) == 1 for sites in steps)
    assert [int(s.position[0]) // size for s in steps[: len(steps) // 2]] == sorted(
        int(s.position[0]) // size for s in steps[: len(steps) // 2]
    )
    if base == 2 and size in (1, 16):
        assert all((sites.position.diff() > 1).all() for sites in steps)


def test_dilated_plans_refuse_other_sizes():
    for size, base in ((0, 2), (4, 1), (2.5, 2)):
        with pytest.raises(ArdmError, match="must be"):
            plan.dilated(1, (8,), size, base)
