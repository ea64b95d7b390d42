"""`exact.order.Order` is `plan.Plan` in NumPy: the same steps, and the same state before each."""

import numpy as np
import pytest
import torch

from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.exact.order import NEVER, Order
from ardm.plan import Plan, unstaged

SHAPE, BASE = (3, 5, 7), 4
DIGITS = Digits(classes=64, base=BASE)


def order(seed=0, steps=6):
    """A random order of three digits, some of them in the same step."""
    plan = unstaged(3, SHAPE, torch.Generator().manual_seed(seed))
    when = plan.when[0].numpy() * steps // len(plan)
    return Order(np.maximum.accumulate(when + np.arange(3)[:, None, None, None], axis=0), BASE)


def items(count=2):
    return np.random.default_rng(0).integers(0, 64, (count, *SHAPE))


def test_steps_and_states_are_those_of_the_plan():
    mine, x = order(), items()
    plan = Plan(torch.from_numpy(mine.when)[None])
    assert len(mine) == len(plan)
    steps = {reveal.step: reveal for reveal in mine}
    for k in range(len(plan)):
        value, depth = mine.before(k, x)
        state = DIGITS.truncate(torch.from_numpy(x), plan.depth(k).expand(2, -1, -1, -1))
        assert np.array_equal(value, state.value.numpy())
        assert np.array_equal(depth, state.depth.numpy())
        assert (steps[k].site.tolist() if k in steps else []) == plan.group(k).tolist()


def test_writing_every_step_restores_the_items():
    mine, x = order(), items(3)
    value, depth = np.zeros_like(x), np.zeros_like(x)
    for reveal in mine:
        before = mine.before(reveal.step, x)
        assert np.array_equal(value, before[0])
        assert np.array_equal(depth, before[1])
        sites = mine.sites(reveal, len(x))
        assert np.array_equal(depth[sites.index], np.tile(reveal.digit, len(x)))
        mine.write(reveal, mine.digits(x, reveal), value, depth)
    assert np.array_equal(value, x)
    assert (depth == 3).all()


def test_a_plane_on_its_own_is_coded_once_and_written_to_every_channel():
    whole, x = order(), np.repeat(items()[:, :1], 3, axis=1)
    mine = whole.inside(4, 6).alone(1)
    value, depth = np.zeros_like(x), np.zeros_like(x)
    for reveal in mine:
        channels = mine.sites(reveal, 1).channel
        assert (channels == 1).all()
        assert np.array_equal(depth, mine.before(reveal.step, x)[1])
        mine.write(reveal, mine.digits(x, reveal), value, depth)
    assert np.array_equal(value[:, :, :4, :6], x[:, :, :4, :6])
    assert (depth[:, :, :4, :6] == 3).all()
    assert not depth[:, :, 4:].any()
    assert not depth[:, :, :, 6:].any()


def test_a_cell_repeats_and_what_lies_outside_is_never_coded():
    cell = np.arange(4).reshape(1, 1, 2, 2)
    mine = Order.repeat(cell, 256, 3, 5)
    assert mine.when[0, 0].tolist() == [[0, 1, 0, 1, 0], [2, 3, 2, 3, 2], [0, 1, 0, 1, 0]]
    part = mine.inside(1, 2)
    assert len(part) == 2
    assert [reveal.site.tolist() for reveal in part] == [[0], [1]]
    assert (part.when[:, :, 1:] == NEVER).all()
    nothing = mine.inside(0, 0)
    assert (len(nothing), list(nothing)) == (0, [])


@pytest.mark.parametrize("when", [[[1], [0]], [[0], [0]], [[-1], [0]]], ids=["backwards", "at once", "negative"])
def test_digits_are_revealed_in_turn(when):
    with pytest.raises(ArdmError):
        Order(np.array(when).reshape(2, 1, 1, 1), BASE)


def test_a_state_is_written_in_place_or_not_at_all():
    mine, x = order(), items()
    reveal = mine.reveals[0]
    with pytest.raises(ArdmError, match="contiguous"):
        mine.write(reveal, mine.digits(x, reveal), np.zeros_like(x)[:, ::-1].swapaxes(1, 2), np.zeros_like(x))
