"""Our own imports, read from the source: five floors, no circle, and each duty in one place."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ardm

ROOT = Path(ardm.__file__).parent
FLOORS = {
    1: "errors settings inputs precise flacstream nets schedule digits ans schema content stored container exact suits sharding",
    2: "heads model plan sizes bodies linebodies causal frames",
    3: "zoo adapters objective walk source orders planning",
    4: "train likelihood codec tablecoder config data datasets bundle export quantise finetune formats engine admission places files memory archives whole export_layers export_unet export_lines",
    5: "api outputs pictures plots trainlog progress demo console cli cli_options cli_generate cli_codec cli_each cli_list cli_export baselines bench rateplot cli_bench",
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def room(path):
    """The module or subpackage of ours that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """(module, name or None) of everything a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def ours(path):
    """The rooms of ours that a file imports."""
    for module, name in imports(path):
        top, *rest = module.split(".")
        if top == "ardm":
            yield rest[0] if rest else name


def calls(path):
    """Dotted names of everything a file calls."""
    return {ast.unparse(n.func) for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)}


SHELL = (
    "cli",
    "cli_codec",
    "cli_each",
    "cli_list",
    "cli_export",
    "cli_generate",
    "cli_options",
    "cli_bench",
    "progress",
    "console",
    "demo",
    "__main__",
)
"""Who speaks to a person."""


def named(*rooms):
    return [p for p in FILES if room(p) in rooms]


def test_every_room_has_a_floor():
    assert {room(p) for p in FILES} - set(FLOOR) - {"__main__"} == set(), "give the new module its floor above"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    if room(path) == "__main__":
        return
    for other in ours(path):
        assert FLOOR.get(other, 0) <= FLOOR.get(room(path), 5), f"{path.name} imports {other}, which stands above it"


def test_there_is_no_circle():
    graph = {}
    for path in FILES:
        graph.setdefault(room(path), set()).update(set(ours(path)) - {room(path)})
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_networks_know_nothing_of_ours():
    for path in named("nets"):
        assert set(ours(path)) <= {"nets", "precise"}, path


NETWORKS = ("nets", "bodies", "linebodies", "causal", "zoo", "export", "export_unet", "export_lines")


def test_only_the_bodies_and_the_exporters_know_the_networks():
    for path in FILES:
        assert "nets" not in ours(path) or room(path) in NETWORKS, path


LIGHT = (
    "errors",
    "flacstream",
    "ans",
    "schema",
    "suits",
    "content",
    "stored",
    "container",
    "frames",
    "formats",
    "engine",
    "admission",
    "places",
)
LIGHT += ("files", "memory", "archives", "whole", "codec", "console", "cli_codec", "cli_each", "cli_list", "cli_bench")


def test_files_are_handled_without_torch():
    """Not even indirectly: what is stored, listed or refused must not wait for a library that it does not need."""
    names = ", ".join(f"ardm.{name}" for name in LIGHT)
    code = f"import {names}, ardm.cli, ardm.exact.arbiter, sys; print(sorted(sys.modules.keys() & {{'torch', 'accelerate'}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["schedule", "ans"])
def test_numbers_in_numbers_out(name):
    for path in named(name):
        assert not {m.split(".")[0] for m, _ in imports(path)} & {"torch", "accelerate", "safetensors"}


def test_only_the_command_line_prints_parses_and_exits():
    for path in FILES:
        if room(path) not in SHELL:
            called = calls(path)
            assert not called & {
                "print",
                "input",
                "exit",
                "quit",
                "sys.exit",
                "os._exit",
                "sys.stdout.write",
                "sys.stderr.write",
            }, path
            assert not {m.split(".")[0] for m, _ in imports(path)} & {"argparse", "typer", "click", "optparse"}, path
            assert "SystemExit" not in path.read_text(), path


def test_only_training_touches_an_optimiser():
    for path in FILES:
        if room(path) != "train":
            assert "torch.optim" not in path.read_text(), path


def test_the_core_needs_torch_alone():
    for path in named(
        "inputs",
        "precise",
        "digits",
        "plan",
        "planning",
        "heads",
        "model",
        "source",
        "walk",
        "objective",
        "likelihood",
        "nets",
    ):
        foreign = {m.split(".")[0] for m, _ in imports(path)} - {"ardm", "torch", "numpy"}
        assert all(m in sys.stdlib_module_names for m in foreign), (path, foreign)


def test_no_global_random_state_is_used():
    """Chance comes from generators that callers own; zoo (weights) and train (dropout) seed the global one in a fork."""
    for path in FILES:
        if room(path) not in ("zoo", "nets", *SHELL):
            forked = (
                {"torch.manual_seed"} if "torch.random.fork_rng" in calls(path) and room(path) == "train" else set()
            )
            assert not (calls(path) - forked) & {
                "torch.manual_seed",
                "np.random.seed",
                "random.seed",
                "np.random.rand",
                "random.random",
            }, path
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    "torch.rand",
                    "torch.randn",
                    "torch.randint",
                    "torch.randperm",
                ):
                    assert any(k.arg == "generator" for k in node.keywords), (
                        f"{path.name}:{node.lineno} draws from the global state"
                    )


def test_every_module_says_what_it_is():
    for path in [*FILES, ROOT / "__init__.py"]:
        doc = ast.get_docstring(ast.parse(path.read_text()))
        assert (doc or "").split("\n")[0].endswith((".", ":")), path
