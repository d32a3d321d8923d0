"""Measures the start: imports compared with that of jax, and the quickstart's first step.

    python -m benchmarks.startup --json=FILE

Each import runs in a fresh interpreter, from its start to its end. Each turn runs all of them; the
ratio is the median over the turns. `quickstart` is the README's first training run from the start
of its process, in an empty directory: it makes its synthetic log, compiles, and takes one step. All
files were read before, so they come from the system's cache.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from absl import flags

from benchmarks.common import print_figures, require_directory, write_report
from data_pipelines.commands.command import run_command

IMPORTS = {
    "jax": "jax",
    "hiertcn_jax": "hiertcn_jax",
    "models": "hiertcn_jax.models",
    "training": "hiertcn_jax.models, "
    "hiertcn_jax.learning.train_step, hiertcn_jax.saving.checkpoint",
}
"""The modules to import, by the name of the case."""

_ROOT = Path(__file__).parents[1]
_QUICKSTART = "experiments/flagfiles/quickstart.flags"
_LOOK_EVERY_S = 0.02


class Settings(NamedTuple):
    """What the flags say."""

    rounds: int
    quickstart: bool
    json: str


def measure_imports(rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of each import, and the ratio to that of jax in the same turn."""
    seconds: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for _ in range(rounds + 1):
        for name, modules in IMPORTS.items():
            clock = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {modules}"], cwd=_ROOT, check=True)
            seconds[name].append(time.perf_counter() - clock)
    # The first turn brought the files into memory.
    turns = {name: values[1:] for name, values in seconds.items()}
    return {
        name: {
            "import_s": round(statistics.median(values), 3),
            "times_import_of_jax": round(
                statistics.median(
                    own / of_jax for own, of_jax in zip(values, turns["jax"], strict=True)
                ),
                3,
            ),
        }
        for name, values in turns.items()
    }


def seconds_to_first_step(arguments: list[str], workdir: Path, limit_s: float = 300.0) -> float:
    """Seconds from the start of a training process to the line of its first step.

    Args:
      arguments: Of experiments.train, besides `--workdir` and the interval of lines.
      workdir: Of the run; the run is stopped after the line.
      limit_s: When to give up.

    Raises:
      RuntimeError: The process ended, or the limit passed, before its first step.
    """
    command = [
        *(sys.executable, "-m", "experiments.train", *arguments),
        *(f"--workdir={workdir}", "--log_every_steps=1"),
    ]
    clock = time.perf_counter()
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            lines = workdir / "metrics.jsonl"
            while not (lines.exists() and lines.stat().st_size):
                if process.poll() is not None or time.perf_counter() - clock > limit_s:
                    raise RuntimeError(f"no first step of: {' '.join(command)}")
                time.sleep(_LOOK_EVERY_S)
            return time.perf_counter() - clock
        finally:
            process.kill()


def measure_quickstart() -> dict[str, float]:
    """Figures of the README's first training run."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        arguments = [f"--flagfile={_QUICKSTART}", f"--data_dir={root / 'data'}"]
        fresh = seconds_to_first_step(arguments, root / "first")
        prepared = seconds_to_first_step(arguments, root / "second")
    return {
        "first_step_s": round(fresh, 2),
        "first_step_with_data_there_s": round(prepared, 2),
    }


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_integer("rounds", 5, "Turns.", lower_bound=1)
    flags.DEFINE_bool("quickstart", True, "Whether to measure the quickstart too.")


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: The file cannot be written.
    """
    values = flags.FLAGS
    require_directory(values.json)
    return Settings(values.rounds, values.quickstart, values.json)


def main(settings: Settings) -> None:
    """Measures, prints and writes the file."""
    cases = measure_imports(settings.rounds)
    if settings.quickstart:
        cases["quickstart"] = measure_quickstart()
    print_figures(cases)
    write_report(settings.json, "cases", cases)


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (OSError, RuntimeError))
