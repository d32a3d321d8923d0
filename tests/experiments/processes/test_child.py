"""A command that ends with the process that started it."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.processes.child import child_command

ROOT = Path(__file__).parents[3]

FOREVER = """
import os, signal
print(os.getpid(), flush=True)
signal.pause()
"""

PARENT = """
import signal, subprocess
from experiments.processes.child import child_command
subprocess.Popen(child_command("forever"))
signal.pause()
"""


@pytest.fixture
def environment(tmp_path):
    """A folder with the module `forever`, which prints its process id and waits."""
    (tmp_path / "forever.py").write_text(FOREVER)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it on Linux alone")
@pytest.mark.parametrize("stopped", [False, True])
def test_a_command_ends_with_a_parent_that_is_killed(environment, stopped):
    """Whatever it is doing: a command paused by a debugger ends too."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], env=environment, stdout=subprocess.PIPE, text=True
    )
    child = int(parent.stdout.readline())
    handle = os.pidfd_open(child)
    try:
        if stopped:
            os.kill(child, signal.SIGSTOP)
        assert not select.select([handle], [], [], 0)[0]
        parent.kill()
        parent.wait()
        # Reading ends once the process has ended.
        assert select.select([handle], [], [], 60)[0]
    finally:
        parent.stdout.close()
        if not select.select([handle], [], [], 0)[0]:
            os.kill(child, signal.SIGKILL)
        os.close(handle)


@pytest.fixture
def says(tmp_path, environment):
    """A module that prints its command line, and ends."""
    (tmp_path / "says.py").write_text("import sys\nprint(sys.orig_argv[1:])\nsys.exit(3)\n")
    return "says"


def test_a_command_whose_parent_has_ended_before_does_not_begin(says, environment):
    command = child_command(says)
    command[command.index(str(os.getpid()))] = str(os.getppid())
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: says: process {os.getppid()}, which started it, has ended\n"


def test_a_command_gets_its_arguments_and_gives_its_exit_code(says, environment):
    command = child_command(says, "--flagfile=a b", "-x")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout == "['-m', 'says', '--flagfile=a b', '-x']\n"
