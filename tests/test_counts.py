"""Counts of training texts: what they hold, that a text is left out of its own, and that integers say the same."""

import functools
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

import ardm
from ardm.ans import TOTAL
from ardm.bundle import Bundle
from ardm.codec.walk import Walker
from ardm.data import cuts
from ardm.errors import ArdmError
from ardm.exact.backend import Backend
from ardm.exact.native.runner import NativeRunner
from ardm.exact.order import Order
from ardm.exact.reference import Reference
from ardm.export.convert import export
from ardm.export.precision import Precision
from ardm.models.build import build
from ardm.models.config import ModelConfig
from ardm.nets.counts import LEVELS, Counts, level, ranked
from ardm.orders import OrderConfig
from bundles import by_formula
from waves import need_library

compiled = pytest.fixture(scope="module")(need_library)

WORDS = [b"the cat sat", b"the cat ate", b"the dog sat on the mat", b"the dogs", b"a cat sat on the mat", b"on the"]
ORDERS = (1, 2, 4)
TINY = {"trunk": "recurrent", "head": "values", "causal": "wave", "width": 10, "hidden": 7, "blocks": 2, "embedding": 3,
        "hashes": (1, 3), "bits": 4, "row": 2, "counts": ORDERS, "count_bits": 8}  # fmt: skip


def counted(texts, of=None, bits=16):
    """Counts of texts, each a row."""
    data = cuts.texts(texts, "words")
    counts = Counts(256, ORDERS, bits)
    symbols = (data.items.long() + 1).masked_fill(data.given != 0, 0)
    counts.learn(symbols, data.given == 0, torch.arange(len(texts)) if of is None else torch.tensor(of), ORDERS[-1])
    return counts


def near_of(text):
    """(T, 1, back) and (T, 1) of a text."""
    symbols = torch.tensor([0] * ORDERS[-1] + [1 + b for b in text])
    near = symbols.unfold(0, ORDERS[-1], 1)[:-1].flip(-1)
    return near[:, None], symbols[ORDERS[-1] :, None]


def followers(texts):
    """By order and context: how many texts went on with each symbol."""
    votes = defaultdict(lambda: defaultdict(set))
    for number, text in enumerate(texts):
        padded = [0] * ORDERS[-1] + [1 + b for b in text]
        for at in range(ORDERS[-1], len(padded)):
            for n in ORDERS:
                votes[n, tuple(padded[at - n : at])][padded[at]].add(number)
    return {key: {symbol: len(of) for symbol, of in found.items()} for key, found in votes.items()}


def by_definition(texts, text):
    """What the counts of some texts expect at each place of another."""
    found, rows = followers(texts), []
    padded = [0] * ORDERS[-1] + [1 + b for b in text]
    for at in range(ORDERS[-1], len(padded)):
        row = []
        for n in ORDERS:
            votes = found.get((n, tuple(padded[at - n : at])), {})
            best = min(votes, key=lambda symbol: (-votes[symbol], symbol), default=0)
            every = sum(votes.values())
            row.append((best, int(level(torch.tensor(votes.get(best, 0)), torch.tensor(every)))))
        rows.append(row)
    return rows


@pytest.mark.parametrize("text", [*WORDS, b"the catalogue", b"zzz"])
def test_counts_are_those_of_the_definition(text):
    symbol, found = counted(WORDS).expected(near_of(text)[0])
    got = torch.stack([symbol * (found > 0), found], -1)[:, 0].tolist()
    assert [[tuple(pair) for pair in row] for row in got] == by_definition(WORDS, text)


@pytest.mark.parametrize("number", range(len(WORDS)))
def test_a_training_text_is_left_out_of_its_own_counts(number):
    """As if the other texts alone had been counted, wherever it goes on as one of the two symbols that are kept."""
    near, target = near_of(WORDS[number])
    others = [text for n, text in enumerate(WORDS) if n != number]
    symbol, found = counted(WORDS).expected(near, target)
    wanted = by_definition(others, WORDS[number])
    got = torch.stack([symbol * (found > 0), found], -1)[:, 0].tolist()
    votes = followers(WORDS)
    padded = [0] * ORDERS[-1] + [1 + b for b in WORDS[number]]
    compared = 0
    for t, (mine, other) in enumerate(zip(got, wanted, strict=True)):
        for n, pair, want in zip(ORDERS, mine, other, strict=True):
            context = padded[ORDERS[-1] + t - n : ORDERS[-1] + t]
            own = WORDS[number]
            again = [a for a in range(ORDERS[-1], len(padded)) if padded[a - n : a] == context]
            if len(votes[n, tuple(context)]) < 3 and len({padded[a] for a in again}) == 1:
                assert tuple(pair) == want, (own, t, n)
                compared += 1
    assert compared > len(WORDS[number])


def test_near_duplicates_are_one_text():
    assert counted([b"one", b"one", b"one"], [0, 0, 0]).seen[..., 3].max() == 1
    assert counted([b"one", b"one", b"one"]).seen[..., 3].max() == 3
    data = cuts.texts([b"number 17, a", b"number 18, a", b"another text", b"x" * 70], "n")
    assert data.texts.tolist() == [0, 0, 1, 2, 2]
    assert data.subset([4, 0]).texts.tolist() == [2, 0]
    logs = cuts.texts([b"key %d" % n for n in range(9)], "logs")
    assert len(set(logs.texts.tolist())) == 9, "texts that differ in nothing but numbers"


def test_a_full_table_keeps_the_contexts_of_most_texts():
    many = [bytes([a, b]) for a in range(97, 123) for b in range(97, 123)] + [b"zq"] * 9
    small, large = counted(many, bits=3), counted(many, bits=14)
    assert (small.seen[2, :, 5] > 0).sum() <= 8
    assert small.seen[2, :, 5].max() == large.seen[2, :, 5].max()
    at = near_of(b"zq")[0]
    assert small.expected(at)[0][0, 0, 0] == large.expected(at)[0][0, 0, 0]


def test_levels_grow_with_texts_and_shrink_with_doubt():
    every = torch.tensor([1, 2, 4, 64, 1000])
    sure = level(every, every)
    assert (sure.diff() >= 0).all()
    assert int(sure.min()) > 0
    assert int(sure.max()) < LEVELS
    assert level(torch.tensor(0), torch.tensor(5)) == 0
    doubted = level(torch.tensor([64, 64, 64]), torch.tensor([64, 70, 200]))
    assert (doubted.diff() > 0).all(), "another level for another share"
    assert ranked(torch.tensor([[3, 0, 0], [3, 4, 0]])).tolist() == [[3, 0, 0], [3 + LEVELS, 4, 0]]


# --- in a model -----------------------------------------------------------------------------------------------------------


@functools.cache
def model(scale=0.5):
    made = by_formula(build(ModelConfig(shape=(24,), classes=256, **TINY)), scale).eval()
    with torch.no_grad():
        made.body.trunk.counts.trust.copy_(torch.linspace(0.01, 0.1, LEVELS * 2).repeat(len(ORDERS), 1))
    data = cuts.texts(WORDS, "words")
    made.body.count(data.items, data.given, data.texts)
    return made


@functools.cache
def exported():
    made = Bundle(model(), ModelConfig(shape=(24,), classes=256, **TINY), OrderConfig(), card={"name": "counted"})
    return export(made, items(), Precision(8, 11))


def items():
    texts = [text[:24].ljust(24, b".") for text in WORDS]
    return torch.tensor([list(text) for text in texts])


def test_a_new_model_expects_what_it_has_counted():
    fresh = build(ModelConfig(shape=(24,), classes=256, **TINY)).eval()
    blank = fresh.log_probs(items())
    data = cuts.texts(WORDS, "words")
    fresh.body.count(data.items, data.given, data.texts)
    assert fresh.nats(items()).mean() < -blank.exp().log().amin() * 0.7
    place = b"the dog sat on the mat".index(b"n the")
    assert fresh.log_probs(items())[2, place].argmax() == ord("n")


def test_training_leaves_the_text_out():
    here = model().nats(items())
    try:
        away = model().train().nats(items())
    finally:
        model().eval()
    assert not torch.allclose(here, away)
    assert torch.allclose(model().nats(items()), here)


RUNNERS = {
    "float32": lambda program: Backend(program, "float32"),
    "int64": lambda program: Backend(program, "int64"),
    "native": NativeRunner,
    "plain": lambda program: NativeRunner(program, True),
}


def test_integers_say_what_floats_say():
    assert abs(exported().cost.bits_per_dim) < 0.01
    program = exported().codec.program
    _, width = intervals(Reference(program), items().numpy()[:, None, None])[2]
    assert np.abs(np.log(width / TOTAL) + model().nats(items())[2].numpy()).max() < 0.1


@pytest.mark.parametrize("name", RUNNERS)
def test_every_runner_has_the_integers_of_the_reference(name, compiled):
    program = exported().codec.program
    texts = items().numpy()[:, None, None]
    for given in (texts, texts[:1, ..., :3], np.roll(texts, 5)):
        for a, b in zip(intervals(RUNNERS[name](program), given), intervals(Reference(program), given), strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def intervals(run, texts):
    return Walker(Order.wave(texts.shape[1:], 1, run.program.base), run, run.memory, run.sweep).encode(texts)


def test_texts_come_back(compiled):
    codec = ardm.Codec(replace(exported().codec, kind="text"))
    many = [*WORDS, b"", b"the cat sat on \x00 and \xff", b"t"]
    files = codec.encode_many(many)
    assert codec.decode_many(files) == many
    assert files == [codec.encode(text) for text in many]


def test_fit_counts_lines_and_resumes_with_what_it_counted(tmp_path):
    lines = [f'{{"user": "{WORDS[n % 6].decode()}", "n": {n}}}' for n in range(80)]
    settings = {"codec": True, "kind": "text", "width": 8, "hidden": 8, "progress": False, "batch": 8, "valid_every": 2}
    found = ardm.fit(lines, steps=2, folder=tmp_path / "run", **settings)
    seen = found.model.body.trunk.counts.seen
    assert found.config.counts
    assert (seen > 0).any()
    more = ardm.fit(lines, steps=4, folder=tmp_path / "run", **settings)
    assert torch.equal(more.model.body.trunk.counts.seen, seen)
    codec = ardm.Codec(more, bare=True)
    assert codec.decode(codec.encode(lines[3].encode())) == lines[3].encode()
    with pytest.raises(ArdmError, match=r"model\.counts"):
        ardm.fit(lines, steps=1, counts=(5, 3), **settings)


def test_of_much_text_evenly_spread_items_are_taken(monkeypatch):
    monkeypatch.setattr(cuts, "MOST", 100)
    data = cuts.texts([b"%04d text" % n for n in range(50)], "many")
    assert 5 <= len(data) <= 12
    assert bytes(data.items[-1].tolist())[:4] > b"0040"


def test_texts_are_counted_alike_however_many_are_hashed_at_once(monkeypatch):
    whole = counted(WORDS).seen
    monkeypatch.setattr("ardm.nets.counts.TOGETHER", 2)
    assert torch.equal(counted(WORDS).seen, whole)
