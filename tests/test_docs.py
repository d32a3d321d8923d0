"""The documents: links lead somewhere, commands and flags exist, Python is Python."""

import ast
import functools
import re

import pytest

from experiments.__main__ import COMMANDS
from tests.mutate import ROOT
from tests.reference import topics_of

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FLAGFILES = [
    f"experiments/flagfiles/{path.name}"
    for path in sorted((ROOT / "experiments" / "flagfiles").glob("*.flags"))
]


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


def command_lines(text):
    """Commands in a document: (command, its flags), also where a line goes on after a backslash."""
    joined = re.sub(r"\\\n\s*", " ", text)
    pattern = r"(?:hiertcn|python -m experiments\.|python -m data_pipelines\.) ?([a-z]+)\b([^\n`]*)"
    for name, rest in re.findall(pattern, joined):
        if name in COMMANDS:
            # Words in quotes may be flags of something else, such as a runner of Beam.
            rest = re.sub(r"'[^']*'|\"[^\"]*\"", "''", rest)
            # What follows is another command, a comment or a pipe.
            rest = re.split(r"\s[#&|;]|\s(?=\.venv|hiertcn\b|python\b)", rest)[0]
            yield name, re.findall(r"(?<!\S)\[?--(\w+)", rest)


@functools.cache
def flags_of(command):
    return {name for rows in topics_of(command).values() for name in rows}


ALWAYS = {"help", "helpfull", "version", "flagfile", "preset"}


@pytest.mark.parametrize("name", [*NAMES, *FLAGFILES])
def test_flags_of_commands_exist(name):
    text = (ROOT / name).read_text()
    if name.endswith(".flags"):
        text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    for command, given in command_lines(text):
        known = flags_of(command) | ALWAYS
        unknown = [flag for flag in given if not {flag, flag.removeprefix("no")} & known]
        assert not unknown, f"hiertcn {command}: {unknown}"


@pytest.mark.parametrize("name", NAMES)
def test_presets_and_flagfiles_exist(name):
    text = (ROOT / name).read_text()
    for preset in re.findall(r"--preset=([a-z0-9_]+)\b", text):
        assert (ROOT / "experiments" / "flagfiles" / f"{preset}.flags").exists(), preset
    for path in re.findall(r"--flagfile=(experiments/[\w/.]+)", text):
        assert (ROOT / path).exists(), path


def test_a_flag_that_does_not_exist_is_found():
    text = "```\nhiertcn train --data_dir=D \\\n    --hidden=3 --nogated  # --and\n```"
    assert list(command_lines(text)) == [("train", ["data_dir", "hidden", "nogated"])]
    assert {"data_dir", "gated"} <= flags_of("train")
    assert "hidden" not in flags_of("train")


def test_readme_is_a_screen_of_reading():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100
