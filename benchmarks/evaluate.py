"""Times an evaluation: all scored events of a split, ranked over the whole catalogue.

    python -m benchmarks.evaluate --flagfile=experiments/flagfiles/globo.flags --data_dir=D --json=F

The model is untrained, because its quality does not change the cost of ranking. After the first
evaluation (`first_s`) histories are in memory and programs compiled; `seconds` is the median of the
later ones, from fresh carries to the metrics. `--memory=world,followers,own` times the same with
the terms of memory; their counts are built before the clock starts.
"""

import statistics
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import optax
from absl import flags

from benchmarks.common import require_directory, write_report
from data_pipelines.commands.command import run_command
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from experiments.flags.run_flags import define_config_flags, read_run_config
from experiments.judging.evaluation import Evaluator
from experiments.runs.config import RunConfig
from experiments.runs.data import Data, open_data
from experiments.runs.recall import recall_of
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.learning.optimizer import Optimizer
from hiertcn_jax.learning.train_state import init_train_state
from hiertcn_jax.models import build


class Settings(NamedTuple):
    """What the flags say."""

    run: RunConfig
    data_dir: Path
    split: Split
    repeats: int
    json: str


def measure(run: RunConfig, data: Data, split: Split, repeats: int) -> dict[str, float]:
    """Times evaluations of one model on one split, this many after the first."""
    model, rows = build(run.model), data.vocabulary.size
    optimizer = Optimizer(run.optimizer, optax.constant_schedule(0.0), rows=False)
    params = init_train_state(jax.random.key(0), model, run.model, optimizer, 1, rows).params
    evaluator = Evaluator(
        model,
        run.model,
        run.evaluation,
        data,
        split,
        recall=recall_of(data, run.model, run.train.fit_on),
    )
    clock = time.perf_counter()
    evaluation = evaluator(params)
    first = time.perf_counter() - clock
    seconds = []
    for _ in range(repeats):
        clock = time.perf_counter()
        evaluation = evaluator(params)
        seconds.append(time.perf_counter() - clock)
    events = len(evaluation.rank_n)
    median = statistics.median(seconds)
    return {
        "seconds": round(median, 3),
        "seconds_lowest": round(min(seconds), 3),
        "seconds_highest": round(max(seconds), 3),
        "first_s": round(first, 3),
        "scored_events": events,
        "scored_events_per_s": round(events / median),
        "read_events": _read_events(data, split),
        "catalogue_items": rows - FIRST_ITEM_ID,
    }


def _read_events(data: Data, split: Split) -> int:
    """How many events an evaluation reads: the scored sessions, and all before them."""
    histories = data.histories.__getitems__(range(len(data.histories)))
    return sum(
        int(np.sum(history.session_lengths[history.session_splits <= split]))
        for history in histories
        if np.any(history.session_splits == split)
    )


def define_flags() -> None:
    """Defines the flags of this command."""
    define_config_flags()
    flags.DEFINE_string("data_dir", None, "Directory that data_pipelines.prepare made.")
    flags.DEFINE_string("json", None, "The file to write.")
    flags.DEFINE_enum("split", "test", ["test", "valid"], "The part to score.")
    flags.DEFINE_integer("repeats", 5, "Evaluations after the first.", lower_bound=1)
    flags.mark_flags_as_required(["data_dir", "json"])


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: The file cannot be written.
    """
    values = flags.FLAGS
    require_directory(values.json)
    return Settings(
        read_run_config(),
        Path(values.data_dir),
        Split[values.split.upper()],
        values.repeats,
        values.json,
    )


def main(settings: Settings) -> None:
    """Measures, prints and writes the file."""
    data = open_data(settings.data_dir)
    model = settings.run.model
    memory = "_memory" if model.memory else ""
    name = f"{model.name}{memory}_{settings.split.name.lower()}"
    cases = {name: measure(settings.run, data, settings.split, settings.repeats)}
    print(name, *(f"{figure}={value:,}" for figure, value in cases[name].items()))
    write_report(settings.json, "cases", cases, data_hash=data.content_hash)


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (DataError, OSError))
