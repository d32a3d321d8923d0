"""--thorough: what is marked so, and the counts of what is tried in part."""

import subprocess
import sys

import pytest

from tests.mutate import ROOT

TESTS = """
import pytest
from tests.volume import few

@pytest.mark.thorough
def test_rare():
    pass

@pytest.mark.parametrize("seed", range(few(1, of=3)))
def test_common(seed):
    pass
"""


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ((), {"test_common[0]"}),
        (("--thorough",), {"test_rare", *(f"test_common[{seed}]" for seed in range(3))}),
    ],
)
def test_what_is_tried(tmp_path, more, names):
    path = tmp_path / "test_volumes.py"
    path.write_text(TESTS)
    options = ["-n0", "-q", "--collect-only", "-p", "tests.volume", f"--rootdir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", str(path), *more],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {line.rpartition("::")[2] for line in done.stdout.splitlines() if "::" in line} == names
