"""The adapter for the lm-evaluation-harness, against a stand-in for its base class and against `likelihood.exact`."""

import abc
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

import ardm
from ardm import likelihood
from ardm.audit.harness import Requests, harness
from ardm.plan import GIVEN, NEVER
from toys import randomise

LETTERS = "abc"
D = 6


class Base(abc.ABC):
    """What lm_eval.api.model.LM asks of a subclass."""

    def __init__(self):
        self._rank, self._world_size = 0, 1

    @abc.abstractmethod
    def loglikelihood(self, requests): ...

    @abc.abstractmethod
    def loglikelihood_rolling(self, requests): ...

    @abc.abstractmethod
    def generate_until(self, requests): ...


def model():
    net = randomise(torch.nn.Linear(2 * D, 3 * D), 4, 3.0)
    return ardm.wrap(lambda v, d: net(torch.cat([v, d], 1).double()).view(-1, D, 3), (D,), 3)


def encode(text):
    return [LETTERS.index(c) for c in text]


def decode(ids):
    return "".join(LETTERS[i] for i in ids)


@pytest.fixture
def lm(monkeypatch):
    module = ModuleType("lm_eval.api.model")
    module.LM = Base
    for name in ("lm_eval", "lm_eval.api"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return harness(model(), encode, decode)


def ask(*args):
    return SimpleNamespace(args=args)


def exact(context, text):
    """By the plan: the context given, the text from left to right, the rest never."""
    n, c = len(text), len(context)
    when = torch.tensor([GIVEN] * c + list(range(n)) + [NEVER] * (D - c - n))[None, None]
    x = torch.tensor(encode(context + text) + [0] * (D - c - n))[None]
    return -float(likelihood.exact(model(), ardm.Plan(when), x).nats)


def test_it_is_what_the_harness_takes(lm):
    assert isinstance(lm, Base)
    assert lm._world_size == 1


@pytest.mark.parametrize(("context", "text"), [("", "ab"), ("ca", "b"), ("abc", "cab"), ("", "abcabc")])
def test_log_likelihoods_are_exact(lm, context, text):
    ((found, greedy),) = lm.loglikelihood([ask(context, text)])
    assert found == pytest.approx(exact(context, text), abs=1e-9)
    (best,) = lm.generate_until([ask(context, {"until": [], "max_gen_toks": len(text)})])
    assert greedy == (best == text)


def test_greedy_continuations_are_called_greedy(lm):
    (best,) = lm.generate_until([ask("ab", {"max_gen_toks": 4})])
    assert len(best) == 4
    assert lm.loglikelihood([ask("ab", best)])[0][1]


def test_probabilities_of_all_continuations_sum_to_one(lm):
    every = [a + b for a in LETTERS for b in LETTERS]
    found = lm.loglikelihood([ask("bc", text) for text in every])
    assert sum(torch.tensor(v).exp() for v, _ in found) == pytest.approx(1)
    assert sum(g for _, g in found) == 1


def test_long_texts_are_scored_in_windows(lm):
    text = "abccbaacbb"
    (found,) = lm.loglikelihood_rolling([ask(text)])
    parts = [exact(text[max(0, a - 3) : a], text[a : a + 3]) for a in range(0, len(text), 3)]
    last = exact(text[4:9], text[9:])  # the last window has room for more context
    assert found == pytest.approx(sum(parts[:-1]) + last, abs=1e-9)
    assert lm.loglikelihood_rolling([ask("")]) == [0.0]
    long = lm.loglikelihood([ask("abcabcabc", "ab")])[0][0]
    assert long == pytest.approx(exact("cabc", "ab"), abs=1e-9)


def test_generation_stops(lm):
    (free,) = lm.generate_until([ask("ab", {"max_gen_toks": 9})])
    (cut,) = lm.generate_until([ask("ab", {"until": [free[2]], "max_gen_toks": 9})])
    assert cut == free[: free.index(free[2])]


def test_what_cannot_be_asked():
    with pytest.raises(ardm.ArdmError, match="not installed"):
        harness(model(), encode, decode)
    with pytest.raises(ardm.ArdmError, match="encode"):
        Requests(model(), encode)
    with pytest.raises(ardm.ArdmError, match="whole tokens"):
        Requests(ardm.wrap(lambda v, d: torch.zeros(*v.shape, 4), (4,), 4, base=2), encode, decode)


def test_bundles_of_text_say_what_their_bytes_are():
    config = ardm.ModelConfig(shape=(4,), classes=27, trunk="transformer", width=8, blocks=1, heads=1)
    bundle = ardm.Bundle(ardm.build(config), config, card={"recipe": {"data": {"alphabet": "27"}}})
    asked = Requests(bundle)
    assert asked.loglikelihood([ask("a", "b c")])[0][0] < 0
    with pytest.raises(ardm.ArdmError, match="27 letters"):
        asked.loglikelihood([ask("A", "b")])
