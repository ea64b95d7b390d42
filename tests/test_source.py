"""The sources that read and write bytes: decoding inverts encoding, at the code length that the model gives."""

import math
import random

import pytest
import torch

import ardm
from ardm import plan as plans
from ardm.digits import Digits, Partial
from ardm.errors import ArdmError
from ardm.heads import inverse_cdf
from ardm.random_numbers import RandomNumbers
from ardm.source import Decode, Draw, Encode, truncated
from ardm.walk import last, sample, score, walk
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


# --- truncated sampling -----------------------------------------------------------------------------------------------


def kept_by_hand(logits, temperature, k, p):
    """Which symbols stay, by sorting and adding up in Python."""
    scaled = [v / temperature for v in logits]
    best = sorted((j for j in range(len(scaled)) if scaled[j] > -math.inf), key=lambda j: (-scaled[j], j))
    best = best[: k or len(best)]
    weights = [math.exp(scaled[j] - scaled[best[0]]) for j in best]
    total, kept, mass = math.fsum(weights), set(), 0.0
    for j, weight in zip(best, weights, strict=True):
        if p is not None and mass / total >= p:
            break
        kept.add(j)
        mass += weight
    return kept


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("k", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("p", [None, 1e-9, 0.3, 0.77, 0.999])
def test_truncated_draws_follow_the_kept_symbols(temperature, k, p):
    """Temperature, then k, then p; what stays is drawn in proportion: exactly those symbols, by the inverse cdf."""
    g = generator(5)
    logits = torch.randn(40, 7, generator=g, dtype=torch.double) * 2
    logits[torch.rand(40, 7, generator=g) < 0.2] = -math.inf  # columns of different alphabets
    logits[:, 3] = 0.25
    prediction, sites = asked(logits)
    u = torch.rand(40, generator=g, dtype=torch.double)
    drawn = Draw(FixedNumbers(u), temperature, k, p)(prediction, sites, None)
    for row, v, symbol in zip(logits.tolist(), u.tolist(), drawn.tolist(), strict=True):
        kept = kept_by_hand(row, temperature, k, p)
        cdf, total = 0.0, math.fsum(math.exp(row[j] / temperature) for j in kept)
        for j in sorted(kept):
            cdf += math.exp(row[j] / temperature) / total
            if v < cdf:
                break
        assert symbol == j


@pytest.mark.parametrize("k", [None, 1, 40, 300, 10_000])
@pytest.mark.parametrize("p", [None, 0.2, 0.9, 0.9999, 1 - 1e-15])
def test_of_many_symbols_the_same_ones_stay(k, p):
    """1,500 symbols with many equal ones, of which the smallest stay; impossible ones; rows without a distribution."""
    g = generator(7)
    logits = (torch.randn(6, 1500, generator=g, dtype=torch.double) * 8).round() / 4
    logits[torch.rand(6, 1500, generator=g) < 0.3] = -math.inf
    kept = truncated(logits, k, p)
    for row, found in zip(logits.tolist(), kept, strict=True):
        assert set(found.isfinite().nonzero()[:, 0].tolist()) == kept_by_hand(row, 1.0, k, p)
    assert torch.equal(kept[kept.isfinite()], logits[kept.isfinite()])
    for wrong in (math.nan, math.inf):
        bad = torch.tensor([[0.0, wrong, 1.0]], dtype=torch.double)
        assert inverse_cdf(truncated(bad, k, p), torch.zeros(1).double()).tolist() == [-1]


class FixedNumbers(RandomNumbers):
    """Random numbers that are given."""

    def __init__(self, u):
        super().__init__(0)
        object.__setattr__(self, "u", u)

    def child(self, purpose):
        return self

    def uniform(self, item, site, digit=0):
        return self.u


def test_ties_keep_the_smallest_symbols():
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0, 1.0]])
    kept = [truncated(logits, k).isfinite()[0].nonzero()[:, 0].tolist() for k in (1, 2, 3, 4)]
    assert kept == [[1], [1, 2], [1, 2, 3], [0, 1, 2, 3]]
    even = torch.zeros(1, 4)
    assert [int(truncated(even, None, p).isfinite().sum()) for p in (0.25, 0.26, 0.5, 0.75, 0.76)] == [1, 2, 2, 3, 4]
    assert truncated(even, None, 0.5).isfinite()[0].tolist() == [True, True, False, False]
    assert truncated(even) is even


def test_nucleus_is_taken_of_the_k_most_likely():
    """Of 0.4, 0.3, 0.2, 0.1 the two most likely are 4/7 and 3/7, so that p = 0.55 keeps one and not two."""
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    assert truncated(logits, None, 0.55).isfinite()[0].tolist() == [True, True, False, False]
    assert truncated(logits, 2, 0.55).isfinite()[0].tolist() == [True, False, False, False]


@pytest.mark.parametrize("head", ["digits", "values", "mixture"])
def test_all_symbols_change_nothing_and_one_symbol_is_the_most_likely(head):
    model, plan = toy(Digits(9, 3), (4,), head), plans.raster(2, (4,))
    blank = model.digits.blank(20, (4,))
    plain, whole, greedy, one, narrow = (
        sample(model, plan, blank, RandomNumbers(1), *drawing)
        for drawing in ((), (1.0, None, 3, 1.0), (0.0,), (1.0, None, 1), (0.7, None, None, 1e-12))
    )
    assert torch.equal(plain, whole)
    assert torch.equal(greedy, one)
    assert torch.equal(greedy, narrow)
    assert not torch.equal(plain, greedy)


@pytest.mark.parametrize("drawing", [{"temperature": 0.9}, {"top_k": 40}, {"top_p": 0.5}, {"temperature": 0.0}])
def test_many_values_are_listed_for_some_sites_at_a_time(drawing, monkeypatch):
    """A step of 64 sites of 4,096 values: no more logits at once than allowed, and the same draws."""
    model = toy(Digits(4096, 4096), (64,), "mixture")
    blank, plan = model.digits.blank(1, (64,)), plans.Plan(torch.zeros(1, 1, 64, dtype=torch.long))
    whole = last(walk(model, plan, Draw(RandomNumbers(0), **drawing), blank), blank).value
    seen, listed = [], model.head.probabilities
    monkeypatch.setattr(model.head, "probabilities", lambda *asked: seen.append(listed(*asked)) or seen[-1])
    monkeypatch.setattr("ardm.model.TOGETHER", 10 * model.head.numbers)
    assert torch.equal(last(walk(model, plan, Draw(RandomNumbers(0), **drawing), blank), blank).value, whole)
    assert [len(v) for v in seen] == [10] * 6 + [4]


@pytest.mark.parametrize(
    ("drawing", "message"),
    [({"top_k": 0}, "top_k"), ({"top_k": 1.5}, "top_k"), ({"top_p": 0}, "top_p"), ({"top_p": 1.1}, "top_p"), ({"top_p": math.nan}, "top_p"), ({"top_p": "1"}, "top_p")],
)  # fmt: skip
def test_truncations_that_are_none_are_refused(drawing, message):
    with pytest.raises(ArdmError, match=message):
        Draw(RandomNumbers(0), **drawing)
    with pytest.raises(ArdmError, match=message):
        ardm.sample(toy(Digits(3, 3), (2,)), 1, **drawing)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_truncation_does_not_hide_a_missing_distribution(value):
    logits = torch.tensor([[0.0, value, 1.0], [-math.inf] * 3])
    for drawing in ({"top_k": 1}, {"top_p": 0.5}):
        with pytest.raises(ArdmError, match="2 of 2 sites"):
            Draw(RandomNumbers(0), **drawing)(*asked(logits), None)
