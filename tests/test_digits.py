"""Values as digit strings: against integers, the paper's matrices, and brute force over all values."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ardm.digits import Digits, Maps, Partial, Sites, block_logsumexp
from ardm.errors import ArdmError
from toys import WILD, floor_maps, generator, letters

SIZES = [
    (2, 2),
    (5, 5),
    (5, 2),
    (7, 3),
    (8, 2),
    (27, 3),
    (125, 5),
    (216, 6),
    (256, 4),
    (256, 255),
    (65536, 256),
    (65536, 2),
]
MAPS = [WILD, letters(), Maps(4, [[2] * 4]), Maps(4, [[4] * 4]), floor_maps(Digits(7, 3)), floor_maps(Digits(8, 2))]
SMALL = [Digits(*s) for s in SIZES if s[0] <= 27] + MAPS


def every(alphabet, depth):
    """All values, known to a depth, and their sites."""
    x = torch.arange(alphabet.classes)[None]
    state = alphabet.truncate(x, torch.full_like(x, depth))
    return x, state, Sites.where(torch.ones_like(x, dtype=torch.bool))


# --- digits are digits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "base"), SIZES)
def test_the_number_of_digits_is_the_integer_logarithm(classes, base):
    S = len(Digits(classes, base))
    assert base ** (S - 1) < classes <= base**S  # floats say 4 for (125, 5) and (216, 6)


def test_the_papers_table_of_stages():
    assert [[len(Digits(K, b)) for b in (2, 4, 16, 256)] for K in (256, 65536)] == [[8, 4, 2, 1], [16, 8, 4, 2]]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_truncating_is_rounding_down(data):
    K = data.draw(st.integers(2, 70000))
    digits = Digits(K, data.draw(st.integers(2, K)))
    x = data.draw(st.integers(0, K - 1))
    d = data.draw(st.integers(0, len(digits)))
    block = digits.base ** (len(digits) - d)
    state = digits.truncate(torch.tensor([[x]]), torch.tensor([[d]]))
    assert int(state.value) == x // block * block
    assert int(state.depth) == d


def test_the_papers_example_of_maps():
    digits, x = Digits(8, 2), torch.arange(8)
    known = [digits.truncate(x, torch.full_like(x, d)).value.tolist() for d in range(4)]
    assert known == [[0] * 8, [0, 0, 0, 0, 4, 4, 4, 4], [0, 0, 2, 2, 4, 4, 6, 6], list(range(8))]


@pytest.mark.parametrize("alphabet", [Digits(*s) for s in SIZES] + MAPS)
def test_what_is_read_and_written_rebuilds_the_data(alphabet):
    g = generator(1)
    x = torch.randint(alphabet.classes, (3, 2, 2), generator=g)
    state = alphabet.blank(3, (2, 2))
    assert (state.value.unique().numel(), int(state.depth.max())) == (1, 0)
    while (state.depth < len(alphabet)).any():
        free = state.depth < len(alphabet)
        sites = Sites.where(free & (torch.rand(free.shape, generator=g) < 0.6))
        before = state.value.clone(), state.depth.clone()
        after = alphabet.write(state, sites, alphabet.read(x, state.depth, sites))
        assert torch.equal(state.value, before[0])
        assert torch.equal(state.depth, before[1])
        expected = alphabet.truncate(x, after.depth)
        assert torch.equal(after.value, expected.value)
        assert int((after.depth - state.depth).sum()) == len(sites)
        state = after
    assert torch.equal(state.value, x)


@pytest.mark.parametrize("alphabet", SMALL)
def test_reading_inverts_writing(alphabet):
    for d in range(len(alphabet)):
        x, state, _ = every(alphabet, d)
        possible = alphabet.possible(state.value[0], state.depth[0])
        for j in range(alphabet.base):
            able = Sites.where(possible[:, j][None])
            written = alphabet.write(state, able, torch.full((len(able),), j))
            # a child state, completed in any way, reads back as j
            for y in range(alphabet.classes):
                below = alphabet.truncate(torch.full_like(x, y), torch.full_like(x, d + 1)).value == written.value
                match = Sites.where(below & possible[:, j][None])
                read = alphabet.read(torch.full_like(x, y), state.depth, match)
                assert (read == j).all()


@pytest.mark.parametrize("alphabet", SMALL)
def test_possible_digits_are_those_of_some_value(alphabet):
    for d in range(len(alphabet)):
        x, state, sites = every(alphabet, d)
        digit = alphabet.read(x, state.depth, sites)
        expected = torch.zeros(alphabet.classes, alphabet.base, dtype=torch.bool)
        for a in range(alphabet.classes):
            for b in range(alphabet.classes):
                if state.value[0, a] == state.value[0, b]:
                    expected[a, digit[b]] = True
        assert torch.equal(alphabet.possible(state.value[0], state.depth[0]), expected)


# --- from a distribution over values to the next digit ----------------------------------------------------------------


@pytest.mark.parametrize("alphabet", SMALL)
def test_children_sum_the_mass_of_their_values(alphabet):
    theta = torch.randn(alphabet.classes, alphabet.classes, generator=generator(2), dtype=torch.double) * 3
    for d in range(len(alphabet)):
        x, state, sites = every(alphabet, d)
        digit, value = alphabet.read(x, state.depth, sites), state.value[0]
        got = alphabet.children(theta, value, state.depth[0])
        for row in range(alphabet.classes):
            for j in range(alphabet.base):
                mass = theta[row].exp()[(value == value[row]) & (digit == j)].sum()
                assert math.isclose(got[row, j].exp(), mass, rel_tol=1e-12, abs_tol=0)


@pytest.mark.parametrize("maps", MAPS)
def test_children_are_the_papers_matrices(maps):
    """θ^(s) = (P^(s)ᵀ x^(s−1) ⊙ P̄^(s+1) θ) / (x^(s−1)ᵀ P̄^(s) θ), with 0/1 matrices over all states."""
    n, S = maps.states, len(maps)
    matrices = []
    for m in maps.maps:
        P = torch.zeros(n, n, dtype=torch.double)
        for w, v in enumerate(m):
            P[v, w] = 1
        matrices.append(P)
    theta = torch.zeros(n, dtype=torch.double)
    theta[: maps.classes] = torch.rand(maps.classes, generator=generator(0), dtype=torch.double)
    reach = [torch.eye(n, dtype=torch.double)]
    for P in reversed(matrices):
        reach.insert(0, P @ reach[0])
    for d in range(S):
        _, state, _ = every(maps, d)
        got = maps.children(
            theta[: maps.classes].log().expand(maps.classes, -1), state.value[0], state.depth[0]
        ).softmax(-1)
        for row, v in enumerate(state.value[0].tolist()):
            x = torch.eye(n, dtype=torch.double)[v]
            stage = (matrices[d].T @ x) * (reach[d + 1] @ theta) / (x @ reach[d] @ theta)
            torch.testing.assert_close(got[row][got[row] > 0], stage[stage > 0], rtol=1e-12, atol=0)


@pytest.mark.parametrize(("classes", "base"), [(7, 2), (27, 3), (256, 4), (125, 5), (5, 5)])
def test_the_chain_over_digits_is_the_distribution_over_values(classes, base):
    check_chain(Digits(classes, base))


@pytest.mark.parametrize("maps", MAPS)
def test_the_chain_over_maps_is_the_distribution_over_values(maps):
    check_chain(maps)


def check_chain(alphabet):
    theta = torch.randn(alphabet.classes, generator=generator(3), dtype=torch.double) * 4
    total = torch.zeros(alphabet.classes, dtype=torch.double)
    for d in range(len(alphabet)):
        x, state, sites = every(alphabet, d)
        logits = alphabet.children(theta.expand(alphabet.classes, -1), state.value[0], state.depth[0])
        total += logits.log_softmax(-1).gather(1, alphabet.read(x, state.depth, sites)[:, None])[:, 0]
    torch.testing.assert_close(total, theta.log_softmax(-1), rtol=0, atol=1e-12)


# --- block_logsumexp --------------------------------------------------------------------------------------------------


def test_blocks_of_tiny_weight_keep_their_digits():
    logits = torch.tensor(
        [[0.0, math.log(1e-300), math.log(3e-300), -torch.inf, -torch.inf, 700.0]], dtype=torch.double
    )
    got = block_logsumexp(logits, torch.tensor([[0, 1, 1, 2, 3, 4]]), 4)
    assert got.tolist() == [[0.0, pytest.approx(math.log(4e-300), rel=1e-14), -math.inf, -math.inf]]
    single = block_logsumexp(logits.float(), torch.tensor([[0, 1, 1, 2, 3, 4]]), 4)
    assert float(single[0, 1]) == pytest.approx(math.log(4e-300), rel=1e-6)


def test_gradients_survive_what_is_impossible():
    logits = torch.tensor(
        [[0.0, -690.0, -torch.inf, -torch.inf, 80.0, -5000.0]], dtype=torch.double, requires_grad=True
    )
    out = block_logsumexp(logits, torch.tensor([[0, 1, 1, 2, 3, 4]]), 4)
    out[out.isfinite()].sum().backward()
    assert logits.grad.tolist() == [[1.0, 1.0, 0.0, 0.0, 1.0, 0.0]]
    logits.grad = None
    out = block_logsumexp(logits, torch.tensor([[0, 1, 1, 2, 3, 4]]), 4)
    out.log_softmax(-1)[0, 1].backward()
    assert logits.grad.isfinite().all()


def test_gradients_of_block_sums_are_right():
    slot = torch.tensor([[0, 1, 1, 2, 0, 3], [1, 1, 1, 0, 3, 2]])
    logits = torch.randn(2, 6, generator=generator(0), dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: block_logsumexp(t, slot, 3), logits)


# --- maps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "base"), [(5, 5), (5, 2), (7, 3), (8, 2), (27, 3)])
def test_floor_maps_are_digits(classes, base):
    digits = Digits(classes, base)
    maps = floor_maps(digits)
    assert (len(maps), maps.classes, maps.base) == (len(digits), classes, base)
    theta = torch.randn(classes, classes, generator=generator(0), dtype=torch.double)
    for d in range(len(digits)):
        x, state, sites = every(digits, d)
        other = maps.truncate(x, state.depth)
        assert torch.equal(other.value, state.value)
        assert torch.equal(maps.read(x, state.depth, sites), digits.read(x, state.depth, sites))
        assert torch.equal(
            maps.possible(state.value[0], state.depth[0]), digits.possible(state.value[0], state.depth[0])
        )
        torch.testing.assert_close(
            maps.children(theta, state.value[0], state.depth[0]), digits.children(theta, state.value[0], state.depth[0])
        )


@pytest.mark.parametrize("absorbing", [0, 2, 3, 4, 9])
def test_the_absorbing_state_is_a_value_or_an_extra_class(absorbing):
    maps = Maps(4, [[absorbing] * 4])
    assert (len(maps), maps.base, maps.states) == (1, 4, max(4, absorbing + 1))
    assert maps.blank(2, (3,)).value.tolist() == [[absorbing] * 3] * 2
    theta = torch.randn(5, 4, generator=generator(0), dtype=torch.double)
    torch.testing.assert_close(
        maps.children(theta, torch.full((5,), absorbing), torch.zeros(5, dtype=torch.long)), theta
    )


def test_wild_maps_have_unequal_families():
    assert (len(WILD), WILD.base, WILD.states) == (3, 3, 10)
    x = torch.arange(7)
    known = [WILD.truncate(x, torch.full_like(x, d)).value.tolist() for d in range(4)]
    assert known == [[9] * 7, [8, 8, 2, 8, 8, 5, 2], [0, 0, 2, 0, 4, 5, 2], list(range(7))]


def test_complete_sites_may_stand_beside_asked_ones():
    """Tables are indexed at every depth without an error, although no complete site is asked."""
    for alphabet in (Digits(7, 3), WILD):
        x = torch.arange(alphabet.classes)
        full = torch.full_like(x, len(alphabet))
        assert torch.equal(alphabet.truncate(x, full).value, x)
        alphabet.possible(x, full)
        alphabet.children(torch.zeros(len(x), alphabet.classes), x, full)


# --- refusals and sites -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "base"), [(4, 1), (4, 5), (1, 1), (0, 2), (4, -2)])
def test_digits_refuse_impossible_bases(classes, base):
    with pytest.raises(ArdmError, match="base must lie in"):
        Digits(classes, base)


@pytest.mark.parametrize(
    ("classes", "maps"), [(4, []), (4, [[0, 0, 0]]), (4, [[0, 0, 1, 1]]), (4, [[-1] * 4]), (4, [[0, 0], [0, 0, 2, 2]])]
)
def test_maps_refuse_what_does_not_absorb(classes, maps):
    with pytest.raises(ArdmError, match="map"):
        Maps(classes, maps)


def test_sites_know_their_item_and_place():
    mask = torch.tensor([[[True, False], [False, True]], [[False, False], [True, False]]])
    sites = Sites.where(mask)
    assert (len(sites), sites.sites) == (3, 4)
    assert sites.batch_index.tolist() == [0, 0, 1]
    assert sites.position.tolist() == [0, 3, 2]
    assert sites.of(torch.arange(8).view(2, 2, 2)).tolist() == [0, 3, 6]


def test_a_state_says_its_batch_and_shape():
    state = Partial(torch.zeros(2, 3, 4).long(), torch.zeros(2, 3, 4).byte()).to("cpu")
    assert state.depth.dtype == torch.long
    with pytest.raises(ArdmError, match="the same shape"):
        Partial(torch.zeros(2, 3).long(), torch.zeros(2, 4).long())
    assert (state.batch, tuple(state.shape)) == (2, (3, 4))


@pytest.mark.parametrize("alphabet", [Digits(8, 2), WILD])
def test_nothing_known_is_two_tensors(alphabet):
    """Written into value, the first digit of a start once was its depth, too."""
    blank = alphabet.blank(1, (3,))
    blank.value[:, 0] = 3
    assert blank.depth.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("alphabet", [Digits(8, 2), WILD])
@pytest.mark.parametrize("kind", [lambda m: m, lambda m: m.byte(), lambda m: m.numpy()])
def test_a_mask_knows_all_digits_of_a_site_or_none(alphabet, kind):
    x, known = torch.tensor([[6, 5, 3]]), torch.tensor([[True, False, True]])
    state = alphabet.truncate(x, kind(known))
    assert state.depth.tolist() == [[len(alphabet), 0, len(alphabet)]]
    assert torch.equal(state.value, torch.where(known, x, alphabet.blank(1, (3,)).value))


@pytest.mark.parametrize("depth", [-1, 4])
@pytest.mark.parametrize("alphabet", [Digits(8, 2), WILD])
def test_depths_beyond_the_digits_are_refused(alphabet, depth):
    with pytest.raises(ArdmError, match=rf"depth: depths lie in 0\.\.3; got 0\.\.{depth}|got {depth}\.\.0"):
        alphabet.truncate(torch.tensor([[6, 5]]), torch.tensor([[0, depth]]))


def test_a_state_takes_no_mask_for_its_depth():
    x, known = torch.tensor([[6, 5]]), torch.tensor([[True, False]])
    for mask in (known, known.numpy()):
        with pytest.raises(ArdmError, match=r"got a mask of bool: write mask\.long\(\) \* len\(digits\)"):
            Partial(x, mask)
