"""Errors of a command: one line, whatever the message and whatever else prints."""

import os
import shlex
import signal
import subprocess
import sys

import pytest

from data_pipelines.commands.command import one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n\tb  c", "a b c"),
        ("\x1b[31mred\x00", "\\x1b[31mred\\x00"),
        ("é 日本 \u200f", "é 日本 \\u200f"),
        ("x" * 5000, f"{'x' * 1000} ... {'x' * 900}"),
    ],
    ids=["spaces", "control", "unicode", "long"],
)
def test_one_line(text, line):
    assert one_line(text) == line


_FAILS_BESIDE_A_COROUTINE = """
import types
from data_pipelines.commands.command import run_command

@types.coroutine
def wait():
    yield

async def read():
    try:
        await wait()
    finally:
        raise RuntimeError("ignored")

def main(settings):
    reading = read()
    reading.send(None)
    del reading
    raise OSError("first\\nsecond")

run_command(lambda: None, main, (OSError,))
"""


def test_stray_errors_of_libraries_are_not_printed():
    command = [sys.executable, "-c", _FAILS_BESIDE_A_COROUTINE]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "error: first second\n")


_FAILS = """
import sys
from data_pipelines.commands.command import run_command

class JaxRuntimeError(RuntimeError):
    pass

def main(settings):
    raise {error}

sys.argv = ["command"]
run_command(lambda: None, main, (OSError,))
"""


@pytest.mark.parametrize(
    ("error", "start", "end"),
    [
        (
            "MemoryError('9 GiB')",
            "memory ran out; use a machine or device with more, or",
            ": 9 GiB",
        ),
        ("JaxRuntimeError('RESOURCE_EXHAUSTED: 9 GiB')", "memory ran out; use a", ": 9 GiB"),
        ("OSError(28, 'No space left on device', 'W/x')", "W/x: No space left on device; make", ""),
    ],
)
def test_what_ran_out_is_one_line_with_what_to_do(error, start, end):
    command = [sys.executable, "-c", _FAILS.format(error=error)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(f"error: {start}") and result.stderr.endswith(f"{end}\n")


def test_an_error_of_the_program_keeps_its_traceback():
    command = [sys.executable, "-c", _FAILS.format(error="JaxRuntimeError('INTERNAL: a bug')")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")


@pytest.mark.parametrize("arguments", [("data_pipelines.prepare", "--help"), ("experiments",)])
def test_an_answer_that_nobody_can_read_is_one_line(arguments):
    full = "/dev/full"
    if not os.path.exists(full):
        pytest.skip(f"there is no {full}")
    with open(full, "w") as output:
        result = subprocess.run(
            [sys.executable, "-m", *arguments], stdout=output, stderr=subprocess.PIPE, text=True
        )
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("error: standard output or a file: No space left on device; ")


_IS_STOPPED_WHERE_EXCEPTIONS_END = """
import gc
import signal
from data_pipelines.commands.command import run_command

signals = [signal.SIGTERM]

def collects(phase, info):
    if signals:
        signal.raise_signal(signals.pop())

def main(settings):
    gc.callbacks.append(collects)
    gc.collect()
    while True:
        signal.pause()

run_command(lambda: None, main, ())
"""


def test_a_signal_during_a_garbage_collection_stops_too():
    command = [sys.executable, "-c", _IS_STOPPED_WHERE_EXCEPTIONS_END]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 143
    assert result.stderr.startswith("stopped by SIGTERM\n")
    assert result.stderr.count("Traceback") == 0


_IS_STOPPED_WHILE_IT_COMPILES = """
import atexit, signal, sys, threading
import jax
import jax.numpy as jnp
from data_pipelines.commands.command import run_command

def long(x):
    for _ in range(1000):
        x = jnp.sin(x @ x)
    return x

def signal_within_the_compiler(main_thread):
    while not sys._current_frames()[main_thread].f_code.co_filename.endswith("compiler.py"):
        pass
    signal.pthread_kill(main_thread, {number})

def main(settings):
    atexit.register(print, "ended by itself")
    lowered = jax.jit(long).lower(jnp.ones((8, 8)))
    thread = threading.Thread(target=signal_within_the_compiler, args=[threading.get_ident()])
    thread.start()
    lowered.compile()

run_command(lambda: None, main, ())
"""


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_command_that_compiles_is_stopped_without_a_crash(kind):
    """XLA's thread continues to compile while the process ends; that once crashed or hung."""
    script = _IS_STOPPED_WHILE_IT_COMPILES.format(number=int(kind))
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (128 + kind, f"stopped by {kind.name}\n")
    assert result.stdout == "ended by itself\n"


_IS_STOPPED_TWICE = """
import signal
from data_pipelines.commands.command import run_command

def main(settings):
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        print("cleaning up", flush=True)
        signal.raise_signal(signal.SIGTERM)
        signal.pause()

run_command(lambda: None, main, ())
"""


def test_the_same_signal_again_ends_a_command_at_once():
    command = [sys.executable, "-c", _IS_STOPPED_TWICE]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (143, "stopped by SIGTERM\n")
    assert result.stdout == "cleaning up\n"


_IS_STOPPED_AT_THE_VERY_END = """
import signal
from data_pipelines.commands.command import run_command

class Last:
    def __del__(self, raise_signal=signal.raise_signal):
        raise_signal({number})

def main(settings):
    signal.last = Last()

run_command(lambda: None, main, ())
"""


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_interpreter_ends_does_not_kill(kind):
    """The work is done, and Python's handlers are gone."""
    command = [sys.executable, "-c", _IS_STOPPED_AT_THE_VERY_END.format(number=int(kind))]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


_IS_STOPPED_BY_A_LIBRARY = """
from data_pipelines.commands.command import run_command

def main(settings):
    raise KeyboardInterrupt

run_command(lambda: None, main, ())
"""


def test_an_interrupt_that_a_library_caught_stops_too():
    command = [sys.executable, "-c", _IS_STOPPED_BY_A_LIBRARY]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (130, "stopped by SIGINT\n")


_FAILS_AFTER_A_SIGNAL = """
import asyncio
import errno
import signal
from data_pipelines.commands.command import run_command

def is_stopped():
    signal.raise_signal(signal.SIGTERM)

def library_raises_its_own():  # As Orbax does while it reads an array.
    try:
        is_stopped()
    except BaseException as error:
        raise Exception("cannot be read") from error

def library_forgets_the_first():  # As native code does.
    try:
        is_stopped()
    except BaseException:
        pass
    raise RuntimeError("Slice is not concrete")

def we_raise_our_own():
    try:
        library_raises_its_own()
    except Exception as error:
        raise ValueError("/run/1: state cannot be read") from error

def clean_up_fails():
    try:
        is_stopped()
    finally:
        raise OSError(errno.ENOENT, "nothing to remove")

def a_task_fails():
    async def read():
        library_raises_its_own()
    asyncio.run(read())

def disk_is_full_later():
    try:
        is_stopped()
    except BaseException:
        pass
    raise OSError(errno.ENOSPC, "disk full")

def disk_is_full_too_late():  # Said of a run that stopped by itself, and could not save.
    from data_pipelines.commands.command import StoppedError
    try:
        raise StoppedError(signal.SIGTERM, "at step 3, which is saved")
    finally:
        raise ValueError("step 3 cannot be written")

run_command(lambda: None, lambda settings: {case}(), (OSError, ValueError))
"""


@pytest.mark.parametrize(
    "case",
    [
        "is_stopped",
        "library_raises_its_own",
        "library_forgets_the_first",
        "we_raise_our_own",
        "clean_up_fails",
        "a_task_fails",
    ],
)
def test_errors_that_follow_from_a_signal_are_that_signal(case):
    result = _run(_FAILS_AFTER_A_SIGNAL.format(case=case))
    assert (result.returncode, result.stderr) == (143, "stopped by SIGTERM\n")


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("disk_is_full_later", "error: standard output or a file: disk full; make room there, "),
        ("disk_is_full_too_late", "error: step 3 cannot be written\n"),
    ],
)
def test_other_errors_after_a_signal_are_told(case, line):
    result = _run(_FAILS_AFTER_A_SIGNAL.format(case=case))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith(line)


def _run(script):
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("resumes", [True, False])
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_the_last_line_says_how_to_resume_if_possible(kind, resumes):
    script = (
        "import signal; from data_pipelines.commands.command import run_command; "
        "run_command(lambda: None, "
        f"lambda settings: signal.raise_signal({int(kind)}), (), resumes={resumes})"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 128 + kind
    again = f"; resume with: {shlex.join(command)}" if resumes else ""
    assert result.stderr == f"stopped by {kind.name}{again}\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_the_terminal_cannot_show_is_escaped(encoding):
    """Such as an umlaut in a path, or a byte in it that is no UTF-8."""
    script = (
        "from data_pipelines.commands.command import run_command; "
        r"run_command(lambda: None, lambda settings: print('\xe4\udcff'), ())"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding}, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    shown = "\\xe4" if encoding == "ascii" else "\xe4"
    assert result.stdout.decode() == f"{shown}\\udcff\n"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--flagfile=nowhere.flags", "flag --flagfile=nowhere.flags: cannot be read: No such file"),
        ("--nothing", "flag --nothing: there is no such flag"),
        ("some\x1b[1mthing", "unexpected arguments: some\\x1b[1mthing"),
    ],
)
def test_bad_flags_are_one_line(argument, message):
    script = (
        "from data_pipelines.commands.command import run_command; "
        "run_command(lambda: None, None, ())"
    )
    command = [sys.executable, "-c", script, argument]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
