"""The documents: links lead somewhere, commands and flags exist, Python is Python."""

import ast
import re

import pytest

from experiments.__main__ import COMMANDS
from tests.mutate import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def blocks(text):
    """Language and content of each fenced block."""
    return re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)


def anchors(text):
    """The names that a public host gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text()), link


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist(name):
    text = (ROOT / name).read_text()
    named = re.findall(r"\bhiertcn ((?!COMMAND)[a-z]+)(?= --| help|`)", text)
    assert set(named) <= set(COMMANDS), name
    modules = re.findall(r"python -m (experiments|data_pipelines|benchmarks)\.([a-z_.]+\b)", text)
    for package, module in modules:
        path = ROOT / package / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or path.is_dir(), module


@pytest.mark.parametrize("name", NAMES)
def test_python_is_python(name):
    for language, content in blocks((ROOT / name).read_text()):
        if language == "python":
            ast.parse(content)


def test_readme_is_a_screen_of_reading():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100
