"""Output families: next-digit distributions against brute force, and numbers that would cancel if done carelessly."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ardm.adaptive import SCORES
from ardm.digits import Digits, Partial, Sites
from ardm.errors import ArdmError
from ardm.faults import Watch
from ardm.features import Features
from ardm.heads import ChainHead, DigitHead, LaplaceHead, MixtureHead, ValueHead, inverse_cdf
from ardm.model import Model, Prediction
from ardm.random_numbers import RandomNumbers
from ardm.source import Draw
from toys import HEADS, WIDTH, WILD, asked, generator, letters, randomise

ALPHABETS = [Digits(5, 5), Digits(5, 2), Digits(7, 3), Digits(27, 3), Digits(256, 4), Digits(125, 5), Digits(7, 2)]
CASES = [(h, a) for h in HEADS for a in ALPHABETS] + [(h, a) for h in ("digits", "values") for a in (WILD, letters())]


def entropy(p):
    return torch.special.entr(p).sum(-1)


def features_of(rows, seed=0, dtype=torch.double):
    g = generator(seed)
    h = torch.randn(rows, WIDTH, generator=g, dtype=dtype)
    loc = torch.rand(rows, generator=g, dtype=dtype) * 2 - 1
    return Features(h, loc, torch.rand(rows, generator=g, dtype=dtype) + 0.02)


def tensors(features):
    return features.hidden, features.loc, features.scale


def same(features, rows):
    """One row of features, repeated."""
    return Features(*(f[:1].expand(rows, *f.shape[1:]) for f in tensors(features)))


def at_depth(alphabet, d):
    x = torch.arange(alphabet.classes)[None]
    state = alphabet.truncate(x, torch.full_like(x, d))
    return state.value[0], state.depth[0], alphabet.read(x, state.depth, Sites.where(x >= 0))


# --- every family -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "alphabet"), CASES)
def test_scored_digits_have_the_probability_they_are_drawn_with(head, alphabet):
    module = randomise(HEADS[head](alphabet, WIDTH), scale=2.0)
    features = features_of(alphabet.classes)
    for d in range(len(alphabet)):
        value, depth, digit = at_depth(alphabet, d)
        logits = module.logits(features, value, depth)
        assert logits.shape == (alphabet.classes, alphabet.base)
        possible = alphabet.possible(value, depth)
        assert torch.equal(logits > -torch.inf, possible)
        expected = logits.log_softmax(-1).gather(1, digit[:, None])[:, 0]
        torch.testing.assert_close(module.log_prob(features, value, depth, digit), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("head", "alphabet"), CASES)
def test_entropy_is_the_mean_of_nats_over_the_digits(head, alphabet):
    module = randomise(HEADS[head](alphabet, WIDTH), scale=2.0)
    features = features_of(alphabet.classes, seed=4)
    for d in range(len(alphabet)):
        value, depth, _ = at_depth(alphabet, d)
        logp = module.logits(features, value, depth).log_softmax(-1)
        wanted = [-math.fsum(math.exp(v) * v for v in row if v > -math.inf) for row in logp.tolist()]
        found = entropy(module.probabilities(features, value, depth))
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.double), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("head", "alphabet"), CASES)
def test_an_untrained_head_is_flat_where_it_should_be(head, alphabet):
    module = HEADS[head](alphabet, WIDTH).double()
    value, depth, _ = at_depth(alphabet, 0)
    logits = module.logits(features_of(alphabet.classes), value, depth)
    if head == "digits":
        assert logits[logits.isfinite()].unique().numel() == 1
    if head == "values":
        x = torch.arange(alphabet.classes)[None]
        sizes = alphabet.read(x, torch.zeros_like(x), Sites.where(x >= 0)).bincount(minlength=alphabet.base)
        torch.testing.assert_close(logits[0].softmax(-1), sizes / alphabet.classes, check_dtype=False)


@pytest.mark.parametrize("head", HEADS)
def test_gradients_are_right(head):
    alphabet = Digits(7, 3)
    module = randomise(HEADS[head](alphabet, WIDTH))
    value, depth, digit = at_depth(alphabet, 1)
    inputs = tuple(f.requires_grad_() for f in tensors(features_of(7)))
    assert torch.autograd.gradcheck(lambda *f: module.log_prob(Features(*f), value, depth, digit), inputs)


@pytest.mark.parametrize(("head", "alphabet"), [(h, a) for h, a in CASES if h != "digits"])
def test_the_chain_over_digits_is_the_mass_of_the_value(head, alphabet):
    """Data parametrisation: the same outputs, read digit by digit, multiply back to one distribution over values."""
    module = randomise(HEADS[head](alphabet, WIDTH), scale=2.0)
    features = same(features_of(1, seed=4), alphabet.classes)
    total = torch.zeros(alphabet.classes, dtype=torch.double)
    for d in range(len(alphabet)):
        total += module.log_prob(features, *at_depth(alphabet, d))
    if head == "values":
        expected = module.out(features.hidden)[0].log_softmax(-1)
    else:
        whole = HEADS[head](Digits(alphabet.classes, alphabet.classes), WIDTH).double()
        whole.load_state_dict(module.state_dict())
        expected = whole.log_prob(features, *at_depth(whole.alphabet, 0))
    torch.testing.assert_close(total, expected, rtol=0, atol=1e-10)
    assert float(total.detach().exp().sum()) == pytest.approx(1, abs=1e-10)


def test_the_direct_head_reads_the_slice_of_its_stage():
    alphabet = Digits(8, 2)
    head = DigitHead(alphabet, WIDTH).double()
    with torch.no_grad():
        head.out.bias.copy_(torch.arange(6.0))
    h, depth = features_of(3), torch.tensor([0, 1, 2])
    assert head.logits(h, torch.zeros(3, dtype=torch.long), depth).tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]


def test_the_value_head_of_one_digit_is_a_softmax():
    head = randomise(ValueHead(Digits(5, 5), WIDTH))
    h = features_of(4)
    zero = torch.zeros(4, dtype=torch.long)
    torch.testing.assert_close(head.logits(h, zero, zero), head.out(h.hidden))


# --- the mixture ------------------------------------------------------------------------------------------------------


def laplace(z):
    """The cdf, from the density e^−|z| / 2."""
    return torch.where(z < 0, z.clamp(max=0).exp() / 2, 1 - (-z.clamp(min=0)).exp() / 2)


MIXTURES = {MixtureHead: torch.sigmoid, LaplaceHead: laplace}
"""Every mixture, and the cdf of its components."""


def by_cdfs(head, features, K):
    """(N, K) masses of every value by plain differences of cdfs, open tails: fine where nothing is small."""
    weight, mean, inverse = head._mixture(features)
    edges = (2 * torch.arange(1, K, dtype=torch.double) - K) / (K - 1)  # halfway between the values 2x/(K−1) − 1
    cdf = MIXTURES[type(head)]((edges[:, None] - mean[:, None]) * inverse[:, None])
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf, torch.ones_like(cdf[:, :1])], 1)
    return (weight.exp()[:, None] * cdf.diff(dim=1)).sum(-1)


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("classes", [2, 5, 256])
def test_a_mixture_is_the_difference_of_cdfs(classes, kind):
    head = randomise(kind(Digits(classes, classes), WIDTH, 3))
    features = features_of(6)
    zero = torch.zeros(6, dtype=torch.long)
    got = head.logits(features, zero, zero).exp()
    expected = by_cdfs(head, features, classes)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("bias", [-30.0, -5.0, 0.0, 5.0, 30.0])
@pytest.mark.parametrize("spread", [0.02, 0.3, 1.1])
@pytest.mark.parametrize("centre", [-60.0, -1.0, 0.3, 60.0])
def test_masses_sum_to_one_whatever_the_network_says(bias, centre, spread, kind):
    """`log_prob` does not normalise over values, so the masses must: at every scale, however far the mean."""
    head = kind(Digits(256, 256), WIDTH, 2).double()
    with torch.no_grad():
        head.out.bias[4:] = bias
    zero = torch.zeros(1, dtype=torch.long)
    for dtype, error in ((torch.double, 1e-11), (torch.float, 2e-5)):
        features = Features(
            torch.zeros(1, WIDTH, dtype=dtype),
            torch.tensor([centre], dtype=dtype),
            torch.tensor([spread], dtype=dtype),
        )
        logits = head.to(dtype).logits(features, zero, zero)
        assert float(logits.detach().double().exp().sum()) == pytest.approx(1, abs=error)


@pytest.mark.parametrize("kind", MIXTURES)
def test_far_tails_keep_their_digits(kind):
    """log-mass of a value 1e5 scales away, where the difference of cdfs is 0 − 0; known in closed form there."""
    head = kind(Digits(256, 256), WIDTH, 1).double()
    features = Features(
        torch.zeros(1, WIDTH, dtype=torch.double),
        torch.tensor([-1.0], dtype=torch.double),
        torch.tensor([0.02], dtype=torch.double),
    )
    with torch.no_grad():
        head.out.bias[2] = -6.0
    _, mean, inverse = head._mixture(features)
    zero = torch.zeros(1, dtype=torch.long)
    edge = 2 * 254 / 255 - 1 - 1 / 255
    step = 2 / 255 * inverse
    exact = -(edge - mean) * inverse + torch.log(-torch.expm1(-step))  # σ(−z) = e^−z to double precision
    exact = exact - (math.log(2) if kind is LaplaceHead else 0)
    assert float(head.log_prob(features, zero, zero, torch.tensor([254])).detach()) == pytest.approx(
        float(exact.detach()), rel=1e-12
    )
    assert float(exact.detach()) < -1e4


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("bias", [-200.0, 0.0, 200.0])
@pytest.mark.parametrize("centre", [-500.0, 0.0, 500.0])
@pytest.mark.parametrize("digits", [Digits(256, 256), Digits(256, 4), Digits(65536, 256)])
def test_mixture_gradients_are_finite_at_extremes(dtype, bias, centre, digits, kind):
    head = kind(digits, WIDTH, 2).to(dtype)
    with torch.no_grad():
        head.out.bias.copy_(torch.tensor([0.0, -bias, 0.0, bias, bias, -bias]))
    x = torch.tensor([[0, 1, digits.classes // 2, digits.classes - 2, digits.classes - 1]])
    h = torch.zeros(5, WIDTH, dtype=dtype, requires_grad=True)
    mean, spread = (
        torch.full((5,), centre, dtype=dtype, requires_grad=True),
        torch.full((5,), 0.02, dtype=dtype, requires_grad=True),
    )
    for d in range(len(digits)):
        state = digits.truncate(x, torch.full_like(x, d))
        digit = digits.read(x, state.depth, Sites.where(x >= 0))
        logp = head.log_prob(Features(h, mean, spread), state.value[0], state.depth[0], digit)
        assert logp.isfinite().all()
        logp.sum().backward()
    assert all(t.grad.isfinite().all() for t in (h, mean, spread, head.out.weight, head.out.bias))


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, torch.Tensor):
                self.numel = max(self.numel, t.numel())
        return out


def test_sixteen_bits_need_no_tensor_of_their_size():
    digits = Digits(65536, 256)
    head = randomise(MixtureHead(digits, WIDTH, 3))
    x = torch.tensor([[0, 12345, 65535]])
    features, total = features_of(3), 0.0
    with Largest() as largest:
        for d in range(2):
            state = digits.truncate(x, torch.full_like(x, d))
            logits = head.logits(features, state.value[0], state.depth[0])
            digit = digits.read(x, state.depth, Sites.where(x >= 0))
            total = total + logits.log_softmax(-1).gather(1, digit[:, None])[:, 0]
    assert largest.numel <= 3 * 3 * 256  # rows × components × digits
    torch.testing.assert_close(
        total.exp(), by_cdfs(head, features, 65536)[torch.arange(3), x[0]], rtol=1e-6, atol=1e-13
    )
    with Largest() as largest:
        state = digits.truncate(x, torch.zeros_like(x))
        head.log_prob(features, state.value[0], state.depth[0], x[0] // 256)
    assert largest.numel <= 3 * WIDTH * 3  # the weights: two cdf values per component, and nothing of size 256


@pytest.mark.parametrize("make", [*HEADS.values(), lambda a, width: ChainHead(a, width)])
@pytest.mark.parametrize("room", [1, 40_000])
def test_entropies_of_many_sites_are_computed_in_parts(make, room, monkeypatch):
    """No tensor is larger than the room, or than what one site needs; the figures stay the same."""
    monkeypatch.setattr("ardm.model.TOGETHER", room)
    digits, D = Digits(1500, 1500), 30
    model = randomise(
        Model(digits, (D,), lambda state, context: lambda b, p: Features.plain(h[b * D + p]), make(digits, WIDTH))
    )
    h = features_of(2 * D).hidden
    state = digits.blank(2, (D,))
    sites = Sites(torch.arange(2 * D)[::2], D)
    prediction = model(state)
    with Largest() as largest:
        found = SCORES["entropy"](prediction, sites)
    weights = max(w.numel() for w in model.parameters())
    assert largest.numel <= max(room, prediction.numbers, weights)
    assert found.dtype == torch.double
    torch.testing.assert_close(found, entropy(prediction[sites].double().softmax(-1)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("K", [66, 256, 300, 5000])
@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
def test_the_probabilities_of_a_wide_mixture_are_those_of_its_list(kind, K, scale):
    """Narrow, wide and far-off components, narrower than a value too, and one without a distribution."""
    head = randomise(kind(Digits(K, K), WIDTH, 3), scale=scale)
    features = features_of(12, seed=5)
    features.hidden[0] *= 20
    features.loc[1], features.loc[2] = 30.0, -3.0
    features.scale[3:6] *= 1e-4
    features.scale[7] = 2 / (K - 1)
    features.loc[8], features.scale[8] = (2 * 17 - K) / (K - 1), 1e-5  # on an edge
    features.hidden[6] = math.nan
    value = depth = torch.zeros(12, dtype=torch.long)
    p, logits = head.probabilities(features, value, depth), head.logits(features, value, depth)
    assert p.dtype == torch.double
    assert p[6].isnan().all()
    rest = torch.arange(12) != 6
    p, logits = p[rest], logits[rest]
    torch.testing.assert_close(p.sum(-1), torch.ones_like(p[:, 0]), rtol=0, atol=1e-12)
    likely = logits > -460.0  # 2e-200
    torch.testing.assert_close(p[likely].log(), logits[likely], rtol=0, atol=2e-9)
    assert (p[~likely] <= 2e-200).all()
    torch.testing.assert_close(entropy(p), entropy(logits.softmax(-1)), rtol=0, atol=1e-9)


def test_entropy_without_a_distribution_is_nan_and_of_any_prediction_is_computed():
    logits = torch.tensor([[0.0, -math.inf], [0.0, 0.0], [math.nan, 0.0], [-math.inf] * 2, [math.inf, 0.0]])
    found = SCORES["entropy"](*asked(logits))
    assert found[:2].tolist() == [0.0, pytest.approx(math.log(2))]
    assert found[2:].isnan().all()


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("temperature", [0.3, 5.0, 10.0, 80.0])
def test_a_hot_draw_counts_the_smallest_probabilities(kind, temperature):
    """A narrow component of 2,000 values: at temperature 80, values of probability e^−1000 are drawn as often as they should."""
    head = randomise(kind(Digits(2000, 2000), WIDTH, 1), scale=0.0)
    with torch.no_grad():
        head.out.bias[2] = -0.5
    n = 500
    features = same(
        Features(torch.zeros(1, WIDTH).double(), torch.zeros(1).double(), torch.full((1,), 2e-3).double()), n
    )
    zero = torch.zeros(1, n, dtype=torch.long)
    prediction = Prediction(lambda item, site: features, Partial(zero, zero), head)
    sites = Sites(torch.arange(n), n)
    drawn = Draw(RandomNumbers(3), temperature)(prediction, sites, None)
    u = RandomNumbers(3).child(0).uniform(sites.batch_index, sites.position, 0)
    logits = head.logits(features, zero[0], zero[0])
    assert logits.min() < -300
    assert torch.equal(drawn, inverse_cdf(logits / temperature, u))
    assert (drawn - 1000).abs().max() > 1.5 * temperature


@pytest.mark.parametrize("make", [*HEADS.values(), lambda a, width: ChainHead(a, width)])
@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0, 2.5])
def test_a_temperature_draws_the_same_in_parts(make, temperature, monkeypatch):
    """One list of all digits for each part of the sites; the numbers drawn, and so the digits, are those of one list."""
    digits, D = Digits(300, 300), 40
    head = randomise(make(digits, WIDTH))
    h = features_of(D).hidden
    model = Model(digits, (D,), lambda state, context: lambda b, p: Features.plain(h[p]), head)
    prediction, sites = model(digits.blank(1, (D,))), Sites(torch.arange(D), D)
    whole = Draw(generator(3), temperature)(prediction, sites, None)
    room = 3 * prediction.numbers
    monkeypatch.setattr("ardm.model.TOGETHER", room)
    with Largest() as largest:
        watched = Watch(1, None).over(prediction, 0, prediction.state)
        assert torch.equal(Draw(generator(3), temperature)(watched, sites, None), whole)
    assert largest.numel <= max(room, *(w.numel() for w in model.parameters()))
    p = prediction[sites].double().softmax(-1)
    if temperature == 0:
        assert torch.equal(whole, p.argmax(-1))


def test_an_ordered_family_refuses_maps():
    with pytest.raises(ArdmError, match="values that are ordered"):
        MixtureHead(WILD, WIDTH, 2)


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize(("classes", "base"), [(2000, 2000), (1500, 1500)])
def test_a_wide_mixture_is_drawn_by_its_cdf_as_by_its_list(classes, base, kind):
    head = kind(Digits(classes, base), 4, 3).double()
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        head.out.weight.normal_(generator=g)
    n = 50
    features = Features(
        torch.randn(n, 4, generator=g, dtype=torch.double),
        torch.zeros(n).double(),
        torch.full((n,), 0.1).double(),
    )
    value, depth = torch.zeros(n, dtype=torch.long), torch.zeros(n, dtype=torch.long)
    assert head.by_quantile
    p = head.logits(features, value, depth).softmax(-1).cumsum(-1)
    for u in (0.0, 1e-9, 0.3, 0.5, 0.999, 1 - 1e-12):
        digit = head.quantile(features, value, depth, torch.full((n,), u, dtype=torch.double))
        listed = torch.searchsorted(p, torch.full((n, 1), u, dtype=torch.double) * p[:, -1:], right=True)[:, 0]
        assert (digit - listed.clamp(max=classes - 1)).abs().max() <= (0 if 1e-6 < u < 1 - 1e-6 else classes)
        assert ((digit >= 0) & (digit < classes)).all()


@pytest.mark.parametrize("kind", MIXTURES)
@pytest.mark.parametrize("centre", [-0.9, 0.0, 0.9])
def test_digits_of_a_given_block_are_drawn_as_they_are_scored_however_far_the_mean(kind, centre):
    """In bit-depth expansion a block may be given that the mixture calls all but impossible, 0 or 1 by its cdf."""
    digits = Digits(65_536, 256)
    head, tops = kind(digits, 4, 2).double(), (0, 100, 127, 200, 255)
    n = 16 * len(tops)
    features = Features(torch.zeros(n, 4).double(), torch.full((n,), centre).double(), torch.full((n,), 0.01).double())
    value, depth = torch.tensor(tops).repeat_interleave(16) * 256, torch.ones(n, dtype=torch.long)
    u = (torch.arange(16).double() / 16 + 0.01).repeat(len(tops))
    cdf = head.probabilities(features, value, depth).cumsum(-1)
    assert torch.equal(head.quantile(features, value, depth, u), torch.searchsorted(cdf, u[:, None], right=True)[:, 0])


# --- a softmax in two parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 4, 7, 16, 17, 300, 1100])
def test_a_chain_is_one_distribution_over_all_values_and_is_drawn_as_it_is_scored(classes):
    alphabet = Digits(classes, classes)
    head = randomise(ChainHead(alphabet, WIDTH), scale=2.0)
    assert head.by_quantile == (classes > 64)
    features = same(features_of(1, seed=2), classes)
    value, depth, digit = at_depth(alphabet, 0)
    logits = head.logits(features, value, depth)
    assert logits.shape == (classes, classes)
    nats = head.log_prob(features, value, depth, digit)
    torch.testing.assert_close(nats, logits[0], rtol=0, atol=1e-10)
    p = nats.detach().exp()
    assert float(p.sum()) == pytest.approx(1, abs=1e-10)
    edges = p.cumsum(0)
    u = torch.cat([edges[:-1] - p[:-1] / 2, torch.tensor([0.0, 1 - 1e-12], dtype=torch.double)])[:classes]
    wanted = torch.searchsorted(edges, u, right=True)
    assert torch.equal(head.quantile(same(features, len(u)), value[: len(u)], depth[: len(u)], u), wanted)


def test_a_new_chain_of_a_square_is_flat_and_learns_its_high_and_low_parts():
    head = ChainHead(Digits(256, 256), WIDTH)
    value, depth, digit = at_depth(head.alphabet, 0)
    features = features_of(256, dtype=torch.float)
    nats = head.log_prob(features, value, depth, digit)
    torch.testing.assert_close(nats, torch.full((256,), -torch.tensor(256.0).log()))
    randomise(head)
    assert torch.autograd.gradcheck(
        lambda *f: head.log_prob(Features(*f), value[:9], depth[:9], digit[::29]),
        tuple(f.requires_grad_() for f in tensors(features_of(9))),
    )


def test_a_chain_has_no_stages():
    with pytest.raises(ArdmError, match="reveals whole values: leave base at 0"):
        ChainHead(Digits(256, 16), WIDTH)


def test_a_mixture_of_another_shape_takes_nothing_from_logistics():
    with pytest.raises(TypeError, match="override all of _between, _cdf, _masses"):

        class Half(MixtureHead):
            def _cdf(self, z):
                return z
