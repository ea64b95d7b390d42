"""Pages that name files and functions of the source name real ones."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "ardm"
PAGES = ["docs/architecture.md", "docs/promises.md", "docs/method.md", "CONTRIBUTING.md"]

pytestmark = pytest.mark.skipif(not (ROOT / "mkdocs.yml").is_file(), reason="needs the checkout")


def code(page, pattern):
    """What stands in backticks on a page and matches the pattern."""
    found = re.findall(r"`([^`\n]+)`", (ROOT / page).read_text())
    return [match for text in found if (match := re.fullmatch(pattern, text))]


def defined(path):
    """The functions, classes, methods (Class.method) and constants of a file."""
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name):
                yield name
                yield from (f"{name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef))
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name


@pytest.mark.parametrize("page", PAGES)
def test_files_exist(page):
    for found in code(page, r"([\w./-]+(?:\.(?:py|md|toml|yml)|/))(?::[\w.]+)?"):
        assert (SOURCE / found[1]).exists() or (ROOT / found[1]).exists(), found[0]


@pytest.mark.parametrize("page", PAGES)
def test_functions_exist(page):
    for found in code(page, r"([\w/]+\.py):([\w.]+)"):
        assert found[2] in set(defined(SOURCE / found[1])), found[0]


def test_the_map_of_the_method_names_real_functions():
    """`module.name` of the modules at the top of the package; `digits` is also what a model's alphabet is called."""
    modules = {path.stem: set(defined(path)) for path in SOURCE.glob("*.py")}
    for found in code("docs/method.md", r"(\w+)\.([\w.]+)"):
        if found[1] in modules and not (found[1] == "digits" and found[2].islower()):
            assert found[2] in modules[found[1]], found[0]
