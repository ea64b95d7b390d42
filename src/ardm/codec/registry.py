"""Codec models by name, and the machines that run them.

    model(name)                    → a `CodecModel`: bundled, or from a file or folder
    machine(model, backend)        → its network, ready to run, after a self-test
    coder(name, calls)             → a `PartCoder`
    maker()(identity, steps)       → the `PartCoder` that a file names

No torch until a network runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from ardm.codec.header import short
from ardm.codec.model_coder import ModelCoder
from ardm.codec.sound_coder import SoundCoder
from ardm.codec.table_coder import TableCoder
from ardm.content import MIDDLE
from ardm.errors import ArdmError, CodecError, ModelMissing
from ardm.exact import model as exact
from ardm.exact.ask import Runner
from ardm.exact.model import CodecModel
from ardm.exact.native.runner import NativeRunner
from ardm.exact.planned import Steps
from ardm.exact.reference import Reference

PICTURES = {"pictures-small": (1, 3), "pictures": (4, 7), "pictures-large": (8, 9)}
"""The bundled models of pictures, and the first and last level of each: a larger one makes smaller files, slower."""
STAND_IN = "pictures"
"""The model of pictures that stands in for one that is not bundled."""
DEFAULT_LEVEL = 7
BACKENDS = ("auto", "native", "int8", "float32", "float64", "int64", "numpy")
"""Who computes the integers: kernels in C; PyTorch, in the numbers of this type; NumPy, by definition."""


# --- models -----------------------------------------------------------------------------------------------------------


@cache
def bundled() -> Mapping[str, Path]:
    """The codec models in the package, from name to file; looked up once."""
    assets = resources.files("ardm") / "assets"
    folders = sorted(Path(str(p)) for p in assets.iterdir()) if assets.is_dir() else []
    return MappingProxyType({f.name: f / exact.NAME for f in folders if (f / exact.NAME).is_file()})


def pictures(level: int = DEFAULT_LEVEL) -> str:
    """The name of the bundled model that codes pictures at a level 1 to 9."""
    own, here = next(name for name, (first, last) in PICTURES.items() if first <= level <= last), bundled()
    return next((name for name in (own, STAND_IN) if name in here), own)


def model(name_or_path: str | Path | CodecModel) -> CodecModel:
    """A codec model by the name of a bundled one, its file, or the folder that holds it.

    Raises ModelMissing where there is none, ArdmError where it is damaged.
    """
    if isinstance(name_or_path, CodecModel):
        return name_or_path
    known = bundled()
    path = known.get(str(name_or_path), Path(name_or_path))
    path = path / exact.NAME if path.is_dir() else path
    if not path.is_file():
        names = ", ".join(known) or "none"
        raise ModelMissing(f"there is no codec model {str(name_or_path)!r}{_hint(name_or_path)} (bundled: {names})")
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> CodecModel:
    return exact.load(path)


def _hint(given: str | Path) -> str:
    """A hint for a folder without a codec model."""
    folder = Path(given)
    if not folder.is_dir():
        return ""
    inside = folder / "model"
    within = inside if not (folder / "config.json").is_file() and inside.is_dir() else folder
    exported = (within / exact.NAME).is_file()
    return f"; did you mean {within}?" if exported else f"; `ardm export {within}` makes one"


def calls_of(model: CodecModel, level: int) -> int:
    """The number of network calls of a level 1 to 9: 7, the default, is the model's own, 1 its fewest, 9 its most.

    0 for a model whose order follows from the size of an item.
    """
    has = model.budgets
    if not has:
        return 0
    own = has.index(model.default)
    if level <= DEFAULT_LEVEL:
        return has[own * (level - 1) // (DEFAULT_LEVEL - 1)]
    return has[own + -(-(len(has) - 1 - own) * (level - DEFAULT_LEVEL) // (9 - DEFAULT_LEVEL))]


# --- machines ---------------------------------------------------------------------------------------------------------


def machine(model: CodecModel, backend: str = "auto", device: str = "auto") -> Runner:
    """A model's network, ready to run, after it has reproduced the model's golden frequencies.

    "auto" takes the fastest backend that does.  Raises ArdmError for a named one that does not, or is unknown.
    """
    if backend not in BACKENDS:
        raise ArdmError(f"there is no backend {backend!r}; choose {', '.join(BACKENDS)}")
    return _machine(model.identity, _Model(model), backend, device)


class _Model:
    """A model as the argument of a cache: equal to any other, because the key already has its identity."""

    def __init__(self, model: CodecModel) -> None:
        self.model = model

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Model)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=8)
def _machine(identity: str, argument: _Model, backend: str, device: str) -> Runner:
    """The backend of a name; of "auto", the first that runs here and reproduces the model's fingerprint."""
    model = argument.model
    auto = ["native"] if model.wave and device in ("auto", "cpu") else []
    tried = [backend] if backend != "auto" else [*auto, "int8", "float32", "float64", "numpy"]
    for name in tried:
        try:
            made = _made(model, name, device)
        except ArdmError:
            if name not in ("native", "int8") or name == backend:
                raise
            continue
        exact.refuse_room(model, made.bounds)
        if exact.fingerprint(model, made) == model.golden:
            return made
    raise ArdmError(
        f"{backend} arithmetic on {device} does not give the frequencies of model {model.name} ({identity[:8]}): either "
        "the model's file is damaged, or this machine does not compute as it should; try --backend numpy"
    )


def _made(model: CodecModel, backend: str, device: str) -> Runner:
    """The program of a model, run by a backend.  Raises ArdmError where it does not run here."""
    if backend == "numpy":
        return Reference(model.program)
    if backend == "native":
        if device not in ("auto", "cpu"):
            raise ArdmError(f"the native kernels run on the CPU; got the device {device!r}: choose one of the two")
        return NativeRunner(model.program)
    from ardm.exact.backend import Backend
    from ardm.exact.device import pick

    return Backend(model.program, backend, pick(device))


# --- coders -----------------------------------------------------------------------------------------------------------


def coder(
    name: str | Path | CodecModel | None = None,
    calls: int | None = None,
    backend: str = "auto",
    device: str = "auto",
    threads: int = 0,
) -> ModelCoder:
    """A codec model, ready to code.

    name: a bundled model, a folder or a file; by default the bundled model of pictures.  calls: one of the model's
    numbers of network calls, if it has several, and any that an item allows for a model of any order; by default its own
    choice.  Raises ModelMissing, ArdmError.
    """
    found = model(pictures() if name is None else name)
    if calls and not found.budgets:
        raise ArdmError(
            f"model {found.name} codes along one order, so it has no number of calls; got {calls}: leave it out, or choose "
            "a model of another size by a level"
        )
    steps = found.steps(found.default if calls is None else calls)
    return _coder_of(found, steps, machine(found, backend, device), threads)


def maker(
    backend: str = "auto", device: str = "auto", threads: int = 0, names: Sequence[str | Path | CodecModel] = ()
) -> Callable[[str, Steps], ModelCoder]:
    """A function that finds the coder of a file by the first digits of its model's identity: in `names`, then bundled.

    A bare file has no identity (""): the first of `names` made it.  Steps of 0 are the model's own choice.
    """

    @lru_cache(maxsize=8)
    def find(identity: str, steps: Steps) -> ModelCoder:
        known = {}
        if not identity and not names:
            raise ModelMissing("a bare file does not say which model made it; name the model with -m")
        for name in [*names, *bundled()]:
            found = model(name)
            if found.identity.startswith(identity):
                try:
                    wanted = steps if steps or identity else found.steps(found.default)
                    return _coder_of(found, wanted, machine(found, backend, device), threads)
                except ModelMissing:
                    raise
                except ArdmError as error:
                    if steps in found.budgets or (found.wave and not steps):
                        raise
                    raise CodecError(f"damaged file: {error}") from None
            known[found.name] = short(found.identity)
        listed = ", ".join(f"{name} ({digits})" for name, digits in known.items()) or "none"
        raise ModelMissing(
            f"this file was made by codec model {identity}, which is not here (known: {listed}); name its file or folder (-m, or model=)"
        )

    return find


def _coder_of(model: CodecModel, steps: Steps, run: Runner, threads: int) -> ModelCoder:
    if model.schema is not None:
        return TableCoder(model, steps, run, threads)
    heard = model.kind == "audio" and model.wave and model.program.classes == 2 * MIDDLE
    return (SoundCoder if heard else ModelCoder)(model, steps, run, threads)
