"""Recurrent networks of text, lattices of sounds, perceptrons of tables in integers: close to floats, the same everywhere, no leaks."""

import dataclasses

import numpy as np
import pytest
import torch

from ardm.bundle import Bundle
from ardm.digits import Digits, Sites
from ardm.errors import ArdmError
from ardm.exact.ask import Ask, AskedSites
from ardm.exact.backend import Backend
from ardm.exact.model import NAME, fingerprint
from ardm.exact.model import load as load_codec
from ardm.exact.program import Program
from ardm.exact.reference import Reference
from ardm.export.calibrate import Examples
from ardm.export.coding import coding, random_ranks
from ardm.export.convert import export, unsupported
from ardm.export.table import table
from ardm.models.build import build
from ardm.models.config import ModelConfig
from bundles import by_formula
from exactly import ask, same
from linemodels import SCHEMA, SIZES, bundle, codec, coder, exported, items
from toys import generator, toy

FAST = [name for name in SIZES if SIZES[name]["classes"] <= 256 and SIZES[name]["trunk"] != "lattice"]
"""`test_lattice` has more about the others."""
ANY = [name for name in FAST if "causal" not in SIZES[name]]
"""What can be asked about any site."""


def states(name, count=6, seed=3):
    """Items of which some sites are known: items, depth, (count, 1, 1, D) each."""
    x = items(name, count, 12, seed).numpy()[:, None, None]
    depth = (np.random.default_rng(seed).random(x.shape) < np.linspace(0, 1, count)[:, None, None, None]).astype(int)
    depth[:, ..., -1] = 0
    return x, depth


def distribution(rows, K):
    """(N, K): the probabilities of all values, over all stages."""
    p, first = np.ones((_count(rows), 1)), 0
    for stage, radix in enumerate(rows.radices):
        p = np.stack([p[:, d, None] * rows.table(stage, np.full(len(p), d)) / 2**24 for d in range(p.shape[1])], 1)
        p, first = p.reshape(len(p), -1), first * radix
    assert np.allclose(p.sum(1), 1)
    return p[:, :K]


def _count(rows):
    return len(rows.weight if hasattr(rows, "weight") else rows.logits)


# --- how close it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_it_costs_little(name):
    cost = exported(name).cost
    assert abs(cost.bits_per_dim) < 0.015, cost


@pytest.mark.parametrize("name", ANY)
def test_distributions_are_those_of_the_floats(name):
    """The mean Kullback-Leibler divergence, which is not less than 0, whatever is known."""
    model, K = bundle(name).model, SIZES[name]["classes"]
    x, depth = states(name)
    asked = np.nonzero(depth == 0)
    view = model.digits.truncate(torch.from_numpy(x), torch.from_numpy(depth))
    p = model(view)[Sites.where(view.depth == 0)].double().softmax(1).numpy()
    kl = {}
    for bits in (6, 12):
        program = exported(name, precision=(bits, bits)).codec.program
        q = distribution(ask(Reference(program), x * depth, depth, AskedSites(*asked)), K)
        assert (q[p == 0] == 0).all()
        kl[bits] = (np.where(p > 0, p * np.log2(np.maximum(p, 1e-300) / np.where(p > 0, q, 1)), 0)).sum(1).mean()
    assert 0 <= kl[12] < 0.0006, kl
    assert kl[12] < kl[6] + 1e-4 < 0.1, kl


# --- the same everywhere ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_every_container_and_batch_gives_the_same(name):
    program = codec(name).program
    x, depth = states(name)
    sites = AskedSites(*np.nonzero(depth == 0))
    every = same(program, x * depth, depth, sites)
    assert (every[0].sum(1) == 1 << 24).all()
    one = ask(Backend(program), x[1:2] * depth[1:2], depth[1:2], AskedSites(*np.nonzero(depth[1:2] == 0)))
    assert np.array_equal(one.table(0, np.zeros(_count(one), dtype=np.int64)), every[0][sites.batch_index == 1])


@pytest.mark.parametrize("name", SIZES)
def test_extremes_are_the_same_in_every_container(name):
    """All at the lowest, all at the highest, and both in turn: what the certificate has to bear."""
    program, W = codec(name).program, 9
    high = np.array([n - 1 for n in SIZES[name].get("columns", (SIZES[name]["classes"],) * W)])
    x = np.stack([0 * high, high, high * (np.arange(len(high)) % 2)])[:, None, None]
    for hidden in (0, len(high) // 2, len(high) - 1):
        depth = np.ones_like(x)
        depth[..., hidden] = 0
        same(program, x * depth, depth, AskedSites(*np.nonzero(depth == 0)))


@pytest.mark.parametrize("name", ["text", "8 bits", "table"])
def test_saved_and_loaded(name, tmp_path):
    model = codec(name)
    model.save(tmp_path / NAME)
    again = load_codec(tmp_path)
    assert (again.identity, again.golden, again.alphabet, again.schema) == (
        model.identity, model.golden, model.alphabet, model.schema,
    )  # fmt: skip
    assert fingerprint(again, Backend(again.program)) == model.golden


def test_the_alphabet_and_the_schema_belong_to_the_identity():
    text, tables = codec("text"), codec("table")
    assert text.kind == "text"
    assert text.alphabet == b" abcdefghijklmnopqrstuvwxyz"
    swapped = dataclasses.replace(text, alphabet=text.alphabet[::-1])
    assert len({text.identity, swapped.identity, dataclasses.replace(text, alphabet=b"").identity}) == 3
    assert tables.kind == "table"
    assert tables.schema == SCHEMA
    other = dataclasses.replace(SCHEMA, delimiter=";")
    assert dataclasses.replace(tables, schema=other).identity != tables.identity
    assert codec("bytes").alphabet == b""
    assert codec("sound").kind == "audio"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("text", {"alphabet": b"abc"}, "3 letters for 27 values"),
        ("text", {"alphabet": b"a" * 27}, "1 letters"),
        ("table", {"alphabet": b"abcde"}, "alphabet"),
        ("text", {"schema": SCHEMA}, "schema"),
        ("binary", {"schema": SCHEMA}, "columns of 5 values"),
        ("classic", {"schema": SCHEMA}, "other columns"),
        ("table", {"kind": "poem"}, "invalid orders"),
    ],
)
def test_alphabets_and_schemas_that_do_not_fit(name, changes, message):
    with pytest.raises(ArdmError, match=message):
        dataclasses.replace(codec(name), **changes)


@pytest.mark.parametrize("letters", [99999999999, "abc", {"a": 1}, [300], [-1], [1.5], None])
def test_a_file_with_an_alphabet_that_is_none(letters, tmp_path, monkeypatch):
    model = codec("text")
    content = {**model._content, "alphabet": letters}
    monkeypatch.setattr(type(model), "_content", property(lambda self: content))
    model.save(tmp_path / NAME)
    with pytest.raises(ArdmError, match="not a readable codec model"):
        load_codec(tmp_path)


@pytest.mark.parametrize("schema", [5, [], {"names": ["a"]}, {"names": ["a"], "categories": [["x", "x"]]}, "x"])
def test_a_file_with_a_schema_that_is_none(schema, tmp_path, monkeypatch):
    model = codec("table")
    content = {**model._content, "schema": schema}
    monkeypatch.setattr(type(model), "_content", property(lambda self: content))
    model.save(tmp_path / NAME)
    with pytest.raises(ArdmError):
        load_codec(tmp_path)


# --- leaks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in SIZES if "causal" not in SIZES[n]])
def test_what_is_hidden_changes_nothing_and_what_is_known_does(name):
    """As long as the revealed digits of two items are equal, so are their symbols."""
    made, x, y = coder(name), items(name, 1, 16, 5).numpy(), items(name, 1, 16, 6).numpy()
    when = made.model.order(made.calls, 1, x.shape[1]).when[0, 0, 0]
    walker = made.walker((1, 1, x.shape[1]), 1, (1, x.shape[1]))
    tables = {}
    for step in range(made.calls):
        mixed = np.where(when < step, x[0], y[0])
        for key, item in (("x", x[0]), ("mixed", mixed)):
            depth = (when < step).astype(int)[None, None, None]
            asked = AskedSites(*np.nonzero((when == step)[None, None, None]))
            rows = made._run(Ask(item * depth, depth, asked))
            tables[key] = rows.table(0, np.zeros(_count(rows), dtype=np.int64))
        assert np.array_equal(tables["x"], tables["mixed"])
        told = [(when == s).sum() * len(rows.radices) for s in range(step)]
        (one,), (two,) = (walker.encode(item[None, None, None]) for item in (x[0], mixed))
        for a, b in zip(one, two, strict=True):
            assert np.array_equal(a[: sum(told)], b[: sum(told)])
    (one,), (two,) = (walker.encode(item[None, None]) for item in (x, y))
    assert not np.array_equal(one[1][-1:], two[1][-1:]) or not np.array_equal(one[1], two[1])


def test_impossible_values_of_a_column_have_no_frequency():
    """Of every column, whatever is known; and beyond the last column."""
    program, limits = codec("table").program, SCHEMA.columns
    x, depth = states("table", 16)
    depth = depth * (np.arange(16)[:, None, None, None] % 3 > 0)
    sites = AskedSites(*np.nonzero(depth == 0))
    (found,) = same(program, x * depth, depth, sites)
    allowed = np.arange(program.classes) < np.array(limits)[sites.x][:, None]
    assert ((found > 0) == allowed).all()
    assert (found[sites.x == 3, 0] == 1 << 24).all(), "the only value of a column costs nothing"


# --- what can be exported ---------------------------------------------------------------------------------------------


def test_orders_that_are_coded_along():
    assert not coding(bundle("text")).cells, "from left to right, a step for each letter"
    made = codec("table")
    assert (made.budgets, made.default) == ((1, 2, 4), 4)
    row = random_ranks((4,), 1)[0].tolist()
    assert made.order(4, 1, 9).when[0, 0, 0].tolist() == [*row, *row, row[0]]
    assert made.order(1, 1, 4).when.max() == 0
    with pytest.raises(ArdmError, match="codes in 1, 2, 4 network calls, not in 3"):
        made.order(3, 1, 4)


@pytest.mark.parametrize("changes", [{"labels": 3}, {"time": True}], ids=str)
def test_tables_that_cannot_be_exported(changes):
    config = ModelConfig(**{"shape": (3,), "classes": 4, "trunk": "mlp", "head": "values", "width": 8, "blocks": 1, **changes})  # fmt: skip
    one = Bundle(by_formula(build(config)), config)
    with pytest.raises(ArdmError, match="cannot be exported"):
        export(one, torch.zeros(4, 3).long())


def test_other_networks_are_no_tables():
    model = toy(Digits(4, 4), (1, 2, 2))
    model.body.trunk = torch.nn.Identity()
    model.head.limits = torch.tensor([4])
    with pytest.raises(ArdmError, match="a Table is needed"):
        table(model, Examples(torch.zeros(4, 1, 1, 4).long()))
    assert unsupported(bundle("text")) == unsupported(bundle("sound")) == unsupported(bundle("table")) == []


@pytest.mark.parametrize("name", ["text", "sound"])
def test_items_of_any_length(name):
    """Of one site, and longer than any that was trained on."""
    made = coder(name)
    for length in (1, 2, 7, 200):
        x = items(name, 1, length, 8).numpy()
        walker = made.walker((1, 1, length), 1, (1, length))
        (pieces,) = walker.encode(x[None, None])
        assert len(pieces[0]) == length * len(made._run(_blank(length)).radices)


def _blank(length):
    none = np.zeros((1, 1, 1, length), dtype=np.int64)
    return Ask(none, none, AskedSites(*[np.zeros(1, dtype=np.int64)] * 4))


def test_programs_are_read_back_as_they_were():
    for name in FAST:
        program = codec(name).program
        again = Program.parse(program.plain(), program.tensors)
        assert again == program
        assert generator() is not None
