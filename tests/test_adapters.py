"""Networks of users: the protocol of one function, and masked language models of Hugging Face."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import ardm
from ardm import likelihood
from ardm import plan as plans
from ardm.digits import Sites
from ardm.errors import ArdmError
from ardm.objective import bound_step, draw
from ardm.walk import sample, score
from toys import all_data, generator, some_data


class Net(nn.Module):
    """A perceptron over all sites, as a user may write it."""

    def __init__(self, sites=4, classes=3, outputs=None, context=0):
        super().__init__()
        self.classes, self.outputs = classes, outputs or classes
        self.first = nn.Linear(sites * (classes + 1) + context, 16)
        self.last = nn.Linear(16, sites * self.outputs)

    def forward(self, value, depth, context=None):
        told = nn.functional.one_hot(torch.where(depth > 0, value, self.classes), self.classes + 1).flatten(1).float()
        told = told if context is None else torch.cat([told, context], 1)
        return self.last(self.first(told).tanh()).view(*value.shape, self.outputs)


@pytest.mark.parametrize(
    ("base", "head", "outputs"),
    [(0, "values", 5), (0, "digits", 5), (2, "values", 5), (2, "digits", 6), (3, "digits", 6)],
)
def test_a_network_becomes_a_model(base, head, outputs):
    torch.manual_seed(0)
    model = ardm.wrap(Net(3, 5, outputs), (3,), 5, base, head)
    x, S = all_data(5, (3,)), len(model.digits)
    with torch.no_grad():
        assert float(score(model, plans.shuffled(S, (3,), generator(1)), x).neg().exp().sum()) == pytest.approx(1, 1e-4)
        drawn = sample(model, plans.raster(S, (3,)), model.digits.blank(20, (3,)), generator())
    assert drawn.min() >= 0
    assert drawn.max() < 5
    assert likelihood.bound(model, x[:8], 2, generator()).nats.isfinite().all()


def test_it_trains():
    torch.manual_seed(0)
    net = Net()
    model, x = ardm.wrap(net, (4,), 3), torch.tensor([[0, 1, 2, 0], [2, 1, 0, 2]]).repeat(16, 1)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    assert {id(p) for p in model.parameters()} == {id(p) for p in net.parameters()}
    for step in range(150):
        loss = bound_step(model, x, draw(32, 1, (4,), generator(step))).nats.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(likelihood.bound(model, x[:2], 50, generator()).nats.mean()) < 1.2 * math.log(2)


def test_a_function_images_and_context():
    def flat(value, depth):
        return torch.zeros(*value.shape, 4)

    model = ardm.wrap(flat, (1, 2, 3), 4)
    x = some_data(model.digits, (1, 2, 3), 2)
    assert score(model, plans.raster(1, (1, 2, 3)), x).tolist() == pytest.approx([6 * math.log(4)] * 2)
    told = ardm.wrap(Net(context=2), (4,), 3)
    blank, sites = told.digits.blank(2, (4,)), Sites(torch.arange(8), 4)
    a, b = (told(blank, torch.full((2, 2), c))[sites] for c in (0.0, 1.0))
    assert not torch.equal(a, b)


def test_it_serves_the_whole_library():
    bundle = ardm.Bundle(ardm.wrap(Net(), (4,), 3).eval(), ardm.ModelConfig(shape=(4,), classes=3))
    x = ardm.sample(bundle, 3, calls=4)
    assert x.shape == (3, 4)
    known = torch.tensor([[True, False, True, False]]).expand(3, 4)
    filled = ardm.fill(bundle, x, known, calls=2)
    assert torch.equal(filled[known], x[known])
    assert ardm.score(bundle, x, passes=2).nats.shape == (3,)


def test_it_needs_no_bundle():
    """`ardm.sample(ardm.wrap(...), 2)`: every one-call function takes a bare model."""
    torch.manual_seed(0)
    for base, head in ((0, "values"), (2, "values")):
        model = ardm.wrap(Net().eval(), (4,), 3, base, head)
        bundle = ardm.Bundle(model, ardm.ModelConfig(shape=(4,), classes=3, base=base))
        x = ardm.sample(model, 2)
        assert torch.equal(x, ardm.sample(bundle, 2))
        known = torch.tensor([True, False, False, True])
        assert torch.equal(ardm.fill(model, x, known), ardm.fill(bundle, x, known))
        assert torch.equal(ardm.score(model, x).nats, ardm.score(bundle, x).nats)
        assert torch.equal(ardm.score(model, x, 99).nats, ardm.score(bundle, x, 99).nats)
        assert len(ardm.make_plan(model, 2, "bayer")) == 2
    for other in ("pictures", Net(), None):
        with pytest.raises(ArdmError, match=r"give a bundle \(ardm.load\) or a model"):
            ardm.sample(other, 2)


@pytest.mark.parametrize("module", [Net(), lambda value, depth: torch.zeros(*value.shape, 3)])
def test_a_network_of_ones_own_is_not_saved(tmp_path, module):
    """Regression: a folder was written that `load` refused, because its configuration builds another network."""
    bundle = ardm.Bundle(ardm.wrap(module, (4,), 3), ardm.ModelConfig(shape=(4,), classes=3, trunk="transformer"))
    with pytest.raises(ArdmError, match=r"cannot be saved.*ardm\.load could not read it.*torch\.save"):
        bundle.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_refused():
    blank = ardm.wrap(Net(), (4,), 3).digits.blank(2, (4,))
    with pytest.raises(ArdmError, match=r"must return logits \(2, 4, 5\).*returned shape \(2, 4, 3\)"):
        ardm.wrap(Net(), (4,), 5)(blank)
    with pytest.raises(ArdmError, match="returned a tuple"):
        ardm.wrap(lambda value, depth: (value, depth), (4,), 3)(blank)
    with pytest.raises(ArdmError, match="head must be"):
        ardm.wrap(Net(), (4,), 3, head="mixture")
    with pytest.raises(ArdmError, match="base"):
        ardm.wrap(Net(), (4,), 3, base=9)


# --- Hugging Face -----------------------------------------------------------------------------------------------------


class StandIn(nn.Module):
    """The interface of a masked language model: input_ids, attention_mask → .logits."""

    def __init__(self, vocabulary=11):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=vocabulary)
        self.table, self.out, self.seen = nn.Embedding(vocabulary, 8), nn.Linear(8, vocabulary), []

    def forward(self, input_ids, attention_mask):
        self.seen.append(input_ids)
        h = self.table(input_ids)
        return SimpleNamespace(logits=self.out(h + h.mean(1, keepdim=True)))


def bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=11, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=16
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.BertForMaskedLM(config)


@pytest.mark.parametrize("make", [StandIn, bert])
def test_a_masked_language_model_becomes_a_model(make):
    """Of any order: distributions, leaks and samples, without the mask and the special tokens, which are put around."""
    torch.manual_seed(1)
    model = ardm.huggingface(make(), 4, 3, never=(0, 1, 2, 3), before=(1,), after=(2,)).eval()
    assert model.digits.classes == 11
    x = all_data(6, (3,)) + 5
    with torch.no_grad():
        assert float(score(model, plans.shuffled(1, (3,), generator(1)), x).neg().exp().sum()) == pytest.approx(1, 1e-4)
        drawn = sample(model, plans.raster(1, (3,)), model.digits.blank(50, (3,)), generator())
        assert drawn.min() >= 5
        depth = torch.tensor([[1, 0, 0]]).expand(2, 3)
        sites = Sites.where(depth == 0)
        a, b = (
            model(type(model.digits.blank(2, (3,)))(y, depth))[sites] for y in (x[:2], x[:2] + torch.tensor([0, 2, 3]))
        )
        assert torch.equal(a, b)
        other = model(model.digits.truncate(x[:2] + torch.tensor([4, 0, 0]), depth))[sites]
        assert not torch.equal(a, other)
        impossible = torch.tensor([[5, 4, 6]])
        assert float(score(model, plans.raster(1, (3,)), impossible)) == math.inf
    bound_step(model, x[:8], draw(8, 1, (3,), generator(0))).nats.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


class Capped(StandIn):
    """A network that names its last layer, and bends what that gives."""

    def __init__(self, cap=None):
        super().__init__()
        self.cap = cap

    def get_output_embeddings(self):
        return self.out

    def forward(self, input_ids, attention_mask):
        found = super().forward(input_ids, attention_mask).logits
        return SimpleNamespace(logits=found if self.cap is None else self.cap * (found / self.cap).tanh())


@pytest.mark.parametrize(
    ("make", "split"), [(bert, True), (Capped, True), (lambda: Capped(9.0), False), (StandIn, False)]
)
def test_the_last_layer_runs_at_the_sites_asked_only(make, split):
    """Where a network ends in it; the logits are those of the network either way, and its own calls stay whole."""
    torch.manual_seed(2)
    network, rows = make().eval(), []
    out = network.get_output_embeddings() if hasattr(network, "get_output_embeddings") else network.out
    model = ardm.huggingface(network, 4, 3, before=(1,), after=(2,))
    out.register_forward_hook(lambda module, given, found: rows.append(found.shape[:-1].numel()))
    known, x = torch.tensor([[1, 0, 1], [0, 0, 1]]), torch.tensor([[7, 8, 9], [5, 6, 7]])
    found = model(model.digits.truncate(x, known))[Sites(torch.tensor([1, 3]), 3)]
    assert sum(rows) == (2 if split else 2 * 5)
    ids = torch.tensor([[1, 7, 4, 9, 2], [1, 4, 4, 7, 2]])
    wanted = network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[[0, 1], [2, 1]]
    assert rows[-1] == 2 * 5
    keep = torch.arange(11) != 4
    torch.testing.assert_close(found[:, keep], wanted[:, keep], rtol=0, atol=1e-6)
    assert found[:, 4].eq(-math.inf).all()


def test_unknown_tokens_are_masks_between_what_stands_around():
    net = StandIn()
    model = ardm.huggingface(net, 4, 3, before=(1, 1), after=(2,))
    model(model.digits.truncate(torch.tensor([[7, 8, 9]]), torch.tensor([[0, 1, 0]])))
    assert net.seen[-1].tolist() == [[1, 1, 4, 8, 4, 2]]


def test_language_models_that_do_not_fit_are_refused():
    with pytest.raises(ArdmError, match="vocabulary"):
        ardm.huggingface(nn.Identity(), 4, 3)
    with pytest.raises(ArdmError, match="11 logits, for a vocabulary of 12"):
        model = ardm.huggingface(StandIn(), 4, 3, vocabulary=12)
        model(model.digits.blank(1, (3,)))
    with pytest.raises(ArdmError, match="token ids"):
        ardm.huggingface(StandIn(), 4, 3, before=(-1,))
    with pytest.raises(ArdmError, match="mask_token_id"):
        ardm.huggingface(StandIn(), -1, 3)


class Headless(StandIn):
    """As AutoModel: hidden states, no logits."""

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.table(input_ids))


class Sentences(StandIn):
    """As AutoModelForSequenceClassification: logits of an item."""

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(logits=self.table(input_ids).sum(1))


class Short(StandIn):
    def __init__(self):
        super().__init__()
        self.config.max_position_embeddings = 8


WRONG_LANGUAGE_MODELS = {
    "no mask token": (
        lambda: ardm.huggingface(StandIn(), None, 3),
        "without a mask token belongs to a causal language",
    ),
    "mask as text": (
        lambda: ardm.huggingface(StandIn(), "[MASK]", 3),
        r"mask_token_id must be a whole number.*\[MASK\]",
    ),
    "mask": (lambda: ardm.huggingface(StandIn(), 11, 3), r"mask_token_id: token ids lie in 0\.\.10.*got 11"),
    "never": (lambda: ardm.huggingface(StandIn(), 4, 3, never=[1, 99]), r"never: token ids lie in 0\.\.10.*got 99"),
    "never is None": (
        lambda: ardm.huggingface(StandIn(), 4, 3, never=None),
        "never must be a collection.*leave it out",
    ),
    "before": (lambda: ardm.huggingface(StandIn(), 4, 3, before=[99]), r"before: token ids lie in 0\.\.10"),
    "after": (lambda: ardm.huggingface(StandIn(), 4, 3, after=[None]), "after: token ids must be a whole number.*None"),
    "length": (
        lambda: ardm.huggingface(Short(), 4, 7, before=[1], after=[2]),
        "at most 8 tokens; length 7, with 2 around",
    ),
    "vocabulary": (lambda: ardm.huggingface(StandIn(), 4, 3, vocabulary="x"), "vocabulary must be a whole number"),
    "a name": (lambda: ardm.huggingface("bert-base-uncased", 4, 3), "masked_lm must be a network.*got a str"),
    "no head": (lambda: ardm.huggingface(Headless(), 4, 3), "returns no logits.*not AutoModel"),
    "sentences": (lambda: ardm.huggingface(Sentences(), 4, 3), r"must return logits of shape \(1, 4, vocabulary\)"),
}


@pytest.mark.parametrize("what", WRONG_LANGUAGE_MODELS)
def test_what_is_no_masked_language_model_is_told(what):
    make, message = WRONG_LANGUAGE_MODELS[what]
    with pytest.raises(ArdmError, match=message):
        make()


def test_a_network_that_fails_at_the_length_of_an_item_is_reported():
    class Positions(StandIn):
        def forward(self, input_ids, attention_mask):
            torch.zeros(5)[torch.arange(input_ids.shape[1])]
            return super().forward(input_ids, attention_mask)

    ardm.sample(ardm.huggingface(Positions(), 4, 5), 1)
    with pytest.raises(ArdmError, match=r"cannot be called.*IndexError"):
        ardm.sample(ardm.huggingface(Positions(), 4, 6), 1)


def causal_ones():
    transformers = pytest.importorskip("transformers")
    small = {"vocab_size": 11, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    yield transformers.GPT2LMHeadModel(transformers.GPT2Config(**small))
    yield transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=11, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
        )
    )
    bert = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    yield transformers.BertLMHeadModel(transformers.BertConfig(vocab_size=11, is_decoder=True, **bert))


def test_causal_language_models_are_refused():
    """They silently gave figures that are not likelihoods of any order; in training mode too."""
    torch.manual_seed(0)
    for network in causal_ones():
        network.train()
        with pytest.raises(ArdmError, match=r"is a causal language model.*to the left only.*AutoModelForMaskedLM"):
            ardm.huggingface(network, 4, 3)
        assert network.training
    masked = bert()
    masked.train()
    ardm.huggingface(masked, 4, 3)
    assert all(m.training for m in masked.modules())
    with pytest.raises(ArdmError, match=r"cannot be called as network\(input_ids"):
        ardm.huggingface(nn.Linear(2, 2), 4, 3, vocabulary=11)


@pytest.mark.parametrize("context", [None, torch.ones(25, 1)])
def test_a_network_may_write_into_what_it_is_given(context):
    """Written into the state itself, a step would find no site unknown, reveal nothing, and cost 0 bits."""
    torch.manual_seed(0)
    table = nn.Embedding(6, 5)

    def writes(value, depth, *context):
        value[depth == 0] = 5
        depth.fill_(7)
        for side in context:
            side.zero_()
        return table(value)

    messy = ardm.wrap(writes, (2,), 5)
    clean = ardm.wrap(lambda value, depth, *context: table(torch.where(depth > 0, value, 5)), (2,), 5)
    x, given = all_data(5, (2,)), None if context is None else context.clone()
    for order in ("confident", "random", "raster"):
        one, two = (ardm.score(m, x, calls=2, order=order, context=given).nats for m in (messy, clean))
        assert torch.equal(one, two)
        assert float(one.neg().exp().sum()) == pytest.approx(1, 1e-5)
        one, two = (ardm.sample(m, 25, order=order, context=given) for m in (messy, clean))
        assert torch.equal(one, two)
    one, two = (bound_step(m, x, draw(25, 1, (2,), generator(1)), context=given).nats for m in (messy, clean))
    assert torch.equal(one, two)
    assert context is None or torch.equal(given, context)
