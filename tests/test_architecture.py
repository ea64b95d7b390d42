"""The architecture, read from the source: floors, no circle, nothing private across modules, no weight at import."""

import ast
import re
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles

import pytest

import ardm

ROOT = Path(ardm.__file__).parent
FLOORS = """
    __main__
    cli
    __init__
    train
    audit export samplers
    api
    likelihood
    bundle planning walk
    objective orders source
    adaptive data faults files media models plan
    bench formats model
    codec heads
    digits exact random_numbers rates schedule
    ans atomic cheapest content estimate inputs losscurve nets schema settings symbols
    errors features precision ranks
"""
"""The rooms (modules and folders directly in ardm), from the top floor down: each imports lower floors only."""
FLOOR = {room: -k for k, rooms in enumerate(FLOORS.split("\n")) for room in rooms.split()}
FILES = sorted(ROOT.rglob("*.py"))
MODULES = {".".join(p.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in FILES}
TREES = {path: ast.parse(path.read_text()) for path in FILES}


def room(path):
    """The module or folder directly in ardm that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """(module, name or None) of everything a file imports, lazily or not."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def ours(path):
    """The files of ours that a file imports."""
    for module, name in imports(path):
        found = MODULES.get(f"{module}.{name}") or MODULES.get(module)
        if found and found != path:
            yield found


def calls(path):
    """Dotted names of everything a file calls."""
    return {ast.unparse(n.func) for n in ast.walk(TREES[path]) if isinstance(n, ast.Call)}


def within(*names):
    """The files of some rooms, or of some modules inside them ("codec/header")."""
    files = [p for p in FILES for name in names if f"{p.relative_to(ROOT).with_suffix('')}/".startswith(f"{name}/")]
    assert files, names
    return files


def short(path):
    return str(path.relative_to(ROOT))


# --- rooms and floors -------------------------------------------------------------------------------------------------


def test_every_room_has_a_floor():
    assert {room(p) for p in FILES} == set(FLOOR), "FLOORS lists every room once"


@pytest.mark.parametrize("path", FILES, ids=short)
def test_imports_point_down(path):
    for other in ours(path):
        if room(other) != room(path):
            assert FLOOR[room(other)] < FLOOR[room(path)], (
                f"{short(path)} imports {short(other)}, which is not below it"
            )


def test_there_is_no_circle():
    """Not among files either, lazy imports included."""
    list(TopologicalSorter({path: set(ours(path)) for path in FILES}).static_order())  # raises CycleError


def test_rooms_know_few_rooms():
    """352 imports between 68 rooms were too many to keep in mind.  A third of these lead to errors, inputs and precision."""
    arrows = {(room(path), room(other)) for path in FILES for other in ours(path) if room(path) != room(other)}
    assert len({room(p) for p in FILES}) <= 47
    assert len(arrows) <= 267
    assert len({arrow for arrow in arrows if arrow[1] not in ("errors", "inputs", "precision")}) <= 194


@pytest.mark.parametrize("path", FILES, ids=short)
def test_nothing_private_is_imported(path):
    for module, name in imports(path):
        parts = [*module.split("."), *([name] if name else [])]
        if parts[0] == "ardm":
            assert not any(re.match(r"_(?!_)", part) for part in parts), f"{short(path)} imports {module}.{name}"


def test_nothing_private_is_reached_through_a_module():
    for path in FILES:
        modules = {name for module, name in imports(path) if f"{module}.{name}" in MODULES}
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                assert not re.match(r"_(?!_)", node.attr), f"{short(path)}:{node.lineno} reads {ast.unparse(node)}"


# --- what each wing may know ------------------------------------------------------------------------------------------


def test_networks_know_nothing_of_diffusion():
    for path in within("nets"):
        assert {room(other) for other in ours(path)} <= {"nets", "precision", "features"}, path


def test_only_models_and_exporters_know_the_networks():
    for path in FILES:
        if room(path) not in ("nets", "models", "export"):
            assert "nets" not in {room(other) for other in ours(path)}, path


WITHOUT_TORCH = (
    "errors", "ans", "ranks", "cheapest", "schedule", "losscurve", "schema", "settings", "symbols", "content", "atomic", "codec", "formats", "files",
    "bench", "exact/ask", "exact/order", "exact/program", "exact/reference", "exact/model",
    "cli/app", "cli/compress", "cli/decompress", "cli/listing", "cli/bench", "cli/batch", "cli/console",
)  # fmt: skip
"""Files are compressed without a model, listed, tested and refused by these; they must not wait for PyTorch."""


OPTIONAL = {"ardm.files.zarr": "zarr", "ardm.files.numcodec": "numcodecs"}
"""Modules for packages that not everyone has."""


def test_files_are_handled_without_torch():
    names = [".".join(p.relative_to(ROOT.parent).with_suffix("").parts) for p in within(*WITHOUT_TORCH)]
    names = [name for name in names if find_spec(OPTIONAL.get(name, "ardm"))]
    code = f"import {', '.join(names)}, sys; print(sorted(sys.modules.keys() & {{'torch', 'accelerate'}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


METHOD = (
    "digits", "plan", "adaptive", "orders", "ranks", "model", "heads", "features", "source", "walk", "objective", "likelihood",
    "losscurve", "cheapest", "schedule", "planning", "precision", "inputs", "random_numbers", "rates", "nets",
)  # fmt: skip


def test_the_method_needs_torch_and_numpy_alone():
    for path in within(*METHOD):
        foreign = {m.split(".")[0] for m, _ in imports(path)} - {"ardm", "torch", "numpy"}
        assert all(m in sys.stdlib_module_names for m in foreign), (path, foreign)


@pytest.mark.parametrize("name", ["cheapest", "schedule", "losscurve", "ans"])
def test_numbers_in_numbers_out(name):
    for path in within(name):
        assert not {m.split(".")[0] for m, _ in imports(path)} & {"torch", "accelerate", "safetensors"}


PRINTING = {"print", "input", "exit", "quit", "sys.exit", "os._exit", "sys.stdout.write", "sys.stderr.write"}
PARSERS = {"argparse", "typer", "click", "optparse"}


def test_only_the_command_line_prints_parses_and_exits():
    for path in FILES:
        if room(path) not in ("cli", "__main__"):
            assert not calls(path) & PRINTING, path
            assert not {m.split(".")[0] for m, _ in imports(path)} & PARSERS, path
            assert "SystemExit" not in path.read_text(), path


def test_only_training_touches_an_optimiser():
    for path in FILES:
        if room(path) != "train":
            assert "torch.optim" not in path.read_text(), path


SEEDS = {"torch.manual_seed", "np.random.seed", "random.seed", "np.random.rand", "random.random"}
DRAWS = ("torch.rand", "torch.randn", "torch.randint", "torch.randperm")


@pytest.mark.parametrize("path", [p for p in FILES if room(p) not in ("nets", "cli")], ids=short)
def test_no_global_random_state_is_used(path):
    """Chance comes from generators that callers own; weights and dropout seed the global state inside a fork."""
    forked = {"torch.manual_seed"} if "torch.random.fork_rng" in calls(path) else set()
    assert not (calls(path) - forked) & SEEDS
    if forked and room(path) in ("models", "train"):
        return
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in DRAWS:
            assert any(k.arg == "generator" for k in node.keywords), f"line {node.lineno} draws from the global state"


# --- size and form ----------------------------------------------------------------------------------------------------

LINES = 450
LONG = {"atomic.py", "likelihood.py"}
"""Longer files that hold one idea."""


def test_no_file_is_long():
    long = {short(p) for p in FILES if len(p.read_text().splitlines()) > LINES}
    assert long <= LONG, "cut the file where its second idea begins"


def code_lines(function):
    """Lines of a function without its docstring."""
    first = function.body[0]
    doc = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) is not None else 0
    return function.end_lineno - function.lineno + 1 - doc


def test_functions_are_short():
    functions = [n for tree in TREES.values() for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    lines = [code_lines(f) for f in functions]
    assert median(lines) <= 6
    assert quantiles(lines, n=10)[-1] <= 18


def test_types_are_rarely_ignored():
    ignored = Counter({short(p): p.read_text().count("# type: ignore") for p in FILES})
    assert ignored.total() <= 8, +ignored


def test_every_module_says_what_it_is():
    for path in FILES:
        doc = ast.get_docstring(TREES[path])
        assert (doc or "").split("\n")[0].endswith((".", ":")), path
