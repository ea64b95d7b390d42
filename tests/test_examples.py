"""README, CONTRIBUTING and docs/: their Python runs, and every recipe and page is listed.  (CI runs examples/ and builds the site.)"""

import re
from inspect import getsource
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from ardm import ranks
from ardm.heads import LaplaceHead
from ardm.models import build as zoo
from ardm.ranks import hilbert_ranks
from ardm.train.recipe import shipped

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not (ROOT / "mkdocs.yml").is_file(), reason="needs the checkout")


def blocks(page):
    """All Python blocks of a page, also those in lists."""
    found = re.findall(r"^( *)```(?:python|py)\b[^\n]*\n(.*?)^\1```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [dedent(block) for _, block in found]


PAGES = [page for page in sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")]) if blocks(page)]


DOWNLOADS = re.compile("from_pretrained|hf_hub_download|download_url|kuleshov-group")
LONG = {"masked-lm.md"}
"""Pages that take more than five seconds."""
RUNS = [pytest.param(page, marks=[pytest.mark.slow] * (page.name in LONG)) for page in PAGES]


@pytest.mark.parametrize("page", RUNS, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_in_the_documentation_runs(page, tmp_path, monkeypatch):
    """Block after block, as a reader would, with shorter trainings, and on long pages fewer items; what downloads a model is only compiled."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo, "BODIES", dict(zoo.BODIES))
    monkeypatch.setattr(ranks, "RANKS", dict(ranks.RANKS))
    space = {}
    for block in blocks(page):
        short = re.sub(r"^steps = \d{3,}", "steps = 20", block, flags=re.MULTILINE)
        if page.name in LONG:
            short = re.sub(r"\b(128|512)\b", lambda found: str(int(found[1]) // 4), short)
        code = compile(short, page.name, "exec")
        if not DOWNLOADS.search(block):
            exec(code, space)


@pytest.mark.parametrize("shown", [hilbert_ranks, LaplaceHead], ids=lambda shown: shown.__name__)
def test_the_walks_show_the_code_as_it_is(shown):
    assert getsource(shown) in (DOCS / "extend.md").read_text()


def test_the_walks_name_the_format_as_it_is():
    page, module = (DOCS / "extend.md").read_text(), ROOT / "src" / "ardm" / "formats" / "aiff.py"
    assert module.read_text().splitlines()[-1] in page


def test_the_readme_shows_python():
    assert ROOT / "README.md" in PAGES


def test_every_recipe_is_listed():
    text = (DOCS / "recipes.md").read_text()
    for recipe in shipped():
        assert f"`{recipe.partition('/')[2]}`" in text, recipe


def test_every_page_is_in_the_table_of_contents():
    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        inner = entry.values() if isinstance(entry, dict) else entry
        return [page for part in inner for page in pages(part)]

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(pages(nav)) == sorted(p.name for p in DOCS.glob("*.md"))


def test_continuous_integration_runs_the_examples_and_builds_the_site():
    script = (ROOT / ".ci" / "run").read_text()
    assert "mkdocs" in script
    assert "--strict" in script
    for example in (ROOT / "examples").glob("*.py"):
        assert example.stem in script
