"""A plain installation without optional packages, and the messages about missing packages."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import numpy as np
import pytest

from ardm.codec import encode, flac_encode, flac_stream
from ardm.codec import fallback as stored
from ardm.codec.binary import varint
from ardm.codec.header import Method
from ardm.content import Content, Kind
from ardm.formats import read, render

HERE = Path(__file__).parent
ROOT = HERE.parent
PROJECT = (ROOT / "pyproject.toml").read_text()


def key(text):
    """The name of a distribution, of a requirement too, as indexes compare it."""
    return re.sub("[-_.]+", "-", re.match(r"[\w.-]+", text)[0]).lower()


def named(field):
    """The requirements of a list in pyproject.toml."""
    return re.findall(r'"([^"]+)"', re.search(rf"^{field} = \[(.*?)\]\s*$", PROJECT, re.DOTALL | re.MULTILINE)[1])


CORE = {key(text) for text in named("dependencies")}
OPTIONAL = PROJECT.split("optional-dependencies]")[1].split("\n[")[0]
EXTRAS = {name: named(name) for name in re.findall(r"^([\w-]+) = \[", OPTIONAL, re.MULTILINE)}


def closure(names):
    """Distributions and all that they need."""
    found, todo = set(), set(names)
    while todo:
        name = todo.pop()
        found.add(name)
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue
        todo |= {key(text) for text in needed if "extra ==" not in text} - found
    return found


def foreign(allowed):
    """Top-level modules of all other distributions that are installed here."""
    return sorted(
        module
        for module, owners in packages_distributions().items()
        if not {key(owner) for owner in owners} & allowed and re.fullmatch(r"\w+", module)
    )


BLOCKER = """
import importlib.abc, json, sys
BLOCKED = set(json.loads(sys.argv[1]))
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Finder())
"""

DECODE = """
import hashlib, io, pickle
import torch
torch.set_num_threads(1)
from pathlib import Path
import numpy as np
from ardm import formats
from ardm.codec import fallback as stored, archive, decode, encode, registry
from ardm.codec.binary import Reader
from ardm.codec.header import Method
assert "soundfile" not in BLOCKED or stored.flac_stream.soundfile_package() is None
golden, folder = map(Path, sys.argv[2:4])
models = registry.maker("auto", "cpu", 1, [golden, golden / "waves"])
said = {}
for path in [*sorted(golden.glob("*.ardm")), *sorted(folder.glob("*.ardm"))]:
    if path.name.startswith(("bad-", "unsupported-", "lines-speech16k")):
        continue
    data = path.read_bytes()
    found = archive.open_archive(data).items(models) if data[1] == 0xA1 else decode.frames(data, models)
    said[path.stem] = [hashlib.sha256(c.samples.tobytes()).hexdigest() for c in found]
for path in sorted(folder.glob("*.flac.ardm")):
    content = next(iter(decode.frames(path.read_bytes(), models)))
    assert formats.read(formats.render(content)).content == content
for name, (method, payload, x) in pickle.loads((folder / "methods").read_bytes()).items():
    out = np.zeros_like(x)
    stored.restore(Method(method), Reader.open(payload), out)
    said[name] = bool((out == x).all())
print(json.dumps(said))
"""


RECODE = """
import importlib, pkgutil, torch
torch.set_num_threads(1)
import ardm
from ardm import ans
assert ans.BACKEND == "python"
for module in pkgutil.walk_packages(ardm.__path__, "ardm."):
    if not module.name.endswith((".__main__", ".numcodec", ".zarr", ".wave")):  # programs, extras, the library in C
        importlib.import_module(module.name)
golden = sys.argv[2]
sys.path[:0] = [golden, golden.rpartition("/")[0]]
from pathlib import Path
from make import bundled, decoded, fingerprint, made
files = {path.stem: path.read_bytes() for path in Path(golden).glob("*.ardm")}
index = json.loads(Path(golden, "golden.json").read_text())
for name, about in index.items():
    if name.startswith("good"):
        assert [fingerprint(content) for content in decoded(files[name])] == about["contents"], name
ours = bundled()
again = {**made(), **ours}
assert "constriction" not in sys.modules
print(json.dumps([name for name, data in again.items() if files[name] != data]))
for name in ours:
    ardm.decompress(files[name])
"""


def tone(length=6000):
    t = np.arange(length)
    x = np.sin(np.outer([1, 2], t) / 20) * 9000 + np.random.default_rng(0).normal(0, 90, (2, length))
    return (x + 32768).astype("<u2")[:, None]


def ways():
    """name → (method, payload, samples): one of each way to store."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1, 1, 400), np.uint8)
    text = np.frombuffer(b"".join(b"line %d of many, " % k for k in range(99)), np.uint8).reshape(1, 1, -1)
    few = np.tile(np.arange(3, dtype=np.uint8), (1, 1, 20))
    walk = rng.integers(-3, 4, (64, 64)).cumsum(0).cumsum(1).astype(np.uint8)[None]
    x = tone()
    mine = flac_encode.encode(x[:, 0].astype(int) - 32768, 44100, 16)
    found = {
        "raw": (*stored.Fallback(noise, Kind.BYTES).store(), noise),
        "constant": (*stored.Fallback(noise * 0 + 7, Kind.BYTES).store(), noise * 0 + 7),
        "deflate": (*stored.Fallback(few, Kind.BYTES).store(), few),
        "lzma": (*stored.Fallback(text, Kind.BYTES).store(), text),
        "filtered": (*stored.Fallback(walk, Kind.IMAGE).store(), walk),
        "flac": (Method.FLAC, varint(len(mine)) + mine, x),
    }
    if (flac := stored._write_flac(x)) and stored._decodes_alike(flac, x):
        found["flac of libFLAC"] = (Method.FLAC, varint(len(flac)) + flac, x)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("library", [True, False], ids=["soundfile", "no soundfile"])
def test_a_plain_installation_decodes_everything(tmp_path, library):
    """Every golden file but the longest of two sounds, sound out of FLAC files, and one of each method."""
    import pickle

    if library and flac_stream.soundfile_package() is None:
        pytest.skip("needs soundfile")
    made = ways()
    assert {method for method, _, _ in made.values()} == set(Method) - {Method.CODED}
    (tmp_path / "methods").write_bytes(pickle.dumps({k: (int(m), p, x) for k, (m, p, x) in made.items()}))
    sound = read(render(Content(Kind.AUDIO, tone(), rate=8000), "flac")).content
    (tmp_path / "sound.flac.ardm").write_bytes(encode.compress(sound, None)[0])
    blocked = foreign(closure(CORE if library else CORE - {"soundfile"}))
    blocked += [] if library else ["soundfile", "_soundfile", "_soundfile_data"]
    assert "pytest" in blocked
    done = subprocess.run(
        [sys.executable, "-c", BLOCKER + DECODE, json.dumps(blocked), str(HERE / "golden"), str(tmp_path)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    good = {
        p.stem
        for p in (HERE / "golden").glob("*.ardm")
        if not p.name.startswith(("bad-", "unsupported-", "lines-speech16k"))
    }
    assert set(said) == good | set(made) | {"sound.flac"}
    assert all(said[name] is True for name in made), said
    assert all(said[name] for name in good)


@pytest.mark.slow
def test_without_constriction_the_same_bytes():
    """As on aarch64 under Linux, which has no wheel of it: golden files of every kind are read, and written again."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKER + RECODE, json.dumps(["constriction"]), str(HERE / "golden")],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_soundfile_comes_with_every_installation():
    assert [text for text in named("dependencies") if key(text) == "soundfile"] == ["soundfile>=0.13"]


def hints():
    """(place, package) of every `pip install` that messages and documents recommend."""
    paths = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    paths += [p for folder in ("src", "examples", "benchmarks") for p in (ROOT / folder).rglob("*.py")]
    for path in paths:
        for found in re.finditer(r"pip install\s+((?:-\S+\s+)*)(['\"]?)([^'\"\s`);:,]+)\2", path.read_text()):
            yield path, found[3]


def test_what_is_said_to_install_can_be_installed():
    """The package is on no index: its extras are named from a checkout only, and other packages by their own names."""
    known = CORE | {key(text) for texts in EXTRAS.values() for text in texts}
    found = list(hints())
    assert len(found) > 10
    for path, what in found:
        if what.startswith("."):
            extra = re.fullmatch(r"\.(?:\[([\w-]+)\])?", what)
            assert extra, (path, what)
            assert extra[1] is None or extra[1] in EXTRAS, (path, what)
            assert ROOT / "src" not in path.parents, f"{path}: who installed a wheel has no checkout; got {what}"
        else:
            assert re.fullmatch(r"[\w.-]+", what), (path, what)
            assert key(what) in known, (path, what)
