"""Items of different sizes go through a network side by side: same bytes, fewer calls, and an early end."""

import signal
import time
from dataclasses import replace

import numpy as np
import pytest

from ardm.codec import batches, model_coder, walk
from ardm.exact.ask import Ask, AskedSites
from bundles import coder
from test_codec import MODELS, both_ways, jobs, pictures

SIZES = [(8, 8), (3, 20), (1, 1), (11, 5), (8, 9), (2, 2)]


def mixed(channels=3):
    return [p for k, (h, w) in enumerate(SIZES * 2) for p in pictures(1, channels, h, w, k)]


def asks(made):
    """Asks in the middle of items of several sizes: the sites of one step, with others known."""
    rng = np.random.default_rng(0)
    for k, (h, w) in enumerate(SIZES):
        order = made.walker((made.planes, h, w), made.planes, (h, w)).order
        middle = order.reveals[len(order.reveals) // 2]
        depth = order.depth(middle.step)[None].repeat(1 + k % 2, 0)
        value = order.truncate(rng.integers(0, made.model.program.classes, depth.shape), depth)
        sites = np.flatnonzero(depth[0].reshape(-1) == middle.digit[0])
        yield Ask(value, depth, order.sites(replace(middle, site=sites), len(value)))


@pytest.mark.parametrize("container", ["float32", "float64", "int64"])
@pytest.mark.parametrize("name", MODELS)
def test_rows_side_by_side_are_those_of_each_alone(name, container):
    made = coder(backend=container, **MODELS[name])
    together = made._run.together(list(asks(made)))
    for ask, found in zip(asks(made), together, strict=True):
        alone = made._run(ask)
        assert found.radices == alone.radices
        told = np.zeros(len(ask.sites), dtype=np.int64)
        for stage, radix in enumerate(alone.radices):
            assert np.array_equal(found.table(stage, told), alone.table(stage, told))
            told = told * radix + 1 % radix


def test_nothing_or_much_can_be_asked():
    made = coder()
    few = list(asks(made))
    sites = AskedSites(*(np.resize(x, walk.PIXELS // 64) for x in few[0].sites.index))
    many = replace(few[0], sites=sites)
    assert made._run.together([]) == []
    found = made._run.together([few[0], few[2], many, few[1]])
    for ask, one in zip([few[0], few[2], many, few[1]], found, strict=True):
        told = np.zeros(len(ask.sites), dtype=np.int64)
        assert np.array_equal(one.table(0, told), made._run(ask).table(0, told))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("pixels", [1, 100, 1 << 15])
def test_bytes_do_not_depend_on_what_stands_beside(threads, pixels, monkeypatch):
    parts = mixed()
    alone = [both_ways(coder(), coder(), part)[0] for part in parts]
    monkeypatch.setattr(batches, "SIDE_BY_SIDE", pixels)
    assert both_ways(coder(threads=threads), coder(threads=threads), *parts) == alone


def test_parts_of_different_numbers_go_side_by_side():
    """RGB, grey, and RGB with alpha: each has as many items, one after another."""
    made = coder()
    parts = [[np.ascontiguousarray(p[:3]), np.ascontiguousarray(p[3:])] for p in pictures(2, 4, 6, 7)]
    parts += [[np.ascontiguousarray(p)] for p in (*pictures(1, 1, 9, 4), *pictures(1, 3, 5, 5))]
    streams = [made.finish(coded, 7) for coded in made.encode(parts)]
    back = list(made.decode([(s, [p.shape for p in job]) for s, job in zip(streams, parts, strict=True)]))
    for (found, check), job in zip(back, parts, strict=True):
        assert check == 7
        assert all(np.array_equal(a, b) for a, b in zip(found, job, strict=True))


def test_many_sizes_take_the_calls_of_one(monkeypatch):
    """Items of all sizes share their network calls: there are as many as for the largest item alone."""
    made, parts = coder(), mixed()
    streams = [(made.finish(job, 1), [part.shape]) for job, part in zip(made.encode(jobs(*parts)), parts, strict=True)]
    calls = []
    real = type(made._run).together
    monkeypatch.setattr(type(made._run), "together", lambda self, asks: calls.append(len(asks)) or real(self, asks))
    assert len(list(made.decode(streams))) == 12
    assert len(calls) == max(len(made.model.order(0, h, w)) for h, w in SIZES)
    assert max(calls) == len(SIZES), "items of one size are one"


def test_those_of_one_size_are_coded_together_wherever_they_stand(monkeypatch):
    made, parts = coder(), mixed()
    works = []
    real = type(made)._encoded
    monkeypatch.setattr(type(made), "_encoded", lambda self, jobs: works.append(len(jobs)) or real(self, jobs))
    list(made.encode(jobs(*parts)))
    assert works == [2] * len(SIZES)


def test_progress_is_reported_before_everything_is_done(monkeypatch):
    """Progress is reported after a few batches, not after a hundred."""
    made, parts = coder(), pictures(40)
    streams = [(made.finish(job, 1), [part.shape]) for job, part in zip(made.encode(jobs(*parts)), parts, strict=True)]
    monkeypatch.setattr(batches, "SIDE_BY_SIDE", 64)
    works = []
    real = type(made)._decoded
    monkeypatch.setattr(
        type(made), "_decoded", lambda self, jobs, **more: works.append(len(jobs)) or real(self, jobs, **more)
    )
    next(made.decode(streams))
    assert len(works) <= model_coder.WAVE


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interruption_ends_what_other_threads_do(threads):
    made, parts = coder(threads=threads), pictures(12)
    streams = [(made.finish(job, 1), [part.shape]) for job, part in zip(made.encode(jobs(*parts)), parts, strict=True)]
    real, calls = made._run, []

    class Slow:
        memory = real.memory

        def __call__(self, ask):
            calls.append(1)
            time.sleep(0.1)
            return real(ask)

        def together(self, asks):
            return [self(ask) for ask in asks]

        def sweep(self, items, plane):
            for part in real.sweep(items, plane):
                calls.append(1)
                time.sleep(0.1)
                yield part

    def stop(*_):
        raise KeyboardInterrupt

    made._run = Slow()
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(made.encode(jobs(*parts * 8)))
            list(made.decode(streams * 8))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 3
    seen = len(calls)
    time.sleep(0.3)
    assert len(calls) == seen, "no thread goes on"
    made._run = real
    assert len(list(made.decode(streams))) == 12, "and it can be used again"
