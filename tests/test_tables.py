"""Tables: classes of its own for each column, values that cannot be, and one evaluation per item."""

import itertools
import math

import pytest
import torch

import ardm
from ardm import likelihood, objective
from ardm import plan as plans
from ardm.digits import Digits, Sites
from ardm.errors import ArdmError
from ardm.features import Features
from ardm.heads import ColumnHead
from ardm.models.build import build
from ardm.models.config import ModelConfig, preset
from ardm.nets.table import ColumnOutput, Direct
from ardm.walk import sample, score
from emulated import Emulated
from sequences import (
    answers_belong_to_sites_and_items,
    every_parameter_is_trained,
    hidden_is_not_seen,
    nats_of_everything,
    small,
)
from toys import generator

COLUMNS = (2, 5, 3, 1, 4)
VARIANTS = {
    "columns": {"columns": COLUMNS},
    "classic": {"columns": COLUMNS, "style": "classic"},
    "equal columns": {},
    "binary": {"classes": 2, "shape": (7,), "embedding": 3},
    "binary image": {"classes": 2, "shape": (1, 3, 3)},
    "stages": {"columns": COLUMNS, "base": 2},
    "direct": {"columns": COLUMNS, "direct": True},
    "direct stages": {"columns": COLUMNS, "base": 2, "direct": True},
    "labels": {"columns": COLUMNS, "labels": 3, "dropout": 0.2},
    "time and a vector": {"columns": COLUMNS, "vector": 2, "time": True},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_hidden_values_change_nothing(name):
    hidden_is_not_seen(small("mlp", **VARIANTS[name]))


@pytest.mark.parametrize("name", VARIANTS)
def test_answers_belong_to_their_sites(name):
    answers_belong_to_sites_and_items(small("mlp", **VARIANTS[name]))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_is_trained(name):
    every_parameter_is_trained(small("mlp", **VARIANTS[name]))


@pytest.mark.parametrize("trunk", ["mlp", "transformer"])
@pytest.mark.parametrize("base", [0, 2, 3])
def test_the_rows_that_can_be_have_all_the_probability(trunk, base):
    """Summed over the values that each column has, and those alone, one."""
    model = small(trunk, columns=COLUMNS, base=base)
    rows = torch.tensor(list(itertools.product(*map(range, COLUMNS))))
    assert float(nats_of_everything(model, rows).neg().exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("trunk", ["mlp", "transformer"])
@pytest.mark.parametrize("base", [0, 2])
def test_impossible_values_have_no_probability_and_are_never_drawn(trunk, base):
    model = small(trunk, columns=COLUMNS, base=base)
    x = torch.tensor([[1, 4, 2, 0, 3]])
    for site, limit in enumerate(COLUMNS):
        if limit < 5:
            y = x.clone()
            y[0, site] = 4
            assert float(nats_of_everything(model, y)) == math.inf
    S = len(model.digits)
    drawn = sample(model, plans.raster(S, (5,)), model.digits.blank(200, (5,)), generator())
    assert (drawn < torch.tensor(COLUMNS)).all()
    assert drawn[:, 0].max() == 1


@pytest.mark.parametrize("base", [0, 2, 3])
def test_a_column_that_takes_one_value_costs_nothing(base):
    model = small("mlp", columns=(1, 5, 1), shape=(3,), base=base)
    lonely = small("mlp", columns=(1, 1, 1), shape=(3,), base=base)
    zeros = torch.zeros(1, 3, dtype=torch.long)
    assert float(nats_of_everything(lonely, zeros)) == 0
    state = model.digits.blank(1, (3,))
    logp = model(state)[Sites(torch.tensor([0, 2]), 3)].log_softmax(-1)
    assert torch.equal(logp[:, 0], torch.zeros(2, dtype=torch.double))
    assert torch.equal(logp[:, 1:], torch.full_like(logp[:, 1:], -math.inf))


def test_a_new_table_is_ignorant_of_what_can_be_only():
    config = preset("table", shape=(5,), columns=COLUMNS, classes=5, width=8, blocks=1)
    nats = score(build(config).eval(), plans.raster(1, (5,)), torch.zeros(1, 5, dtype=torch.long))
    assert float(nats) == pytest.approx(sum(map(math.log, COLUMNS)), rel=1e-6)


@pytest.mark.parametrize("trunk", ["mlp", "transformer"])
def test_columns_have_embeddings_and_outputs_of_their_own(trunk):
    """A value of one column and the same value of another share no parameter of input or output."""
    model = small(trunk, columns=COLUMNS)
    embedding = model.body.trunk.embedding
    assert embedding.weight.shape[0] == sum(COLUMNS) + len(COLUMNS)
    rows = []
    embedding.register_forward_hook(lambda module, inputs, output: rows.append(inputs[0]))
    x = torch.tensor([[1, 1, 1, 0, 1]])
    for depth in (torch.zeros_like(x), torch.ones_like(x)):
        model(model.digits.truncate(x, depth))
    assert rows[0].tolist() == [[15, 16, 17, 18, 19]]
    assert rows[1].tolist() == [[1, 3, 8, 10, 12]]


def test_the_perceptron_is_evaluated_once_an_item():
    model = small("mlp", columns=COLUMNS)
    calls = []
    model.body.trunk.first.register_forward_hook(lambda module, inputs, output: calls.append(output.shape))
    state = model.digits.blank(3, (5,))
    prediction = model(state)
    assert prediction[Sites(torch.arange(15), 5)].shape == (15, 5)
    assert prediction[Sites(torch.arange(4), 5)].shape == (4, 5)
    assert calls == [torch.Size([3, 8])]


def test_outputs_of_single_sites_are_those_of_their_columns():
    output = ColumnOutput(COLUMNS, 6).double()
    torch.nn.init.normal_(output.weight)
    torch.nn.init.normal_(output.bias)
    for n, columns in ((0, 5), (1, 5), (3, 5), (40, 5), (41, 1)):
        h = torch.randn(n, 6, generator=generator(1), dtype=torch.double)
        position = torch.randint(columns, (n,), generator=generator(2))
        expected = torch.einsum("nf,nfk->nk", h, output.weight[position]) + output.bias[position]
        torch.testing.assert_close(output(h, position), expected)
        with Emulated(output) as mode:  # the blocks of a GPU, whose sizes depend on no value
            mode.put(h, position)
            found = output(h, position)
            assert not mode.waits
        torch.testing.assert_close(found, expected)


def test_the_head_needs_positions():
    head = ColumnHead(Digits(5, 5), COLUMNS)
    features = Features.plain(torch.zeros(2, 5))
    zero = torch.zeros(2, dtype=torch.long)
    assert head.logits(features, zero, zero, torch.tensor([0, 2])).isfinite().sum(1).tolist() == [2, 3]
    with pytest.raises(ArdmError, match="position"):
        head.logits(features, zero, zero)


def test_other_numbers_of_columns_are_refused():
    model = small("mlp", columns=COLUMNS)
    with pytest.raises(ArdmError, match="5 columns; got 6"):
        model(model.digits.blank(1, (6,)))
    for changes, message in (
        ({"head": "mixture"}, "takes head values"),
        ({"causal": "single"}, "transformer or wavenet"),
    ):
        with pytest.raises(ArdmError, match=message):
            build(ModelConfig(**{"shape": (5,), "classes": 5, "head": "values", "trunk": "mlp", **changes}))


def test_direct_connections_are_sums_of_weights():
    """Nothing at first; then, of every row of the input, its own weights."""
    direct = Direct(7, 3)
    rows = torch.tensor([[0, 3, 5], [2, 4, 6]])
    assert not direct(rows).any()
    with torch.no_grad():
        direct.v.normal_(generator=generator(3))
    torch.testing.assert_close(direct(rows), direct.weight[rows].sum(1))
    torch.testing.assert_close(direct.weight, 100 * direct.u * direct.v)
    with pytest.raises(ArdmError, match="trunk transformer has no setting direct"):
        build(ModelConfig(shape=(5,), classes=5, head="values", trunk="transformer", direct=True))


def test_decay_keeps_direct_connections_sparse():
    """Two columns that are equal and four that are coins: the connections of the two are all there are."""
    g = generator(4)
    model = build(ModelConfig(shape=(6,), classes=2, head="values", trunk="mlp", width=8, blocks=0, direct=True))
    net = model.body.trunk.direct
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=3.0)
    for _ in range(400):
        x = torch.randint(2, (64, 6), generator=g)
        x[:, 1] = x[:, 0]
        steps = objective.draw(len(x), 1, (6,), g)
        optimiser.zero_grad()
        objective.bound_step(model, x, steps).nats.mean().backward()
        optimiser.step()
    weight = net.weight.detach().abs()
    columns = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 0, 1, 2, 3, 4, 5])
    strength = torch.stack([weight[columns == c].amax(0).view(6, 2).amax(1) for c in range(6)])
    wanted = min(float(strength[0, 1]), float(strength[1, 0]))
    strength[0, 1] = strength[1, 0] = 0
    assert wanted > 1
    assert strength.fill_diagonal_(0).max() < wanted / 10


@pytest.mark.parametrize("trunk", ["mlp", "transformer"])
def test_a_given_value_that_its_column_cannot_take_is_refused(trunk):
    """A network reads it as the last one that its column takes."""
    model = small(trunk, columns=COLUMNS)
    x, known = torch.zeros(2, 5, dtype=torch.long), torch.tensor([True, False, False, False, False])
    x[1, 0] = COLUMNS[0]
    message = rf"column 0 takes values 0..{COLUMNS[0] - 1}; .* gives {COLUMNS[0]} there, in item 1"
    plan, depth = plans.raster(1, (5,)).given(known.long()[None]), known.long().expand(2, 5)
    start = model.digits.truncate(x, depth)
    for ask in (
        lambda: ardm.fill(model, x, known),
        lambda: ardm.fill(model, x.numpy(), depth),
        lambda: likelihood.exact(model, plan, x),
        lambda: likelihood.exact(model, plan, x, start),
        lambda: likelihood.bound(model, x, 2, generator(), given=depth),
        lambda: sample(model, plan, start, generator()),
    ):
        with pytest.raises(ArdmError, match=message):
            ask()
    assert ardm.fill(model, x, ~known).shape == (2, 5)  # what is not known is not looked at
