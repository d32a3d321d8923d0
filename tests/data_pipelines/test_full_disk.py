"""prepare on a disk that is full: one line that names the directory, and nothing of it is left."""

import errno
import resource
import subprocess
import sys

import pytest

from data_pipelines.prepare import prepare
from tests.data_pipelines.prepare_logs import config_of
from tests.data_pipelines.test_prepare_command import ROOT, run

_LIMITED = """
import resource, runpy, sys
limit, module = int(sys.argv.pop(1)), sys.argv.pop(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def small_files():
    """Sets how large a file may become, as if the disk were full; given back at the end."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_whichever_file_does_not_fit(tmp_path, small_files):
    """The histories, the vocabulary, the embeddings or the manifest."""
    config, outcomes = config_of(tmp_path, svd_embeddings=2), set()
    before = sorted(path.name for path in tmp_path.iterdir())
    for limit in (0, 100, 200, 400, 800, 1600, 2400):
        small_files(limit)
        with pytest.raises(OSError) as caught:
            prepare(config)
        error = caught.value
        outcomes.add(error.errno)
        assert config.output_dir in (error.filename, str(error).partition(":")[0])
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert errno.EFBIG in outcomes
    small_files(1 << 20)
    prepare(config)


def test_the_command_says_it_in_one_line(tmp_path):
    config = config_of(tmp_path)
    command = [sys.executable, "-c", _LIMITED, "200", "data_pipelines.prepare"]
    arguments = [f"--input={config.input[0]}", "--time_unit=s", "--allow_odd_times"]
    arguments += [f"--output_dir={config.output_dir}"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    advice = "raise the limit on the size of files (ulimit -f)"
    assert done.stderr == f"error: {config.output_dir}: File too large; {advice}\n"
    assert run(*arguments).returncode == 0
