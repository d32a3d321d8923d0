"""The blocks of README and docs that build on the quickstart run as they are written."""

import re
import subprocess
import sys

import pytest

from tests.mutate import ROOT
from tests.test_docs import blocks

pytestmark = pytest.mark.thorough


def run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """A folder in which the quickstart has run, for one epoch, and was exported."""
    folder = tmp_path_factory.mktemp("quickstart")
    flagfile = ROOT / "experiments" / "flagfiles" / "quickstart.flags"
    run(folder, "-m", "experiments.train", f"--flagfile={flagfile}", "--epochs=1", "--patience=0")
    (folder / "exports").mkdir()
    (folder / "exports" / "mine").symlink_to("quickstart")
    return folder


def test_shell_lines_about_the_quickstart(quickstart):
    """All but those of the server and of curl, which tests of the server stand for."""
    texts = {name: (ROOT / name).read_text() for name in ("README.md", "docs/serving.md")}
    # Lines of blocks, and commands within a sentence.
    pattern = r"^\.venv/bin/hiertcn ([^\n]+)|`\.venv/bin/hiertcn ([^`]+)`"
    found = [
        first or second
        for text in texts.values()
        for first, second in re.findall(pattern, text, re.MULTILINE)
    ]
    lines = [line for line in dict.fromkeys(found) if not line.startswith("serve")]
    assert {line.split()[0] for line in lines} == {"export", "recommend", "report"}
    for line in lines:
        run(quickstart, "-m", "experiments", *line.split())
    assert (quickstart / "recs.parquet").exists() and (quickstart / "report.html").exists()


@pytest.mark.parametrize("name", ["README.md", "docs/recommend.md"])
def test_python_of_the_quickstart(quickstart, name):
    content = [text for language, text in blocks((ROOT / name).read_text()) if language == "python"]
    (block,) = [text for text in content if 'load("runs/quickstart")' in text]
    run(quickstart, "-c", block)


def test_python_of_an_export_without_jax(quickstart):
    content = blocks((ROOT / "docs" / "recommend.md").read_text())
    (block,) = [text for language, text in content if language == "python" and "OnnxStream" in text]
    if not (quickstart / "exports" / "quickstart").exists():
        run(quickstart, "-m", "experiments", "export", "--workdir=runs/quickstart",
            "--output_dir=exports/quickstart")  # fmt: skip
    run(quickstart, "-c", f"{block}\nimport sys\nassert 'jax' not in sys.modules")
