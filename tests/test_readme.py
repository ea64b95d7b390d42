"""CI runs the README's commands, and its links lead somewhere.  (test_examples runs its Python.)"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.is_file(), reason="needs the checkout")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_continuous_integration_runs_the_readmes_commands():
    commands = "\n".join(blocks("sh"))
    script = (ROOT / ".ci" / "run").read_text()
    for told, run in [
        ("pip install .", "scripts/release.py --pair"),  # installs the wheel and the sdist, and runs the demo
        ("ardm demo", "scripts/release.py --pair"),
        ('pip install -e ".[test]"', 'uv pip install --quiet -e ".[test,bench]"\n'),
        ("python -m pytest", "python -m pytest"),
    ]:
        assert told in commands
        assert run in script


def test_links_lead_somewhere():
    """On the pages beside the README too; the site's builder checks docs/."""
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith(("http", "mailto:")):
                assert (ROOT / target).exists(), (page.name, target)
