"""Orders by recipe: the same plan from the same integers, at any size, in the requested number of calls."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm.errors import ArdmError
from ardm.orders import OrderConfig, group_starts, image_plan, line_plan
from ardm.ranks import LINES, RANKS


@pytest.mark.parametrize("order", sorted(RANKS))
def test_each_order_takes_the_calls_asked_and_reveals_every_site_once(order):
    config = OrderConfig(order, (20,), cell=16)
    plan = image_plan(config, (3, 16, 16))
    assert len(plan) == 20
    counts = torch.zeros(3 * 16 * 16, dtype=torch.long)
    for k in range(len(plan)):
        group = plan.group(k)
        assert len(group) > 0, f"step {k} of {order} does nothing"
        counts[group] += 1
    assert (counts == 1).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([8, 14, 26, 50]))
def test_a_periodic_order_serves_any_size_and_agrees_with_the_cell(height, width, calls):
    config = OrderConfig("bayer", (50, 26, 14, 8))
    cell = image_plan(config, (3, 32, 32), calls).when[0, 0].numpy()
    when = image_plan(config, (3, height, width), calls).when[0, 0].numpy()
    assert np.array_equal(when, np.tile(cell, (1, 3, 3))[:, :height, :width])


def test_channels_follow_each_other_so_that_each_knows_those_before():
    when = image_plan(OrderConfig("bayer", (50,), lead=1, delay=1), (3, 32, 32)).when[0, 0]
    assert torch.equal(when[2], when[1] + 1)  # blue one step after green
    assert torch.equal(when[0], when[1] + 2)


def test_fewer_calls_are_a_coarsening_of_the_same_order():
    config = OrderConfig("bayer", (50,), delay=0)
    fine, coarse = (image_plan(config, (1, 32, 32), c).when.flatten() for c in (32, 8))
    order = fine.argsort(stable=True)
    assert (coarse[order].diff() >= 0).all()
    assert torch.equal(coarse, fine * 8 // 32)


def test_own_starts_are_used_and_thinned():
    config = OrderConfig("bayer", (6,), cell=8, starts=(0, 1, 4, 12, 28, 40), delay=0)
    assert group_starts(config, 6, 6) == [0, 1, 4, 12, 28, 40]
    assert group_starts(config, 3, 3) == [0, 4, 28]
    ranks = RANKS["bayer"](8, 8)
    when = image_plan(config, (1, 8, 8)).when[0, 0, 0].numpy()
    assert when[ranks == 0] == 0
    assert (when[(ranks >= 12) & (ranks < 28)] == 3).all()


def test_stages_come_one_after_the_other():
    when = image_plan(OrderConfig("bayer", (20,)), (3, 8, 8), stages=2).when[0]
    assert when[0].max() < when[1].min()
    assert when.max() == 19


@pytest.mark.parametrize(
    ("config", "calls", "words"),
    [
        (OrderConfig(), None, "any order"),
        (OrderConfig("bayer"), 2, "takes 3 to"),
        (OrderConfig("bayer", cell=4), 400, "takes 3 to 18"),
    ],
)
def test_impossible_orders_are_refused_with_the_possible_ones(config, calls, words):
    with pytest.raises(ArdmError, match=words):
        image_plan(config, (3, 32, 32), calls)


def test_unknown_orders_and_calls_are_refused():
    with pytest.raises(ArdmError, match="unknown order 'spiral'"):
        OrderConfig("spiral")
    with pytest.raises(ArdmError, match="positive"):
        OrderConfig("bayer", (0,))
    with pytest.raises(ArdmError, match="increase strictly"):
        image_plan(OrderConfig("bayer", (4,), cell=4, starts=(0, 3, 2), delay=0), (1, 4, 4))


@pytest.mark.parametrize("side", [1, 2, 8, 32])
def test_along_the_hilbert_curve_each_pixel_touches_the_one_before_it(side):
    y, x = np.divmod(RANKS["hilbert"](side, side).argsort(axis=None), side)
    assert ((abs(np.diff(y)) + abs(np.diff(x))) == 1).all()


def test_the_hilbert_curve_finishes_each_square_before_the_next():
    ranks = RANKS["hilbert"](16, 16)
    for side in (2, 4, 8):
        cells = (ranks // side**2).reshape(16 // side, side, 16 // side, side)
        assert (cells.max((1, 3)) == cells.min((1, 3))).all()
    assert RANKS["hilbert"](2, 2).tolist() == [[0, 3], [1, 2]]


# --- sequences and tables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [1, 2, 5, 8])
@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("order", sorted(LINES))
def test_a_line_is_told_once_in_the_calls_asked(order, calls, stages):
    config = OrderConfig(order, (3,), cell=8)
    plan = line_plan(config, 40, calls * stages, stages)
    when = plan.when[0].numpy()
    assert when.shape == (stages, 40)
    assert sorted(set(when.ravel())) == list(range(calls * stages))
    assert all(when[d].max() < when[d + 1].min() for d in range(stages - 1))
    assert torch.equal(image_plan(config, (40,), calls * stages, stages).when, plan.when)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 99), st.integers(1, 99), st.sampled_from([1, 3, 8]), st.sampled_from(sorted(LINES)))
def test_lines_of_any_length_have_one_period(one, two, calls, order):
    """An item is a longer one cut off, so that a codec model serves any length."""
    config = OrderConfig(order, (calls,), cell=8)
    a, b = (line_plan(config, n).when[0, 0].numpy() for n in (one, two))
    assert np.array_equal(a[: min(one, two)], b[: min(one, two)])
    cell = calls if order == "raster" else 8
    assert np.array_equal(a, np.tile(line_plan(config, cell).when[0, 0].numpy(), 99)[:one])


def test_raster_reveals_pieces_from_left_to_right_at_once():
    assert line_plan(OrderConfig("raster", (4,)), 10).when.flatten().tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_a_line_by_halves():
    when = line_plan(OrderConfig("bayer", (8,), cell=8), 8).when.flatten()
    assert when.tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    coarse = line_plan(OrderConfig("bayer", (2,), cell=8), 8).when.flatten()
    assert torch.equal(coarse, when // 4)


@pytest.mark.parametrize(
    ("config", "calls", "stages", "words"),
    [
        (OrderConfig(), None, 1, "any order"),
        (OrderConfig("halton", (4,)), None, 1, "orders raster, bayer; got 'halton'"),
        (OrderConfig("bayer", (9,), cell=8), None, 1, "takes 1 to 8 calls"),
        (OrderConfig("bayer", (4,), cell=8), 18, 2, "takes 2 to 16 calls, a multiple of 2"),
        (OrderConfig("raster", (4,)), 5, 2, "takes 2 calls or more, a multiple of 2; got 5"),
        (OrderConfig("raster", (4,)), 1, 2, "takes 2 calls or more, a multiple of 2; got 1"),
        (OrderConfig("raster", (4,)), 0, 1, "takes 1 calls or more, a multiple of 1; got 0"),
    ],
)
def test_lines_that_cannot_be_had(config, calls, stages, words):
    with pytest.raises(ArdmError, match=words):
        image_plan(config, (20,), calls, stages)
