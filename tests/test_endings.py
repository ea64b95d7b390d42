"""Texts with an end: a distribution over texts of all lengths in every order, what is counted, and the symbols they are written in."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

import ardm
from ardm import api, data, likelihood, objective
from ardm import plan as plans
from ardm.adaptive import Adaptive, FixedNumber
from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.export.convert import unsupported
from ardm.models.build import build
from ardm.models.config import preset
from ardm.models.ending import EndingModel, behind_end, closed
from ardm.orders import OrderConfig
from ardm.plan import shuffled
from ardm.random_numbers import RandomNumbers
from ardm.symbols import BYTES, LETTERS, Characters, Letters, Tokens, of_values
from ardm.train import objectives
from ardm.train.recipe import TrainConfig
from ardm.walk import generate, last, score
from test_objective import mean_exact
from toys import HEADS, WIDTH, Body, all_data, generator, randomise

D, K = 4, 3
END = K - 1


def model_of(seed=0):
    digits = Digits(K, K)
    return randomise(EndingModel(digits, (D,), Body(digits, (D,)), HEADS["values"](digits, WIDTH)), seed, 1.0)


def texts():
    """All items that are the texts of at most D symbols: 1 + 2 + 4 + 8 + 16."""
    x = all_data(K, (D,))
    return x[(closed(x, END) == x).all(1)]


MODEL = model_of()
ORDERS = {
    "every order": lambda: [plans.ranked(torch.tensor(r), (D,)) for r in itertools.permutations(range(D))],
    "adaptive": lambda: [Adaptive(s, FixedNumber(1)) for s in ("entropy", "margin", "probability")],
    "blocks": lambda: [Adaptive("entropy", FixedNumber(1), 2), plans.blocks(1, (D,), 2, generator(0))],
}


@pytest.mark.parametrize("kind", ORDERS)
def test_the_probabilities_of_all_texts_sum_to_one(kind):
    assert len(texts()) == sum(2**n for n in range(D + 1))
    for plan in ORDERS[kind]():
        assert float(score(MODEL, plan, texts()).neg().exp().sum()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("starts", [[0], [0, 1], [0, 2, 3]])
def test_steps_of_several_sites_promise_no_more(starts):
    for seed in range(20):
        plan = shuffled(1, (D,), generator(seed)).coarsen(starts)
        assert float(score(MODEL, plan, texts()).neg().exp().sum()) <= 1 + 1e-9
        assert float(score(MODEL, plan, all_data(K, (D,))).neg().exp().sum()) == pytest.approx(1, abs=1e-9)


def test_without_the_rules_it_would_be_no_distribution():
    """What the rules are for: sites behind the end that no one pays for, in orders that begin there."""
    digits, x, sums = Digits(K, K), texts(), []
    backwards = plans.ranked(torch.arange(D).flip(0), (D,)).given(torch.where(behind_end(x, END), -1, 0))
    for seed in range(20):
        free = randomise(ardm.Model(digits, (D,), Body(digits, (D,)), HEADS["values"](digits, WIDTH)), seed, 1.0)
        sums.append(float(likelihood.exact(free, backwards, x).nats.neg().exp().sum()))
    assert max(sums) > 1.1


def test_what_is_behind_a_known_end_is_certain_and_costs_nothing():
    x = torch.tensor([[0, END, END, END]])
    state = MODEL.digits.truncate(x, torch.tensor([[0, 1, 0, 0]]))
    logp = MODEL(state)[ardm.digits.Sites(torch.tensor([0, 2, 3]), D)].log_softmax(-1)
    assert logp[1:, END].tolist() == [0, 0]
    assert (logp[0] > -50).all()
    state = MODEL.digits.truncate(torch.tensor([[0, 1, 0, 1]]), torch.tensor([[0, 0, 0, 1]]))
    logp = MODEL(state)[ardm.digits.Sites(torch.tensor([0, 1, 2]), D)].log_softmax(-1)
    assert (logp[:, END] == -torch.inf).all(), "no end before a symbol"
    torch.testing.assert_close(logp[:, :END].exp().sum(1), torch.ones(3, dtype=torch.double))


def test_bounds_are_those_of_the_texts_and_count_their_symbols_and_end():
    x = texts()
    found = likelihood.bound(MODEL, x, 2000, generator(0), chunk=4000)
    assert ((found.nats - mean_exact(MODEL, x)).abs() <= 4.5 * found.error + 1e-9).all()
    lengths = (x != END).sum(1)
    assert torch.equal(found.counted, (lengths + 1).clamp(max=D))
    assert found.bits_per_dim == pytest.approx(float(found.nats.sum()) / int(found.counted.sum()) / math.log(2))
    for other in (
        ardm.score(MODEL_BUNDLE, x, calls=2),
        ardm.score(MODEL_BUNDLE, x, order=Adaptive("entropy", FixedNumber(1))),
    ):
        assert torch.equal(other.counted, found.counted)


CONFIG = preset("text-tiny", shape=(D,), classes=K, end=True)
MODEL_BUNDLE = ardm.Bundle(randomise(build(CONFIG), 0), CONFIG)


def test_a_causal_model_scores_in_one_pass_what_its_walk_costs():
    config = preset("text-tiny", shape=(D,), classes=K, end=True, causal="single")
    model = randomise(build(config), 0, 2.0)
    x = texts()
    nats = ardm.score(ardm.Bundle(model, config), x)
    torch.testing.assert_close(nats.nats, score(model, plans.raster(1, (D,)), x))
    assert float(nats.nats.neg().exp().sum()) == pytest.approx(1, abs=1e-9)
    assert torch.equal(nats.counted, ((x != END).sum(1) + 1).clamp(max=D))


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_samples_and_completions_end_once(calls):
    x = ardm.sample(MODEL_BUNDLE, 200, calls)
    assert torch.equal(x, closed(x, END))
    assert len({tuple(row) for row in x.tolist()}) > 4
    known = torch.tensor([True, False, False, True])
    begun = torch.tensor([[0, 0, 0, 1], [1, 0, 0, END]]).repeat(50, 1)
    done = ardm.fill(MODEL_BUNDLE, begun, known, calls)
    assert torch.equal(done[:, known], begun[:, known])
    assert (done[::2] != END).all(), "a known symbol at the last place: no end before it"
    assert torch.equal(done, closed(done, END))


@pytest.mark.parametrize("order", ["random", "raster", "confident"])
def test_an_item_costs_nothing_once_it_has_ended(order):
    """The same samples as of the whole walk, in fewer calls for the items."""
    seen = []
    hook = MODEL_BUNDLE.model.body.register_forward_hook(lambda module, given, out: seen.append(given[0].batch))
    numbers = RandomNumbers(5)
    made = api.make_plan(MODEL_BUNDLE, D, order, generator=numbers, batch=60)
    start = MODEL_BUNDLE.model.digits.blank(60, (D,))
    short = last(api.generate(MODEL_BUNDLE, made, start, numbers), start)
    few, seen[:] = sum(seen), []
    full = last(generate(MODEL_BUNDLE.model, made, start, numbers), start).value
    hook.remove()
    assert torch.equal(closed(short.value, END), full)
    assert torch.equal(short.depth == 0, behind_end(full, END) & (short.depth == 0)), "hidden behind the end alone"
    assert few < 0.9 * sum(seen) or (order == "confident" and few == sum(seen))  # what is certain comes first there


def test_samples_follow_the_probabilities():
    x, n = texts(), 20_000
    plan = plans.ranked(torch.tensor([2, 0, 3, 1]), (D,))
    p = score(MODEL_BUNDLE.model, plan, x).neg().exp()
    drawn = ardm.sample(MODEL_BUNDLE, n, order=plan)
    index = {tuple(row): i for i, row in enumerate(x.tolist())}
    counts = torch.bincount(torch.tensor([index[tuple(row)] for row in drawn.tolist()]), minlength=len(x))
    assert ((counts / n - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-4).all()


@pytest.mark.parametrize("causal", ["", "single"])
def test_the_values_of_padding_neither_end_a_text_nor_follow_one(causal):
    config = preset("text-tiny", shape=(D,), classes=K, end=True, causal=causal)
    bundle = ardm.Bundle(randomise(build(config), 0), config)
    lengths, ends = torch.tensor([2, 3]), torch.tensor([[0, END, END, END], [0, 1, 1, END]])
    other = torch.tensor([[0, END, 0, 1], [0, 1, 1, 0]])
    one, two = (ardm.score(bundle, x, padding=lengths) for x in (ends, other))
    assert torch.equal(one.nats, two.nats)
    assert one.counted.tolist() == two.counted.tolist() == [2, 3]
    if not causal:
        front = torch.tensor([[True, False, False, False]])
        x = torch.tensor([[END, 0, 1, END], [1, 0, 1, END]])
        for order, calls in ((None, None), ("raster", 3), (Adaptive("entropy", FixedNumber(1)), None)):
            found = ardm.score(bundle, x, calls, order, padding=front)
            assert found.counted.tolist() == [3, 3]
            assert order is None or float(found.nats.diff()) == pytest.approx(0, abs=1e-9)


def test_what_follows_an_end_is_refused():
    wrong = torch.tensor([[0, END, 1, END]])
    with pytest.raises(ArdmError, match=r"item 0 of x has the value 1 at 2, behind its end"):
        ardm.score(MODEL_BUNDLE, wrong)
    with pytest.raises(ArdmError, match=r"behind its end"):
        ardm.fit(wrong.repeat(9, 1), preset="text-tiny", end=True, classes=K, steps=1, progress=False, device="cpu")
    with pytest.raises(ArdmError, match=r"behind its end"):
        ardm.fill(MODEL_BUNDLE, wrong, torch.tensor([False, True, True, False]))
    assert ardm.fill(MODEL_BUNDLE, wrong, torch.tensor([True, False, True, False]))[0, 1] != END
    for other in ({"base": 2}, {"causal": "any"}):
        with pytest.raises(ArdmError, match=r"ends items"):
            build(preset("text-tiny", shape=(4,), classes=4, end=True, **other))
    with pytest.raises(ArdmError, match=r"no setting end"):
        build(preset("audio-tiny", shape=(4,), classes=4, end=True))


def test_the_gradient_is_finite_where_things_are_impossible():
    network = build(CONFIG)
    steps = objective.Steps(torch.zeros(31, dtype=torch.long), torch.arange(31) % D, torch.arange(D).expand(31, D), 1)
    objective.bound_step(network, texts(), steps).nats.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


# --- symbols ----------------------------------------------------------------------------------------------------------

WORDS = "ein Bär, zwei Bären\nund 三 drei\n"


def tokenizer(lossy=False):
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    if lossy:
        made.normalizer = tokenizers.normalizers.Lowercase()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([WORDS * 3, "the cat sat on the mat " * 9], trainer)
    return made.to_str()


def kinds(end=False):
    return {
        "bytes": lambda: Letters(end),
        "27": lambda: Letters(end, LETTERS),
        "characters": lambda: Characters.of(WORDS.encode(), end),
        "tokens": lambda: Tokens(end, tokenizer=tokenizer()),
        "learnt": lambda: Tokens.of(WORDS.encode() * 2, end),
    }


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("kind", kinds())
def test_symbols_are_lossless(kind, end):
    symbols = kinds(end)[kind]()
    many = ["", "a", "the cat sat", "ein Bär", "€ unknown ∑", "\x00\n", WORDS]
    for text in many if kind != "27" else ["", "a", "the cat sat"]:
        values, sizes = symbols.encode(text.encode())
        assert symbols.decode(values) == text.encode()
        assert sizes.sum() == len(text.encode())
        assert len(values) == len(sizes)
        assert not len(values) or 0 <= values.min() <= values.max() < symbols.classes - end
        if end:
            assert symbols.decode([*values, symbols.classes - 1, 0, 0]) == text.encode()
            assert symbols.text(symbols.item(text, 64)) == text
    again = of_values(json.loads(json.dumps(symbols.to_values())), symbols.tokenizer)
    assert (again, again.classes) == (symbols, symbols.classes)
    with pytest.raises(ArdmError, match=r"lie in 0\.\."):
        symbols.decode([symbols.classes])


def test_characters_write_anything_else_in_bytes():
    symbols = Characters.of("aäa".encode())
    assert (symbols.characters, symbols.classes) == ("aä", 258)
    assert symbols.encode("bä".encode())[0].tolist() == [2 + ord("b"), 1]
    raw = bytes(range(256))
    values, sizes = symbols.encode(raw)
    assert symbols.decode(values) == raw
    assert sizes.tolist() == [1] * 256
    assert symbols.text([1, 2 + 0xC3]) == "ä", "a character that is cut off at the end is left out"


def test_a_tokenizer_that_loses_something_is_refused():
    with pytest.raises(ArdmError, match=r"a\.txt: the tokenizer does not keep it: character 0 .* byte-level"):
        Tokens(tokenizer=tokenizer(lossy=True)).encode(b"The cat", "a.txt")
    with pytest.raises(ArdmError, match=r"not a tokenizer\.json"):
        Tokens(tokenizer="{}")
    with pytest.raises(ArdmError, match=r"not UTF-8"):
        Tokens(tokenizer=tokenizer()).encode(b"\xff")
    with pytest.raises(ArdmError, match=r"not the tokenizer of the model"):
        of_values(Tokens(tokenizer=tokenizer()).to_values(), tokenizer(lossy=True))


def test_tokens_are_the_words_of_the_training_text():
    pytest.importorskip("tokenizers")
    symbols = Tokens.of(b"the cat sat on the mat, the cat")
    assert symbols == Tokens.of(b"the cat sat on the mat, the cat")
    assert [symbols.decode([v]) for v in symbols.encode(b" the cat")[0]] == [b" the", b" cat"]
    assert symbols.encode(b" mat")[0].size > 1, "what occurs once is no token"
    with pytest.raises(ArdmError, match=r"the training text is not UTF-8: byte 255 at position 1; use alphabet=bytes"):
        Tokens.of(b"a\xff")


def test_bytes_are_counted_once_where_a_character_is_several_tokens():
    symbols = Tokens(tokenizer=tokenizer())
    values, sizes = symbols.encode("a€b".encode())
    assert (len(values), sizes.sum()) == (5, 5)
    assert sizes.tolist() == [1, 3, 0, 0, 1]


# --- data ---------------------------------------------------------------------------------------------------------------


def lines(number=200, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(["bär", "cat", "dog"][n] for n in rng.integers(3, size=rng.integers(0, 4))) for _ in range(number)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus.txt").write_text("\n".join(lines()) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(tokenizer(), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("alphabet", ["bytes", "characters", "tokens", "tokenizer.json"])
def test_every_line_is_a_text_with_an_end(folder, alphabet):
    alphabet = str(folder / alphabet) if alphabet.endswith("json") else alphabet
    parts = [
        data.text(folder / "corpus.txt", split, 8, alphabet=alphabet, each="line")
        for split in ("train", "valid", "test")
    ]
    symbols, found = parts[0].symbols, []
    for part in parts:
        assert part.symbols == symbols
        begun = []
        for row in part.items.tolist():
            begun += row  # a token may be cut off from the others of its character
            if row[-1] == symbols.classes - 1:
                found.append(symbols.decode(begun).decode())
                begun = []
        assert begun == [], "the last item of a text holds its end"
    assert found == lines(), "texts come back, cut or whole"
    size = sum(int(part.bytes.sum()) for part in parts)
    assert size == len((folder / "corpus.txt").read_bytes())


@pytest.mark.parametrize("alphabet", ["characters", "tokenizer.json"])
def test_windows_of_symbols(folder, alphabet):
    name = str(folder / alphabet) if alphabet.endswith("json") else alphabet
    every = data.text(folder / "corpus.txt", None, 8, alphabet=name)
    raw = (folder / "corpus.txt").read_bytes()
    whole = b"".join(every.symbols.decode(row.tolist()) for row in every.items) if alphabet == "characters" else None
    assert whole is None or raw.startswith(whole)
    assert int(every.bytes.sum()) == (len(whole) if whole is not None else int(every.bytes.sum()))
    assert len(raw) - 40 < int(every.bytes.sum()) <= len(raw)
    train = data.text(folder / "corpus.txt", "train", 8, 2, alphabet=name)
    assert len(train.bytes) == len(train) > 3 * len(every)
    assert "ä" in train.symbols.text(train.items[:40].flatten().tolist())


def test_files_are_texts(tmp_path):
    for n in range(60):
        (tmp_path / f"{n}.py").write_text(f"x = {n}\n" * (n % 3))
    parts = [data.text(tmp_path, s, 16, alphabet="bytes", suffixes=[".py"], each="file") for s in ("train", None)]
    assert len(parts[0]) < len(parts[1])
    assert parts[1].classes == 257
    found = [parts[1].symbols.text(row.tolist()) for row in parts[1].items]
    assert found.count("") == 20
    assert "x = 7\n" in found


def test_the_alphabet_is_that_of_the_training_split(tmp_path):
    (tmp_path / "train.txt").write_text("abc" * 20)
    (tmp_path / "valid.txt").write_text("abé" * 20)
    train, valid = (data.text(tmp_path, s, 4, alphabet="characters") for s in ("train", "valid"))
    assert train.symbols == valid.symbols == Characters(False, "abc")
    assert train.classes == 3 + 256
    assert valid.symbols.text(valid.items[0].tolist()).startswith("abé")


# --- training, loading, commands -----------------------------------------------------------------------------------------


SMALL = {"preset": "text-tiny", "steps": 40, "batch": 32, "rate": 1e-2, "progress": False, "device": "cpu"}


@pytest.mark.parametrize("alphabet", ["", "bytes", "tokens"])
def test_a_list_of_texts_trains_and_comes_back(tmp_path, alphabet):
    if alphabet == "tokens":
        (tmp_path / "t.json").write_text(tokenizer(), encoding="utf-8")
        alphabet = str(tmp_path / "t.json")
    model = ardm.fit(lines(), **SMALL, **({"alphabet": alphabet} if alphabet else {}))
    again = ardm.load(model.save(tmp_path / "model"))
    assert again.symbols == model.symbols
    assert again.symbols.unit == {"": "character", "bytes": "byte"}.get(alphabet, "token")
    assert (tmp_path / "model" / "tokenizer.json").is_file() == alphabet.endswith("json")
    x = again.encode(["cat dog", ""])
    assert again.decode(x) == ["cat dog", ""]
    found = ardm.score(again, x)
    assert found.counted.tolist() == [len(again.symbols.encode(b"cat dog")[0]) + 1, 1]
    drawn = again.decode(ardm.sample(again, 20, calls=8))
    assert all(isinstance(text, str) for text in drawn)
    with pytest.raises(ArdmError, match=r"at most"):
        again.encode("cat " * 50)
    assert "without an end" in unsupported(again)[0]
    mixed = ardm.score(again, again.encode(lines(20, 1)), calls=4)
    assert mixed.dims < 20 * x.shape[1]


def test_training_along_a_plan_ends_texts_too(tmp_path):
    x = lines(100)
    model = ardm.fit(x, **SMALL, order="raster", calls=[64])
    uniform = math.log2(model.symbols.classes)
    assert ardm.score(model, model.encode(x[:20])).bits_per_dim < 0.6 * uniform
    assert model.order.order == "raster"


@pytest.mark.parametrize("calls", [(D,), (D, 2)])
def test_training_from_left_to_right_draws_no_step_behind_an_end(calls):
    """Only where every level reveals site after site; the loss is the exact code length all the same."""
    made = objectives.AlongPlan(CONFIG, OrderConfig("raster", calls, cell=D), TrainConfig(first_level=1.0))
    x, model = texts(), MODEL_BUNDLE.model
    given = made.known(x, None)
    assert (given is None) == (len(calls) > 1)
    plan = made.plans[0]
    wanted = likelihood.exact(model, plan, x).nats
    for i in range(len(x)):
        own = plan.when if given is None else objective.without(plan.when, given[i : i + 1])
        steps = objective.live_steps(own, len(plan))[0].nonzero()[:, 0]
        assert given is None or len(steps) == min(int((x[i] != END).sum()) + 1, D)
        rows = len(steps)
        known = None if given is None else given[i].expand(rows, D)
        found = objective.plan_step(model, plan, x[i].expand(rows, D), steps, given=known)
        torch.testing.assert_close(found.nats.mean(), wanted[i])


def test_only_models_of_text_encode():
    with pytest.raises(ArdmError, match=r"does not say what text"):
        MODEL_BUNDLE.encode("a")
    assert Letters(False, BYTES).unit == "byte"
