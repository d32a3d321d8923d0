"""Kills runs again and again, and checks that they end exactly as an undisturbed run: bit for bit.

    python -m benchmarks.chaos --kills=200 --json=FILE

Trains a tiny model on a tiny synthetic log by the real command. First once in each item mode
without a kill, then in chains: the same command starts and is killed with SIGKILL,
`--kills_per_run` times, and then runs to its end. Each kill waits for one of the moments in
`benchmarks.kills`, in random order. Each start is a new process, forked with the libraries
imported; the command itself runs from there on. At the end these must be equal: all arrays of all
checkpoints, the loader's states, metrics.jsonl except its times, valid.json and test.json.

With `--processes=2` a run is two processes of two simulated devices each, with fresh interpreters.
Which of the two is killed is random. The other ends by itself: at once if the first was killed,
otherwise within seconds.

Cases: `all`, and each kind of moment, with what was half done at the kill.
"""

import functools
import math
import os
import random
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from absl import flags

from benchmarks.commands import Running, Start, start_forked, start_together
from benchmarks.common import print_figures, require_directory, write_report
from benchmarks.kills import KINDS, Sight, draw_moment, kill_at
from benchmarks.run_differences import differences, journal
from data_pipelines.commands.command import run_command

MODES = ("dense", "rows")
# Some 10 steps an epoch, with a validation at its end; checkpoints, lines and epochs fall on
# different steps.
_FLAGS = (
    "--item_dim=4", "--gru_dim=3", "--tcn_channels=3", "--kernel_size=2", "--dropout=0.1",
    "--negatives=popularity:16", "--learning_rate=0.01", "--lanes=16", "--events=16",
    "--sessions=4", "--log_every_steps=2", "--checkpoint_every_steps=3", "--eval_lanes=8",
    "--eval_events=64", "--eval_sessions=32",
)  # fmt: skip


class Chain(NamedTuple):
    """A run that was killed, and how it ended.

    Attributes:
      sights: For each kill: its kind, and what the workdir contained.
      differences: Names of what differs from the undisturbed run.
    """

    sights: list[tuple[str, Sight]]
    differences: list[str]


class DifferenceError(Exception):
    """A run that was killed ended differently."""


class Chaos:
    """Runs by the real command, on one log.

    Args:
      directory: For the log, the runs, and the compiled programs that they share.
      steps: Steps of each run.
      start: Starts a command of one process.
      processes: 1 or 2, that train together.
    """

    def __init__(self, directory: Path, steps: int, start: Start, processes: int = 1) -> None:
        self._directory, self._steps, self._start = directory, steps, start
        self._processes = processes
        self._is_stopped = False
        self._data, log = directory / "log", directory / "whole.txt"
        command = ["--synthetic=planted", "--synthetic_users=40", f"--output_dir={self._data}"]
        _require_success(start(["data_pipelines.prepare", *command], log), log)

    def reference(self, mode: str) -> Path:
        """The workdir of a run without a kill."""
        workdir = self._directory / f"reference_{mode}"
        if not workdir.exists():
            self._finish(mode, workdir, self._directory / "whole.txt")
        return workdir

    def chain(self, mode: str, name: str, kinds: list[str], seed: int) -> Chain:
        """Kills a run at moments of these kinds, one after another, and then lets it end.

        Args:
          mode: Item mode.
          name: Name of its workdir.
          kinds: Each from `KINDS`.
          seed: Seed of the random choices.
        """
        reference, workdir = self.reference(mode), self._directory / name
        validations = {line["step"] for line in journal(reference) if line["kind"] == "valid"}
        log, victims = self._directory / f"{name}.txt", random.Random(f"victims {seed}")
        rng, sights = random.Random(seed), list[tuple[str, Sight]]()
        for kind in kinds:
            if self._is_stopped:
                return Chain(sights, ["stopped"])
            moment, victim = draw_moment(rng, kind), victims.randrange(self._processes)
            start = functools.partial(self._train, mode, workdir, log, victim)
            sight = kill_at(start, workdir, moment, validations)
            if sight is None:
                break
            sights.append((kind, sight))
        self._finish(mode, workdir, log)
        return Chain(sights, differences(workdir, reference))

    def stop(self) -> None:
        """Makes chains in other threads end after their next kill."""
        self._is_stopped = True

    def _train(self, mode: str, workdir: Path, log: Path, victim: int = 0) -> Running:
        command = [
            "experiments.train", f"--data_dir={self._data}", f"--workdir={workdir}",
            f"--item_mode={mode}", f"--steps={self._steps}", *_FLAGS,
        ]  # fmt: skip
        if self._processes == 1:
            return self._start(command, log)
        parts = ["--model_parallelism=2"] if mode == "rows" else []
        return start_together([*command, *parts], log, self._directory / "programs", victim)

    def _finish(self, mode: str, workdir: Path, log: Path) -> None:
        _require_success(self._train(mode, workdir, log), log)


def _require_success(process: Running, log: Path) -> None:
    if code := process.wait():
        raise RuntimeError(f"exit code {code}: {log.read_text()[-500:]}")


def cached_programs(directory: Path) -> dict[str, str]:
    """Environment variables that make commands share their compiled programs."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(directory),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def figures(chains: list[Chain], seconds: float) -> dict[str, dict[str, float]]:
    """The cases of the report."""
    sights = [entry for chain in chains for entry in chain.sights]
    cases = {kind: _half_done([s for k, s in sights if k == kind]) for kind in KINDS}
    every = _half_done([sight for _, sight in sights])
    ended = {"runs": len(chains), "different": sum(bool(c.differences) for c in chains)}
    return {"all": every | ended | {"minutes": round(seconds / 60, 1)}, **cases}


def _half_done(sights: list[Sight]) -> dict[str, float]:
    """The number of kills, and what was half done at them."""
    behind = Counter(
        name
        for s in sights
        for name, holds in (
            ("while_a_checkpoint_was_written", s.writing),
            ("with_steps_that_were_not_saved", s.step > max(s.steps, default=0)),
            ("before_the_first_checkpoint", not s.steps),
        )
        if holds
    )
    return {"kills": len(sights), **dict(sorted(behind.items()))}


class Settings(NamedTuple):
    """The command's flags."""

    json: str
    kills: int
    kills_per_run: int
    steps: int
    seed: int
    jobs: int
    processes: int


def read_settings() -> Settings:
    """The settings of the parsed flags."""
    values = flags.FLAGS
    require_directory(values.json)
    return Settings(
        values.json,
        values.kills,
        values.kills_per_run,
        values.steps,
        values.seed,
        values.jobs,
        values.processes,
    )


def run_chains(chaos: Chaos, settings: Settings) -> list[Chain]:
    """Runs as many chains as needed, and reports each as it ends."""
    chains: list[Chain] = []

    def run_chain(number: int) -> Chain:
        rng = random.Random(f"{settings.seed} {number}")
        kinds = rng.sample([kind for kind in KINDS if kind != "results"] * 4, k=24)
        kinds = [*kinds[: settings.kills_per_run - 1], "results"]
        chain = chaos.chain(MODES[number % 2], f"run_{number}", kinds, number)
        print(f"run {number}: {len(chain.sights)} kills", *chain.differences, flush=True)
        return chain

    with ThreadPoolExecutor(settings.jobs) as pool:
        try:
            list(pool.map(chaos.reference, MODES))
            while (done := sum(len(chain.sights) for chain in chains)) < settings.kills:
                missing = math.ceil((settings.kills - done) / settings.kills_per_run)
                chains += pool.map(run_chain, range(len(chains), len(chains) + missing))
        except BaseException:
            chaos.stop()
            raise
    return chains


def main(settings: Settings) -> None:
    """Kills, compares, prints and writes the file.

    Raises:
      DifferenceError: A run that was killed ended differently.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hiertcn_jax_chaos_") as directory:
        os.environ.update(cached_programs(Path(directory) / "programs"))
        # It reports what killed processes left, and removes it.
        os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"
        chaos = Chaos(Path(directory), settings.steps, start_forked, settings.processes)
        chains = run_chains(chaos, settings)
    cases = figures(chains, time.monotonic() - started)
    print_figures(cases)
    write_report(settings.json, "cases", cases)
    if cases["all"]["different"]:
        raise DifferenceError(f"{cases['all']['different']} runs ended differently, see above")


if __name__ == "__main__":
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_integer("kills", 200, "Number of kills, at least.", lower_bound=1)
    flags.DEFINE_integer("kills_per_run", 20, "Kills before a run may end.", 2, 25)
    flags.DEFINE_integer("steps", 200, "Steps of a run.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the moments.", lower_bound=0)
    flags.DEFINE_integer("jobs", 2, "Runs at a time.", lower_bound=1)
    flags.DEFINE_integer("processes", 1, "Processes that train together.", 1, 2)
    run_command(read_settings, main, (DifferenceError, OSError, RuntimeError))
