"""The walk in integers is `ardm.walk.walk`: the same program, order and stream reveal the same symbols."""

import numpy as np
import pytest
import torch

from ardm import ans
from ardm.codec.walk import Walker
from ardm.digits import Digits
from ardm.exact.ask import Ask, AskedSites
from ardm.exact.frequencies import Softmax
from ardm.exact.reference import Reference
from ardm.plan import Plan
from ardm.source import Decode, Encode
from ardm.walk import last, walk
from bundles import coder
from linemodels import codec as line_model
from test_codec import MODELS

IMAGES = {name: coder(**MODELS[name]).model for name in MODELS}
LINES = {f"line of {name}": line_model(name) for name in ("text", "bytes", "sound", "table")}
EVERY = {**IMAGES, **LINES}


class Twin:
    """A model for `ardm.walk` that asks an integer network, and gives its frequencies as logits where they have them."""

    def __init__(self, program):
        self.digits, self.run = Digits(program.classes, program.base), Reference(program)

    def __call__(self, state, context=None):
        self.answer = Answer(self.run, state)
        return self.answer


class Answer:
    def __init__(self, run, state):
        self.run, self.value, self.depth = run, state.value.numpy(), state.depth.numpy()

    def rows(self, sites):
        position = np.unravel_index(sites.position.numpy(), self.value.shape[1:])
        return self.run(Ask(self.value, self.depth, AskedSites(sites.batch_index.numpy(), *position)))

    def __getitem__(self, sites):
        rows = self.rows(sites)
        if not isinstance(rows, Softmax):
            return torch.zeros(len(sites), rows.radices[0])  # `FromRows` asks for the rows themselves
        return torch.from_numpy(np.where(rows.possible, rows.logits / ans.GRID, -np.inf))


class FromRows:
    """`Decode` for frequencies that no logits on the grid have: mixtures, and values summed over blocks."""

    def __init__(self, twin, stream):
        self.twin, self.decoder = twin, ans.Decoder(stream)

    def __call__(self, prediction, sites, target):
        rows = self.twin.answer.rows(sites)
        symbols = np.zeros(len(sites), dtype=np.int64)
        for stage, radix in enumerate(rows.radices):
            symbols = symbols * radix + self.decoder.pop(rows.table(stage, symbols))
        return torch.from_numpy(symbols)

    def finish(self):
        return self.decoder.close()


def setup(name, calls=None):
    """A walker, its twin in `ardm.walk`, a plan, and an item of the model."""
    model = EVERY[name]
    size = model.size if max(model.size) else (1, 9) if name in LINES else (5, 4)
    order = model.order(calls or model.default, *size)
    twin = Twin(model.program)
    walker = Walker(order, twin.run, twin.run.memory)
    plan = Plan(torch.from_numpy(np.array(order.when))[None])
    item = walker.decode([ans.Decoder(b"\1" + np.random.default_rng(len(name)).bytes(4000))])
    return walker, twin, plan, item


def stream_of(walker, item, check=0x1234):
    encoder = ans.Encoder()
    for start, width in walker.encode(item):
        encoder.push(start, width)
    return encoder.finish(check)


def source_of(twin, stream):
    softmax = twin.run.program.ops[-1].name == "softmax" or (
        twin.run.program.ops[-1].name == "values" and twin.run.program.digits == 1
    )
    return Decode(stream) if softmax else FromRows(twin, stream)


@pytest.mark.parametrize("name", EVERY)
def test_both_walks_reveal_the_same_symbols_step_by_step(name):
    walker, twin, plan, item = setup(name)
    stream = stream_of(walker, item)
    source, blank = source_of(twin, stream), twin.digits.blank(1, item.shape[1:])
    value, depth = np.zeros_like(item), np.zeros_like(item)
    reveals = {reveal.step: reveal for reveal in walker.order}
    for k, state in enumerate(walk(twin, plan, source, blank)):
        if k in reveals:
            walker.order.write(reveals[k], walker.order.digits(item, reveals[k]), value, depth)
        assert np.array_equal(state.value.numpy(), value), f"step {k}"
        assert np.array_equal(state.depth.numpy(), depth), f"step {k}"
    assert np.array_equal(value, item)
    assert source.finish() == 0x1234
    assert np.array_equal(walker.decode([ans.Decoder(stream)]), item)


@pytest.mark.parametrize("name", ["values", "digits of base 16", "line of text", "line of bytes", "line of table"])
def test_both_walks_write_the_same_stream(name):
    walker, twin, plan, item = setup(name)
    source, blank = Encode(), twin.digits.blank(1, item.shape[1:])
    last(walk(twin, plan, source, blank, truth=torch.from_numpy(item)), blank)
    assert source.finish(0x1234) == stream_of(walker, item)


def test_both_kinds_of_frequencies_are_tried():
    kinds = {type(source_of(Twin(model.program), b"\1" * 9)) for model in EVERY.values()}
    assert kinds == {Decode, FromRows}
