"""Pages that name files and functions of the source name real ones."""

import ast
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "ardm"
PAGES = ["docs/architecture.md", "docs/promises.md", "docs/method.md", "docs/extend.md", "CONTRIBUTING.md"]

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


def resolves(name):
    """Whether a dotted name is a module, or an attribute of one."""
    module, _, rest = name.partition(".")
    found = import_module(module)
    while rest:
        part, _, rest = rest.partition(".")
        module = f"{module}.{part}"
        if not hasattr(found, part) and (not isinstance(found, ModuleType) or find_spec(module) is None):
            return False
        found = getattr(found, part) if hasattr(found, part) else import_module(module)
    return True


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_dotted_names_exist(page):
    for name in set(re.findall(r"(?<![\w./-])ardm(?:\.[A-Za-z_]\w*)+", page.read_text())):
        assert resolves(name), name


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


def test_the_tree_is_complete():
    """Every module at the top of the package and every wing has a caption on the page."""
    named = " ".join(found[0] for found in code("docs/architecture.md", r"[\w./]+"))
    modules = [path.name for path in SOURCE.glob("*.py") if path.stem != "__main__"]
    wings = [f"{path.parent.name}/" for path in SOURCE.glob("*/__init__.py")]
    assert [name for name in modules + wings if name not in named] == []
