"""The sources that read and write bytes: decoding inverts encoding, at the code length that the model gives."""

import math
import random

import pytest
import torch

from ardm import plan as plans
from ardm.digits import Digits, Partial
from ardm.errors import ArdmError
from ardm.source import Decode, Draw, Encode
from ardm.walk import last, score, walk
from test_walk import ALPHABETS, CASES, KINDS, every_kind
from toys import asked, confident, generator, some_data, toy

LN2 = math.log(2)


def encoded(model, plan, x, start=None):
    source, start = Encode(), start or model.digits.blank(len(x), x.shape[1:])
    last(walk(model, plan, source, start, truth=x), start)
    return source


def decoded(model, plan, data, start):
    source = Decode(data)
    return last(walk(model, plan, source, start), start).value, source.finish()


def both_ways(model, plan, x, start=None):
    source = encoded(model, plan, x, start)
    start = start or model.digits.blank(len(x), x.shape[1:])
    y, crc = decoded(model, plan, source.finish(0xDEADBEEF), start)
    assert torch.equal(x, y)
    assert crc == 0xDEADBEEF
    return source


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("head", "alphabet"), CASES)
def test_the_four_sources_agree(head, alphabet, kind):
    """What chance draws scores nats, encodes to that many bits and a checksum, and decodes to itself."""
    if kind == "absorbing" and len(alphabet) > 1:
        return
    model, B, D = toy(alphabet, (5,), head), 12, 5
    plan = every_kind(alphabet, D, B)[kind]
    start = model.digits.blank(B, (D,))
    x = last(walk(model, plan, Draw(generator(1)), start), start).value
    nats = float(score(model, plan, x).sum())
    source = both_ways(model, plan, x)
    assert 8 * len(source.finish(0)) <= nats / LN2 * 1.001 + 41
    assert abs(source.bits - nats / LN2) <= 0.001 * nats / LN2 + 0.5


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_what_is_given_costs_nothing_and_stays(alphabet):
    model, x = toy(alphabet, (2, 3)), some_data(alphabet, (2, 3))
    depth = torch.randint(len(alphabet) + 1, (1, 2, 3), generator=generator(2)).expand_as(x)
    plan = plans.shuffled(len(alphabet), (2, 3), generator(3)).given(depth[:1])
    both_ways(model, plan, x, model.digits.truncate(x, depth))
    everything = plans.raster(len(alphabet), (2, 3)).given(torch.full((1, 2, 3), len(alphabet)))
    source = both_ways(model, everything, x, Partial(x, torch.full_like(x, len(alphabet))))
    assert source.bits == 0
    assert len(source.finish(0)) == 5


def test_random_bits_decode_to_samples():
    """Frequencies of what random bytes decode to are exp(−score): all 27 items, 6,000 draws from one stream."""
    alphabet, B = Digits(3, 3), 6000
    model, plan = toy(alphabet, (3,)), plans.shuffled(1, (3,), generator(4))
    stream = random.Random(5).randbytes(B) + b"\x7f"
    start = model.digits.blank(B, (3,))
    x = last(walk(model, plan, Decode(stream), start), start).value
    every = torch.cartesian_prod(*[torch.arange(3)] * 3)
    p = score(model, plan, every).neg().exp()
    seen = torch.bincount(x @ torch.tensor([9, 3, 1]), minlength=27).double()
    wanted = p * B
    likely = wanted > 5
    chi2 = ((seen - wanted)[likely].square() / wanted[likely]).sum()
    assert likely.sum() > 8
    assert chi2 < 27 + 5 * math.sqrt(2 * 27)


def test_random_bits_of_a_confident_plan_too():
    alphabet, B = Digits(3, 3), 4000
    model, plan = toy(alphabet, (2,), seed=3), confident((0, 1), 2)
    start = model.digits.blank(B, (2,))
    x = last(walk(model, plan, Decode(random.Random(6).randbytes(B) + b"\1"), start), start).value
    p = score(model, plan, torch.cartesian_prod(torch.arange(3), torch.arange(3))).neg().exp()
    seen = torch.bincount(x @ torch.tensor([3, 1]), minlength=9).double() / B
    assert (seen - p).abs().max() < 0.04


def test_encoding_needs_data_and_refuses_the_impossible():
    source = Encode()
    with pytest.raises(ArdmError, match="truth"):
        source(*asked(torch.zeros(1, 2)), None)
    with pytest.raises(ArdmError, match="symbol 1 cannot be coded"):
        source(*asked(torch.tensor([[0.0, -math.inf]])), torch.tensor([1]))
    assert len(source.finish()) == 5
