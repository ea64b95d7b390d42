"""Run in a process of its own: encode fixed pictures with a codec model under this process's settings, and decode files.

    python tests/portable.py MODEL [BACKEND THREADS BATCH encode|decode|float FOLDER]...

BACKEND is one of `registry.BACKENDS`, or "native plain": the native kernels without special instructions.  These run
models along wavefronts only; others run in float32.
Each stream goes to FOLDER/NAME.  "float" is the negative control: the frequencies of a network in float32, which was
never made exact, go to FOLDER/frequencies.npy.
"""

import os
import sys
from pathlib import Path

import numpy as np

FEW = 3
"""Network calls of a model of any order, each of which sees the whole picture."""


def pictures():
    """Things like photographs, of several sizes, one shape five times."""
    made = {}
    for k, (channels, h, w) in enumerate([(3, 8, 8)] * 5 + [(3, 13, 21), (1, 9, 5), (3, 1, 1)]):
        c, y, x = np.mgrid[:channels, :h, :w]
        wave = 90 * np.sin((x * (k + 2) + y * 3) / 7) + 25 * ((x * 5 + y * 11 + c * 3 + k) % 7 > 3)
        made[f"{k}-{channels}x{h}x{w}"] = np.clip(128 + wave + 9 * c, 0, 255).astype(np.uint8)
    return made


def lines(kind):
    """Three texts, sounds or tables in CSV, by formulas."""
    made = {}
    for k, size in enumerate((60, 60, 9)):
        n = np.arange(size)
        if kind == "text":
            letters = np.frombuffer(b" abcdefghijklmnopqrstuvwxyz", np.uint8)
            x = letters[(n * n * 7 + k * n) % 53 % 27]
        elif kind == "sound":
            x = (32768 + 900 * np.sin(n / (k + 2)) + n * 37 % 101).astype("<u2")
        else:
            rows = [
                f"{'fm'[i % 2]},{(1, 2, 3, 10, 20)[i * i % 5]},{'no' if i % 4 == 3 else ''},only\n" for i in range(size)
            ]
            x = np.frombuffer("".join(rows).encode(), np.uint8)
        made[f"{kind}{k}"] = x.reshape(1, 1, -1)
    return made


def bundled():
    """Small things for every codec model of the package, three of each, two of one shape."""
    few = {key: x for key, x in pictures().items() if len(x) == 3 and key[0] in "045"}
    tiny = {key: x for key, x in pictures().items() if key[0] in "017"}  # for networks that see all of it at each call
    made = {
        "pictures": few,
        "pictures-small": few,
        "cifar10-any-order": tiny,
        "grey": {},
        "english": lines("text"),
        "text27": lines("text"),
    }
    for k, size in enumerate((28, 28, 9)):
        y, x = np.mgrid[:size, :size]
        made["grey"][f"grey{k}"] = (((x - 14) ** 2 + (y - 14 - k) ** 2 < 60) * 200).astype(np.uint8)[None]
    made["speech8k"] = made["speech16k"] = lines("sound")
    return {name: {f"{name}-{key}": x for key, x in parts.items()} for name, parts in made.items()}


def exact(model, folder, encode, backend, threads, batch):
    """Streams of the codec model, of those of other things in folders beside it, and of those in the package."""
    from ardm.codec import registry

    for name, parts in bundled().items():
        calls = None if registry.model(name).planned is None else FEW
        coded(
            name, folder, encode, backend, threads, batch, parts, calls or min(registry.model(name).budgets, default=0)
        )
    coded(model, folder, encode, backend, threads, batch, pictures())
    waves = {f"wave-{name}": part for name, part in pictures().items()}
    coded(Path(model) / "wave", folder, encode, backend, threads, batch, waves)
    for kind in ("text", "sound", "table"):
        coded(Path(model) / kind, folder, encode, backend, threads, batch, lines(kind))


def coder(model, calls, backend, threads):
    """A coder of this row."""
    from ardm.codec import registry
    from ardm.exact.native.runner import NativeRunner

    native = backend.startswith("native")
    if native and model.wave:
        kind = type(registry.coder(model, calls, "float32", "cpu", threads))
        return kind(model, 0, NativeRunner(model.program, backend == "native plain"), threads)
    return registry.coder(model, calls, "float32" if native else backend, "cpu", threads)


def coded(model, folder, encode, backend, threads, batch, parts, calls=None):
    """Streams of a codec model."""
    from ardm.codec import model_coder, registry

    model_coder.BATCH = batch
    made = coder(registry.model(model), calls, backend, threads)
    if encode:
        for name, symbols in zip(parts, made.encode([part] for part in parts.values()), strict=True):
            (folder / name).write_bytes(made.finish(symbols, 7))
        return
    found = made.decode(((folder / name).read_bytes(), [part.shape]) for name, part in parts.items())
    for (name, part), ((samples,), check) in zip(parts.items(), found, strict=True):
        assert check == 7, name
        assert np.array_equal(samples, part), name


def frequencies(folder, batch):
    """The integer frequencies that a network in float32 leads to, as a file: what a stream depends on."""
    import torch

    from ardm.digits import Sites
    from ardm.source import integer_frequencies
    from bundles import tiny

    bundle = tiny("centred", width=64, blocks=2, scale=2.0)
    x = torch.from_numpy(np.stack([p for p in pictures().values() if p.shape == (3, 8, 8)])).long()
    x = x.repeat(-(-64 // len(x)), 1, 1, 1)
    found = []
    for part in x.split(batch):
        state = bundle.model.digits.truncate(part, (torch.arange(64).view(8, 8) % 2).expand_as(part))
        found.append(integer_frequencies(bundle.model(state)[Sites.where(state.depth == 0)]))
    np.save(folder / "frequencies.npy", np.concatenate(found))


if __name__ == "__main__":
    model, *jobs = sys.argv[1:]
    for backend, threads, batch, what, folder in zip(*(jobs[k::5] for k in range(5)), strict=True):
        if backend != "numpy":
            import torch

            torch.set_num_threads(int(threads))
            if "ARDM_NO_ONEDNN" in os.environ:
                torch.backends.mkldnn.set_flags(False)
        if what == "float":
            frequencies(Path(folder), int(batch))
        else:
            exact(Path(model), Path(folder), what == "encode", backend, int(threads), int(batch))
