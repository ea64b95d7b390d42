"""The native kernels give the integers of the reference, with and without special instructions, and its streams."""

import resource
import threading
import zlib

import numpy as np
import pytest

from ardm.ans import Decoder, Encoder
from ardm.codec import registry
from ardm.codec.walk import Walker
from ardm.errors import ArdmError, CodecError
from ardm.exact.ask import Ask, AskedSites
from ardm.exact.native import library as native
from ardm.exact.native.compile import LIBRARY, compile_library
from ardm.exact.native.describe import describe
from ardm.exact.native.runner import NativeRunner
from ardm.exact.order import Order
from ardm.exact.reference import Reference
from waves import FINE, Weave, need_library, picture, values_program, wave_model, wave_program, window_cells

compiled = pytest.fixture(autouse=True, scope="module")(need_library)


def odd_program(seed=0, C=3, K=256, slope=2, M=3):
    """What `wave_program` has not: sums beyond 32 bits and weights beyond 16, wide taps, two windows, less, pick."""
    w, limit = Weave(np.random.default_rng(seed), C, K, slope), (K - 1) << FINE
    near, far = window_cells(slope, 1, 2), [(0, -5), (-2, 3), (-1, -7)]
    w.op("concat", "maps", ["value", "depth"])
    w.op("causal_window", "near", ["maps"], {"cells": near})
    w.op("causal_window", "far", ["maps"], {"cells": far})
    w.op("causal_window", "beside", ["depth"], {"cells": [(0, -1)]})
    weights = {"weight0": np.arange(1, len(near) + 1), "weight1": np.arange(1, len(far) + 1)}
    w.op("nearby", "mean", ["near", "far"], weights, fraction=FINE, limit=limit, rise0=7, rise1=0)
    w.op("contrast", "d", ["near", "mean"], fraction=FINE, by=0, limit=limit, known=3)
    w.op("concat", "all", ["d", "far", "beside", "mean"])
    columns = 2 * C * (len(near) + len(far)) + 2 * C
    big = w.linear("big", "all", columns, 17, size=1 << 24, shift=20, lo=-(1 << 20), hi=1 << 20)
    w.op("causal_taps", "taps", [big], {"cells": [(0, 0), (0, -2), (-2, 1), (-1, 1)]})
    w.linear("h", "taps", 68, 33, size=9, shift=9, lo=-(1 << 15), hi=(1 << 15) - 1)
    w.op("causal_taps", "back", ["h"], {"cells": [(0, -1), (0, 0)]})
    w.op("less", "apart", [w.linear("g", "back", 66, 5, shift=5), w.linear("one", "back", 66, 1, shift=5)])
    w.op("at_site", "row", ["apart"])
    w.op("earlier", "known", ["value", "mean"], fraction=FINE, by=1, limit=300)
    o = w.linear("o", w.op("concat", "both", ["row", "known"]), 5 + C, 3 * M, (C,), size=3, shift=5)
    w.op("pick", "centre", [w.op("at_site", "means", ["mean"])])
    inverse = np.exp2(np.arange(129) / 16 + 8).astype(np.int64)
    w.op("mixture", "head", [o, "centre"], {"inverse": inverse, "places": np.arange(M) * 900 - 900},
         components=M, fraction=8, bits=16, rise=8 - FINE, limit=2 * K << 8)  # fmt: skip
    return w.end()


PROGRAMS = {
    "pictures": lambda: wave_program(),
    "wider": lambda: wave_program(seed=3, width=37, inner=21, blocks=3, hidden=18, components=5, slope=3),
    "one channel, two values": lambda: wave_program(C=1, K=2),
    "steep": lambda: wave_program(C=2, K=100, slope=1),
    "four stages": lambda: wave_program(C=2, K=5000),
    "one row": lambda: wave_program(
        C=1, cells=[(0, -d) for d in range(1, 9)], near=[[(0, -1), (0, 0)], [(0, -4), (0, 0)]], slope=2
    ),
    "odd": odd_program,
    "odd, 16 bits": lambda: odd_program(C=1, K=1 << 16, slope=3),
}
SHAPES = [(1, 1, 1), (2, 5, 7), (1, 1, 9), (3, 9, 1), (1, 7, 19)]


@pytest.fixture(params=PROGRAMS)
def program(request):
    return PROGRAMS[request.param]()


@pytest.fixture(params=[False, True], ids=["fast", "plain"])
def plain(request):
    return request.param


def pictures(program, n, H, W):
    return np.stack([picture(program.channels, H, W, program.classes, seed) for seed in range(n)])


def same_rows(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("weight", "mean", "inverse"))


def walker(program, run, H, W, plane=None):
    order = Order.wave((program.channels, H, W), program.wave, program.base)
    return Walker(order if plane is None else order.alone(plane), run, run.memory)


def streams(found, bits=32):
    made = []
    for start, width in found:
        encoder = Encoder()
        encoder.push(start, width)
        made.append(encoder.finish(77, bits))
    return made


def test_any_ask_has_the_answer_of_the_reference(program, plain):
    run, reference, rng = NativeRunner(program, plain), Reference(program), np.random.default_rng(1)
    for shape in SHAPES:
        items = pictures(program, *shape)
        depth = (rng.random(items.shape) < 0.7).astype(np.int64)
        sites = AskedSites(*(rng.integers(0, n, 25) for n in items.shape), size=shape[1:])
        ask = Ask(items * depth, depth, sites)
        assert same_rows(run(ask), reference(ask))
        assert same_rows(run.together([ask])[0], reference(ask))
    assert len(run(Ask(items, depth, sites[:0])).weight) == 0


def test_whole_walks_are_those_of_the_walker(program, plain):
    run, reference = NativeRunner(program, plain), Reference(program)
    for n, H, W in SHAPES:
        for plane in (None, 0):
            items = pictures(program, n, H, W)
            items = items if plane is None else np.repeat(items[:, :1], program.channels, axis=1)
            expected = walker(program, reference, H, W, plane).encode(items)
            found = run.encode(items, plane)
            assert all(
                np.array_equal(a, b) for pair in zip(found, expected, strict=True) for a, b in zip(*pair, strict=True)
            )
            decoders = [Decoder(stream, bits=8) for stream in streams(expected, 8)]
            assert np.array_equal(run.decode(decoders, (H, W), plane), items)
            assert all(decoder.close() == 77 for decoder in decoders)


def test_large_matrices_of_small_weights_are_held_in_bytes(plain):
    program = wave_program(C=1, K=2, width=257, inner=256, blocks=1, near=[[(0, 0)]])
    items = pictures(program, 1, 2, 5)
    ((expected, _),) = walker(program, Reference(program), 2, 5).encode(items)
    assert np.array_equal(NativeRunner(program, plain).encode(items)[0][0], expected)


def test_a_walk_step_by_step_and_a_sweep(program, plain):
    run = NativeRunner(program, plain)
    for n, H, W in SHAPES:
        items = pictures(program, n, H, W)
        found = run.encode(items)
        decoders = [Decoder(stream) for stream in streams(found)]
        assert np.array_equal(walker(program, run, H, W).decode(decoders), items)
        seen = np.zeros_like(items)
        for sites, rows in run.sweep(items):
            seen[sites.index] += 1
            known = Ask(items, np.ones_like(items), sites)
            assert same_rows(rows, run(known))
        assert (seen == 1).all()


def test_a_memory_whose_past_is_not_known_answers_all_the_same():
    program = wave_program()
    run, reference = NativeRunner(program), Reference(program)
    items = pictures(program, 1, 6, 7)
    memory, rng = run.memory(items.shape), np.random.default_rng(5)
    for key in (3, 3, 8, 2, 11):
        depth = (rng.random(items.shape) < 0.5).astype(np.int64)
        y = np.array([y for y in range(6) if 0 <= key - 2 * y < 7])
        sites = AskedSites(y * 0, y * 0 + 1, y, key - 2 * y, (6, 7))
        assert same_rows(run(Ask(items * depth, depth, sites, memory)), reference(Ask(items * depth, depth, sites)))


@pytest.mark.parametrize("seed", range(6))
def test_damaged_streams_give_what_the_definition_gives(seed, plain):
    program = wave_program(seed=seed, K=(256, 5)[seed % 2])
    run, reference, rng = NativeRunner(program, plain), Reference(program), np.random.default_rng(seed)
    stream = bytearray(rng.integers(1, 256, (4, 40, 400)[seed % 3], dtype=np.uint8))

    def decoded(read):
        decoder = Decoder(bytes(stream), "python", bits=0)
        try:
            return read(decoder).tolist(), decoder.state, decoder.words
        except CodecError as error:
            return str(error)

    expected = decoded(lambda decoder: walker(program, reference, 5, 6).decode([decoder])[0])
    assert decoded(lambda decoder: run.decode([decoder], (5, 6))[0]) == expected


def test_what_it_lacks_it_refuses():
    with pytest.raises(ArdmError, match="cannot be run by the native kernels"):
        NativeRunner(values_program())
    with pytest.raises(ArdmError, match="along wavefronts only"):
        describe(Reference(wave_program()).program.__class__((), {}, 1, 2, 2), {})
    with pytest.raises(ArdmError, match="run on the CPU; got the device 'cuda'"):
        registry.machine(wave_model(), "native", "cuda")
    run = NativeRunner(wave_program(K=100))
    with pytest.raises(ArdmError, match="values below K"):
        run.encode(np.full((1, 3, 2, 2), 100))


def test_no_description_makes_it_leave_its_memory():
    """Every number of a description, changed: the net is refused, or it runs within its bounds."""
    program, rng = wave_program(width=5, inner=3, blocks=1, hidden=4), np.random.default_rng(2)
    text = describe(program, Reference(program).bounds)
    tables = 5 + 1 + 768 + 1 + 3073
    refused = 0
    for at in [*range(5), *range(tables, len(text))]:
        changed = text.copy()
        changed[at] = rng.choice([-1, 0, 1, changed[at] + 1, 1 << 14, 1 << 40, -(1 << 62)])
        try:
            net = native.Net(changed, plain=bool(at % 2))
        except ArdmError:
            refused += 1
            continue
        if changed[0] != 3:
            continue
        walk = native.Walk(net, (1, 3, 4, 5), None, raster=False)
        held = np.frombuffer(bytes(range(200)), dtype=np.uint8)
        stream = np.array([((1 << 33) + 7, held.ctypes.data, 50)], dtype=native.STREAM)
        walk.decode(100, stream)
    assert refused > 100


def test_threads_share_a_net():
    program = wave_program(width=32, inner=32)
    run = NativeRunner(program)
    items = [pictures(program, 1, 20 + k, 33) for k in range(6)]
    alone = [run.encode(x)[0][1] for x in items]
    found = [None] * 6

    def work(k):
        found[k] = run.encode(items[k])[0][1]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(alone, found, strict=True))


def test_a_walk_can_be_stopped():
    run = NativeRunner(wave_program(width=4, inner=4, blocks=1))
    items = pictures(run.program, 1, 200, 200)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.encode(items, pause=stop)
    with pytest.raises(KeyboardInterrupt):
        run.decode([Decoder(stream) for stream in streams(run.encode(items))], (200, 200), pause=stop)


def test_many_channels_of_which_a_window_reads_the_last():
    """Outside an item, a window reads zeros of a whole state: twice as many as there are channels."""
    w, C = Weave(np.random.default_rng(0), 200, 4, 2), 200
    w.op("causal_window", "beside", ["depth"], {"cells": [(0, -1)]})
    w.linear("h", "beside", C, 4, shift=2, lo=-99, hi=99)
    o = w.linear("o", w.op("at_site", "row", ["h"]), 4, 3)
    centre = w.linear("centre", "row", 4, 1)
    table = {"inverse": np.full(65, 1 << 12), "places": [0]}
    w.op("mixture", "head", [o, centre], table, components=1, fraction=8, bits=16, rise=0, limit=1 << 11)
    program = w.end()
    sites = AskedSites(
        *(np.zeros(9, dtype=np.int64) for _ in range(2)), np.arange(9) // 3, np.arange(9) % 3, size=(3, 3)
    )
    ask = Ask(np.zeros((1, C, 3, 3), dtype=np.int64), np.ones((1, C, 3, 3), dtype=np.int64), sites)
    assert same_rows(NativeRunner(program)(ask), Reference(program)(ask))
    ((start, width),) = NativeRunner(program).encode(picture(C, 3, 3, 4)[None])
    assert (width > 0).all()
    assert (start + width <= 1 << 24).all()


@pytest.mark.parametrize("far", [(0, -4096), (-256, 0), (-40, -30)])
def test_cells_far_outside_an_item_cost_no_memory(far):
    """A walk remembers no more wavefronts than its items have: 4,096 of these would need gigabytes."""
    near = [[far, (0, 0)], [(0, -1), far, (0, 0)]]
    run = NativeRunner(wave_program(C=1, K=16, width=64, inner=5, slope=16, near=near))
    items = pictures(run.program, 64, 64, 1)
    decoders = [Decoder(stream) for stream in streams(run.encode(items))]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert np.array_equal(run.decode(decoders, (64, 1)), items)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    small = pictures(run.program, 1, 2, 9)
    ((expected, _),) = walker(run.program, Reference(run.program), 2, 9).encode(small)
    assert np.array_equal(run.encode(small)[0][0], expected)


def test_without_a_library_it_says_what_to_do(tmp_path):
    with pytest.raises(ArdmError, match="are not compiled here; `python -m ardm"):
        native.library(tmp_path / "none.so")
    (tmp_path / "bad.so").write_bytes(b"no library")
    with pytest.raises(ArdmError, match="cannot be loaded"):
        native.library(tmp_path / "bad.so")
    assert compile_library(tmp_path / "old.so", "-UARDM_SOURCE", "-DARDM_SOURCE=1") is None
    with pytest.raises(ArdmError, match="of another version"):
        native.library(tmp_path / "old.so")


def test_compiling_without_a_compiler_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert "no C compiler" in compile_library(tmp_path / "x.so")
    monkeypatch.setenv("CC", "false")
    assert "no C compiler" in compile_library(tmp_path / "x.so")
    assert zlib.crc32(LIBRARY.read_bytes())  # the one in use is as it was
