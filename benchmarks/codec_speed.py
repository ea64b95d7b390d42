"""Speed of the codec as ratios within one run: share of the network, cost of exactness, gain of batches and cores.

    python benchmarks/codec_speed.py                              # bundled model, bundled tiles
    python benchmarks/codec_speed.py pictures/ --json > speed.json

Alternatives run in turns, and the fastest of `--repeat` runs counts.  Each time comes with the peak memory of the whole
process during that run (the high-water mark of its resident set, reset before; Linux only).  Images come from a folder
or an .npy file (N, C, H, W) of bytes; they are cut into tiles, repeated until there are enough.  A symbol is one stage
of a digit: a value in 0..255 takes two.  On a single core the comparison of cores is skipped.
"""

import argparse
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ardm import ans, bundle
from ardm.bench.compare import markdown, seconds
from ardm.bench.machine import facts, forget_peak, peak_memory
from ardm.codec import model_coder, registry, walk
from ardm.digits import Partial, Sites
from ardm.exact.ask import Ask, Runner
from ardm.exact.device import threads
from ardm.exact.frequencies import Rows
from ardm.exact.model import CodecModel

DEMO = Path(str(resources.files("ardm") / "assets" / "demo" / "tiles.png"))
Ints = NDArray[np.int64]
Tiles = NDArray[Any]
Work = Callable[[], object]


@dataclass
class Taken:
    """Time of the fastest run in seconds, and peak memory over all runs in bytes, if known."""

    seconds: float = float("inf")
    peak: int | None = None

    def add(self, work: Work) -> None:
        known = forget_peak()
        began = time.perf_counter()
        work()
        self.seconds = min(self.seconds, time.perf_counter() - began)
        self.peak = max(self.peak or 0, peak_memory() or 0) if known else None


@dataclass
class Line:
    """A figure, its goal ("≥ 0.9"), and the times it was computed from."""

    name: str
    value: float
    unit: str = ""
    goal: str = ""
    times: dict[str, Taken] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        if not self.goal:
            return None
        sign, number = self.goal.split()
        return self.value >= float(number) if sign == "≥" else self.value <= float(number)


def in_turns(repeat: int, **works: Work) -> dict[str, Taken]:
    """Run each work once to warm up, then all in turns."""
    taken = {name: Taken() for name in works}
    for work in works.values():
        work()
    for _ in range(repeat):
        for name, work in works.items():
            taken[name].add(work)
    return taken


# --- data -------------------------------------------------------------------------------------------------------------


def tiles(source: Path | None, model: CodecModel, size: int, count: int) -> Tiles:
    """(count, C, h, w): tiles of the model's size, or of `size`, repeated if there are too few."""
    C, K = model.program.channels, model.program.classes
    h, w = model.size if max(model.size) else (size, size)
    if source is not None and source.suffix == ".npy":
        pictures = list(np.load(source, allow_pickle=False))
    else:
        known = Image.registered_extensions()
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in known) if source else [DEMO]
        pictures = [pixels(file, C) for file in files]
    found = [
        picture[:, y : y + h, x : x + w].astype(np.int64) * K // 256
        for picture in pictures
        for y in range(0, picture.shape[1] - h + 1, h)
        for x in range(0, picture.shape[2] - w + 1, w)
    ]
    if not found:
        raise SystemExit(
            f"no image in {source} is as large as a tile of {w}x{h} pixels; give larger images or a smaller --tile"
        )
    kind = np.uint8 if K <= 256 else np.uint16
    return np.stack([found[i % len(found)] for i in range(count)]).astype(kind)


def pixels(file: Path, channels: int) -> Tiles:
    """(C, H, W) bytes."""
    with Image.open(file) as image:
        x = np.asarray(image.convert({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]))
    planes: Tiles = x.reshape(*x.shape[:2], channels).transpose(2, 0, 1)
    return planes


# --- timing -----------------------------------------------------------------------------------------------------------


class Watch:
    """Time a runner, its rows and decoders; keep the states, sites and tables if `keep`."""

    def __init__(self, run: Runner, keep: bool = False) -> None:
        self.run, self.keep = run, keep
        self.network, self.frequencies, self.entropy = 0.0, 0.0, 0.0
        self.calls: list[Ask] = []
        self.tables: list[Ints] = []

    def __call__(self, ask: Ask) -> Rows:
        if self.keep:
            self.calls.append(Ask(ask.value.copy(), ask.depth.copy(), ask.sites))
        began = time.perf_counter()
        rows = self.run(ask)
        self.network += time.perf_counter() - began
        return Watched(rows, self)

    def decoders(self, streams: Sequence[bytes]) -> Any:
        return [Popped(ans.Decoder(stream), self) for stream in streams]


@dataclass
class Watched:
    rows: Rows
    watch: Watch

    @property
    def radices(self) -> tuple[int, ...]:
        return self.rows.radices

    def table(self, stage: int, prefix: Ints) -> Ints:
        began = time.perf_counter()
        table = self.rows.table(stage, prefix)
        self.watch.frequencies += time.perf_counter() - began
        return table

    def intervals(self, symbols: Ints) -> tuple[Ints, Ints]:
        return self.rows.intervals(symbols)


@dataclass
class Popped:
    decoder: ans.Decoder
    watch: Watch

    def pop(self, freq: Ints) -> Ints:
        if self.watch.keep:
            self.watch.tables.append(freq.copy())
        began = time.perf_counter()
        symbols = self.decoder.pop(freq)
        self.watch.entropy += time.perf_counter() - began
        return symbols


# --- measurements -----------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """The measurements of a codec model at a number of calls, on a batch (n, C, h, w), each repeated `repeat` times."""

    model: CodecModel
    run: Runner
    calls: int
    batch: Tiles
    repeat: int

    def walker(self, run: Callable[[Ask], Rows]) -> walk.Walker:
        h, w = self.batch.shape[2:]
        return walk.Walker(self.model.order(self.calls, h, w), run, self.run.memory)

    def streams(self) -> list[bytes]:
        out = []
        for start, width in self.walker(self.run).encode(self.batch.astype(np.int64)):
            encoder = ans.Encoder()
            encoder.push(start, width)
            out.append(encoder.finish(0))
        return out

    def shares(self) -> list[Line]:
        """Shares of decoding time: network, frequencies, entropy decoder."""
        streams, kept, best = self.streams(), Taken(), None
        for _ in range(self.repeat + 1):
            watch = Watch(self.run)
            walker, one = self.walker(watch), Taken()
            one.add(partial(walker.decode, watch.decoders(streams)))
            if best is None or one.seconds < kept.seconds:
                kept, best = one, watch
        assert best is not None
        parts = {"network calls": best.network, "frequencies": best.frequencies, "entropy decoding": best.entropy}
        lines = [Line(f"{name} / decoding", part / kept.seconds) for name, part in parts.items()]
        lines[0].goal, lines[0].times = "≥ 0.9", {"decoding": kept}
        return lines

    def entropy(self) -> list[Line]:
        """Symbols per second of `ans`, with the frequencies of a real decoding."""
        watch = Watch(self.run, keep=True)
        (stream, *_), few = self.streams(), self.walker(watch)
        few.decode(watch.decoders([stream]))
        again = ans.Decoder(stream)
        coded = [(table, again.pop(table)) for table in watch.tables]
        pieces = [ans.intervals(table, symbols) for table, symbols in coded]
        sizes = Counter(table.shape[1] for table in watch.tables)
        usual = max(sizes, key=sizes.__getitem__)
        rows = np.concatenate([table for table, _ in coded if table.shape[1] == usual])
        those = np.concatenate([symbols for table, symbols in coded if table.shape[1] == usual])
        often = 1 + (1 << 16) // len(rows)
        rows, those = np.tile(rows, (often, 1)), np.tile(those, often)

        def encode(start: Ints, width: Ints) -> bytes:
            encoder = ans.Encoder()
            encoder.push(start, width)
            return encoder.finish(0)

        def decode(data: bytes, tables: list[Ints], backend: ans.Backend) -> None:
            decoder = ans.Decoder(data, backend)
            for table in tables:
                decoder.pop(table)
            decoder.close(0)

        python: ans.Backend = "python"  # ans.BACKEND is constriction if that is installed
        lines = []
        for what, given, tables in (
            ("in the codec's steps", tuple(map(np.concatenate, zip(*pieces, strict=True))), watch.tables),
            ("at once", ans.intervals(rows, those), [rows]),
        ):
            data, count = encode(*given), sum(map(len, tables))
            works: dict[str, Work] = {"encoding": partial(encode, *given)}
            for backend in dict.fromkeys((python, ans.BACKEND)):
                works[f"decoding, {backend}"] = partial(decode, data, tables, backend)
            for name, taken in in_turns(self.repeat, **works).items():
                about = f"entropy {name}, {count} symbols {what}"
                lines.append(Line(about, count / taken.seconds, "symbols/s", "≥ 1e6", {name: taken}))
        return lines

    def exactness(self, floats: bundle.Bundle) -> list[Line]:
        """The integer network against the float32 network it was made from, on the same states and sites."""
        if floats.config.shape[0] != self.batch.shape[1]:
            raise SystemExit(
                "the float network has another number of channels; name the matching bundle with --float, or --float none"
            )
        small = Bench(self.model, self.run, self.calls, self.batch[:16], self.repeat)
        watch = Watch(self.run, keep=True)
        small.walker(watch).decode([ans.Decoder(stream) for stream in small.streams()])
        batch, states = small.batch.astype(np.int64), []
        for ask in watch.calls:
            index = np.ravel_multi_index(ask.sites.index, ask.value.shape)
            state = Partial(*map(torch.from_numpy, (ask.value, ask.depth)))
            states.append((state, Sites(torch.from_numpy(index), math.prod(ask.value.shape[1:]))))
        place = small.walker(self.run).order.place

        def exact(full: bool) -> None:
            for ask in watch.calls:
                rows = self.run(ask)
                if full:
                    symbols = batch[ask.sites.index] // place[ask.state[1]] % self.model.program.base
                    walk.symbol_intervals(rows, symbols)

        def plain(full: bool) -> None:
            model = floats.model
            with torch.inference_mode():
                for state, sites in states:
                    prediction = model(state)
                    if full:
                        prediction[sites]
                    else:
                        model.head.out(prediction._at(sites)[0][0])  # type: ignore[operator]

        lines = []
        for what, full in (("network", False), ("network and frequencies", True)):
            taken = in_turns(self.repeat, exact=partial(exact, full), float32=partial(plain, full))
            goal = "" if full else "≤ 1.3"
            lines.append(Line(f"exact / float32, {what}", ratio(taken, "exact", "float32"), "", goal, taken))
        return lines

    def coding(self, cores: int) -> list[Line]:
        """Encoding against decoding, batches against single tiles, all cores against one."""
        jobs = [[tile] for tile in self.batch]
        shapes = [tile.shape for tile in self.batch]

        def made(number: int) -> model_coder.ModelCoder:
            return model_coder.ModelCoder(self.model, self.calls, self.run, number)

        def encode(coder: model_coder.ModelCoder, jobs: list[list[Tiles]]) -> list[bytes]:
            return [coder.finish(parts, 0) for parts in coder.encode(jobs)]

        def decode(coder: model_coder.ModelCoder, streams: list[bytes], each: bool = False) -> None:
            given = [(stream, [shape]) for stream, shape in zip(streams, shapes * len(streams), strict=False)]
            for some in [[job] for job in given] if each else [given]:
                for (samples,), _ in coder.decode(some):
                    assert samples.shape == shapes[0]

        one, every = made(1), made(cores)
        streams = encode(one, jobs)
        few = streams[:: max(1, len(streams) // 8)]
        many = streams * cores  # one batch per core
        taken = in_turns(
            self.repeat,
            encoding=lambda: encode(one, jobs),
            decoding=lambda: decode(one, streams),
            singly=lambda: decode(one, few, each=True),
        )
        n, single = len(jobs), taken.pop("singly")
        decoding = {"decoding": taken["decoding"], f"decoding {len(few)} singly": single}
        lines = [
            Line("encoding / decoding", ratio(taken, "encoding", "decoding"), "", "≤ 0.5", dict(taken)),
            Line("tiles decoded per second, one at a time", len(few) / single.seconds, "tiles/s"),
            Line(f"tiles decoded per second, {n} at once", n / taken["decoding"].seconds, "tiles/s"),
            Line(
                "the latter / the former",
                single.seconds / len(few) * n / taken["decoding"].seconds,
                "",
                "≥ 1.5",
                decoding,
            ),
        ]
        if cores > 1:
            both = in_turns(self.repeat, all=lambda: decode(every, many), one=lambda: decode(one, many))
            lines.append(Line(f"{cores} cores / one, {len(many)} tiles", ratio(both, "one", "all"), "", "", both))
        return lines


def ratio(taken: dict[str, Taken], above: str, below: str) -> float:
    return taken[above].seconds / taken[below].seconds


# --- output -----------------------------------------------------------------------------------------------------------


def shown(line: Line) -> list[str]:
    value = f"{line.value:,.0f}" if line.value >= 1000 else f"{line.value:.3g}"
    met = {None: "", True: "met", False: "missed"}[line.met]
    times = "; ".join(
        f"{name} {seconds(t.seconds)}" + (f", {t.peak / 2**20:,.0f} MiB" if t.peak else "")
        for name, t in line.times.items()
    )
    return [line.name, f"{value} {line.unit}".strip(), f"{line.goal} {met}".strip(), times]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="?", type=Path, help="folder, or .npy file (N, C, H, W) of bytes")
    parser.add_argument(
        "--model", default=registry.DEFAULT_MODEL, help="bundled codec model, or folder of a codec model"
    )
    parser.add_argument("--float", default=registry.DEFAULT_MODEL, help="float bundle it was made from, or none")
    parser.add_argument("--calls", type=int, help="network calls per tile (default: the model's)")
    parser.add_argument("--backend", default="auto", choices=registry.BACKENDS)
    parser.add_argument("--batch", type=int, default=model_coder.BATCH, help="tiles decoded at once")
    parser.add_argument(
        "--tile", type=int, default=32, help="side of a tile in pixels, for models without a fixed size"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, except when comparing cores")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    model = registry.model(options.model)
    batch = tiles(options.pictures, model, options.tile, options.batch)
    made = Bench(
        model, registry.machine(model, options.backend, "cpu"), options.calls or model.default, batch, options.repeat
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with threads(options.threads):
        lines = made.shares() + made.entropy()
        if options.float != "none":
            lines += made.exactness(bundle.load(options.float))
        lines += made.coding(cores)
    about = {
        "model": model.identity,
        "calls": made.calls,
        "backend": options.backend,
        "batch": batch.shape,
        "usable_cores": cores,
    }
    if options.json:
        rows = [{**asdict(line), "met": line.met} for line in lines]
        print(json.dumps({**about, **facts(options.threads), "rows": rows}, indent=1))
        return
    print(
        f"model {model.name} ({model.identity[:8]}), {made.calls} calls, {len(batch)} tiles of {batch.shape[1:]}, {cores} cores"
    )
    print(markdown(["what", "figure", "goal", "times, peak memory of the process"], list(map(shown, lines))))


if __name__ == "__main__":
    main()
