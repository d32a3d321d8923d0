"""Compares the training speed of HierTCN with its alternatives, in one run on the same log.

    python -m benchmarks.peers.run --data_dir=D --env=torch=PYTHON --env=recbole=PYTHON \
        --env=gru4rec=PYTHON --gru4rec_dir=CHECKOUT --json=FILE

benchmarks/peers/README.md says how to make the environments and what is counted.
"""

import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from benchmarks.common import require_directory, write_report
from benchmarks.peers.events import labels_per_epoch
from benchmarks.peers.export import read_train_part, write_recbole
from benchmarks.peers.grid import Grid
from benchmarks.peers.workers import Slice, Worker, WorkerError
from data_pipelines.commands.command import run_command
from data_pipelines.errors import DataError
from experiments.runs.data import Data, open_data

ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "hiertcn": ("hiertcn", ("--loss=sampled_softmax",)),
    "hiertcn_full_softmax": ("hiertcn", ("--loss=cross_entropy",)),
    "torch_hiertcn_grid": ("torch", ()),
    "torch_hiertcn_grid_tight": ("torch", ("--tight",)),
    "gru4rec_official": ("gru4rec", ()),
    "recbole_gru4rec": ("recbole", ("--model=GRU4Rec",)),
    "recbole_sasrec": ("recbole", ("--model=SASRec",)),
    "recbole_nextitnet": ("recbole", ("--model=NextItNet",)),
}
"""The rows to measure: worker (and environment) of each, and its arguments."""

OURS = ("hiertcn", "hiertcn_full_softmax")
TRIES = 20
ENVIRONMENTS = ("torch", "gru4rec", "recbole")


class Settings(NamedTuple):
    """What the flags say."""

    data_dir: Path
    json: Path
    environments: dict[str, str]
    gru4rec_dir: Path | None
    rounds: int
    seconds: float
    other_cores: float


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("data_dir", None, "Prepared data.", required=True)
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    define_environment_flag()
    flags.DEFINE_string("gru4rec_dir", None, "Checkout of hidasib/GRU4Rec_PyTorch_Official.")
    flags.DEFINE_integer("rounds", 3, "Slices of each row, in turns.", lower_bound=1)
    flags.DEFINE_float("seconds", 4.0, "Seconds of a slice.", lower_bound=0.1)
    flags.DEFINE_float(
        "other_cores",
        0.2,
        "Most cores that other processes may keep busy. A slice with more is repeated, up to "
        f"{TRIES} times, because other work slows the peers more than it slows JAX.",
        lower_bound=0.0,
    )


def define_environment_flag() -> None:
    """Defines --env."""
    flags.DEFINE_multi_string(
        "env",
        [],
        f"name=python, the Python of a peer's environment; names: {', '.join(ENVIRONMENTS)}. "
        "Peers without an environment are left out.",
    )


def read_environments() -> dict[str, str]:
    """The Python of each environment in --env.

    Raises:
      ValueError: A name is unknown or occurs twice, or its Python is no program.
    """
    environments: dict[str, str] = {}
    for item in flags.FLAGS.env:
        name, _, python = item.partition("=")
        if name not in ENVIRONMENTS or name in environments:
            raise ValueError(f"flag --env={item}: expected one of {', '.join(ENVIRONMENTS)}, once")
        if not (Path(python).is_file() and os.access(python, os.X_OK)):
            raise ValueError(f"flag --env={item}: {python or 'nothing'} is no program")
        environments[name] = os.path.abspath(python)
    return environments


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: A value is invalid.
    """
    values = flags.FLAGS
    environments = read_environments()
    gru4rec_dir = None if values.gru4rec_dir is None else Path(values.gru4rec_dir).absolute()
    if "gru4rec" in environments and gru4rec_dir is None:
        raise ValueError("flag --gru4rec_dir: --env=gru4rec needs it")
    if gru4rec_dir is not None and not (gru4rec_dir / "gru4rec_pytorch.py").is_file():
        raise ValueError(f"flag --gru4rec_dir={gru4rec_dir}: has no gru4rec_pytorch.py")
    require_directory(values.json)
    return Settings(
        Path(values.data_dir).absolute(),
        Path(values.json),
        environments,
        gru4rec_dir,
        values.rounds,
        values.seconds,
        values.other_cores,
    )


def measure(settings: Settings, data: Data) -> dict[str, dict[str, Any]]:
    """Starts all workers, lets them train in turns, and summarizes.

    Raises:
      DataError: The log has no train part.
      WorkerError: A worker ended, counted the wrong labels, or was always disturbed.
    """
    with contextlib.ExitStack() as closing:
        scratch = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="peers_")))
        labels = _export(data, scratch)
        workers: dict[str, Worker] = {}
        descriptions: dict[str, dict[str, Any]] = {}
        for name, (kind, arguments) in ROWS.items():
            if kind != "hiertcn" and kind not in settings.environments:
                continue
            directory = scratch / name
            directory.mkdir()
            command = [*_program(kind, settings, scratch), *arguments]
            workers[name] = Worker(name, command, directory)
            closing.callback(workers[name].close)
            # One at a time, because a starting worker would disturb others that warm up.
            descriptions[name] = workers[name].wait_until_ready()
            _require_labels(name, descriptions[name]["labels_per_epoch"], labels[kind])
            print(f"{name}: ready", flush=True)
        rounds = [
            {name: train_undisturbed(name, worker, settings) for name, worker in workers.items()}
            for _ in range(settings.rounds)
        ]
    return {name: {**summarise(name, rounds), **descriptions[name]} for name in workers}


def _require_labels(name: str, counted: int, expected: int) -> None:
    if counted != expected:
        raise WorkerError(
            f"{name}: counts {counted:,} labels an epoch, the log has {expected:,} for it"
        )


def train_undisturbed(name: str, worker: Worker, settings: Settings) -> Slice:
    """A slice during which the machine did little else; prints every attempt.

    Raises:
      WorkerError: The worker ended, or the machine stayed busy.
    """
    for _ in range(TRIES):
        piece = worker.train(settings.seconds)
        busy = piece.other_cpu_seconds / piece.seconds
        print(f"{name}: {piece.labels_per_s:,.0f} events/s, {busy:.2f} cores busy otherwise")
        if busy <= settings.other_cores:
            return piece
    raise WorkerError(
        f"other processes keep {busy:.1f} cores busy, more than other_cores="
        f"{settings.other_cores}, in each of {TRIES} slices"
    )


def _export(data: Data, directory: Path) -> dict[str, int]:
    """Writes the files that the peers read; returns the labels of an epoch for each worker."""
    try:
        events = read_train_part(data.histories, data.vocabulary.size)
    except DataError as error:
        raise DataError(f"{data.directory}: {error}") from error
    events.save(directory)
    write_recbole(events, directory)
    return labels_per_epoch(events, Grid().events)


def _program(kind: str, settings: Settings, exported: Path) -> list[str]:
    """The command of a worker, without the arguments of a row."""
    python = settings.environments.get(kind, sys.executable)
    program = [python, "-m", f"benchmarks.peers.worker_{kind}"]
    if kind == "hiertcn":
        return [*program, f"--data_dir={settings.data_dir}"]
    if kind == "gru4rec":
        program.append(f"--gru4rec_dir={settings.gru4rec_dir}")
    return [*program, f"--events={exported}"]


def summarise(name: str, rounds: Sequence[Mapping[str, Slice]]) -> dict[str, Any]:
    """The figures of one row.

    Args:
      name: The row.
      rounds: For each round the slice of every row.

    Returns:
      events_per_s: labels a second, the median over the rounds; its lowest and highest; batches a
      second; processor time per second of the clock (cores) of the worker, and of everything else;
      and how many times as fast each of our rows was: the median of the ratios within a round.
    """
    slices = [slices_of_round[name] for slices_of_round in rounds]
    rates = [piece.labels_per_s for piece in slices]
    figures = {
        "events_per_s": round(statistics.median(rates)),
        "events_per_s_min": round(min(rates)),
        "events_per_s_max": round(max(rates)),
        "batches_per_s": round(statistics.median(s.batches / s.seconds for s in slices), 2),
        "cores": round(statistics.median(s.cpu_seconds / s.seconds for s in slices), 2),
        "other_cores_max": round(max(s.other_cpu_seconds / s.seconds for s in slices), 2),
    }
    for ours in OURS:
        ratios = [pieces[ours].labels_per_s / pieces[name].labels_per_s for pieces in rounds]
        figures[f"{ours}_times"] = round(statistics.median(ratios), 2)
    return figures


def main(settings: Settings) -> None:
    """Measures, prints and writes the file."""
    data = open_data(settings.data_dir)
    rows = measure(settings, data)
    for name, row in rows.items():
        print(
            f"{name:26} {row['events_per_s']:>7,} events/s, {row['parameters']:,} parameters; "
            f"hiertcn is {row['hiertcn_times']} times as fast"
        )
    write_report(settings.json, "models", rows, data=data.content_hash)


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (DataError, WorkerError, OSError))
