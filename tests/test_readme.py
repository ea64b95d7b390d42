"""The README's commands are the ones that are tested, and its Python runs."""

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
        ("pip install .", "pip install --quiet ."),
        ("ardm demo", 'ardm" demo'),
        ('pip install -e ".[test]"', 'pip install --quiet -e ".[test]"'),
        ("python -m pytest", "python -m pytest"),
    ]:
        assert told in commands
        assert run in script


def test_python_in_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = blocks("python")
    assert found
    for block in found:
        exec(compile(block, "README.md", "exec"), {})


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)", README.read_text()):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
