"""Tests whether the loader of given embeddings keeps up, with 20 own negatives for each event.

    python -m benchmarks.given_loader --json=FILE [--items=1000000 --embedding_cache_mb=1024]

Runs hiertcn's training step in `given` mode, with sessions as long as Globo's, on a file of random
float16 rows. Three cases take turns: `step` repeats one batch; `step_with_loader` takes batches
from the loader, which a thread prepares ahead; `loader` only makes batches. `times_step` is the
time of a batch divided by that of `step`, the median of the turns. `cpu_*` are the same figures in
processor time of all threads of the process: the time on a single core, where the step cannot hide
any of the loader's work.
"""

import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from absl import flags

from benchmarks.bucket import define_bucket_flags, read_bucket
from benchmarks.common import print_figures, require_directory, write_report
from benchmarks.ranking import open_rows
from benchmarks.row_cache import write_rows
from benchmarks.users import draw_users
from data_pipelines.commands.command import run_command
from data_pipelines.errors import DataError
from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import train_loader
from hiertcn_jax.batch import FIRST_ITEM_ID, Batch, Bucket
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.objective import make_sources
from hiertcn_jax.learning.optimizer import Optimizer, OptimizerConfig
from hiertcn_jax.learning.train_state import init_train_state
from hiertcn_jax.learning.train_step import make_train_step
from hiertcn_jax.models import build
from hiertcn_jax.models.hiertcn import HierTCNConfig


class Settings(NamedTuple):
    """The command's flags.

    Attributes:
      bucket: Shape of a batch.
      items: Size of the catalogue.
      width: `d`.
      negatives: Negatives of each event.
      users: How many to draw; batches read them again and again.
      cache_bytes: Memory for embeddings.
      batches: Batches of each case in a turn.
      turns: Turns of each case.
      json: The file to write.
    """

    bucket: Bucket
    items: int
    width: int
    negatives: int
    users: int
    cache_bytes: int
    batches: int
    turns: int
    json: str


class Trainer:
    """The training step in `given` mode, and its state."""

    def __init__(self, settings: Settings) -> None:
        config = HierTCNConfig(item_dim=settings.width, item_mode="given", item_bias=False)
        loss = LossConfig(
            name="nce", negatives=(("popularity", settings.negatives),), own_negatives=True
        )
        optimizer = Optimizer(OptimizerConfig(), optax.constant_schedule(1e-3), rows=False)
        model = build(config)
        lanes, rows = settings.bucket.lanes, settings.items + FIRST_ITEM_ID
        self._state = init_train_state(jax.random.key(0), model, config, optimizer, lanes, rows)
        self._step = make_train_step(model, config, loss, optimizer, seed=0)
        self._sources = make_sources(loss, None)
        self._metrics: list[Any] = []

    def run(self, batch: Batch) -> None:
        """Starts one step, after waiting for the previous one; it may still run on return."""
        self._state, metrics = self._step(self._state, batch, self._sources)
        self._metrics.append(metrics)
        jax.block_until_ready(self._metrics[:-1])
        del self._metrics[:-1]

    def wait(self) -> None:
        """Waits for all steps."""
        jax.block_until_ready(self._state)


def make_loader(settings: Settings, path: Path, prefetch: int) -> Any:
    """Endless batches with given embeddings and negatives by popularity."""
    embeddings = open_rows(path, settings.items, settings.cache_bytes)
    weight_v = np.zeros(embeddings.table_rows)
    weight_v[FIRST_ITEM_ID:] = 1 / np.sqrt(np.arange(1, settings.items + 1))
    with np.errstate(divide="ignore"):
        log_q_v = np.log(weight_v / weight_v.sum()).astype(np.float32)
    rows = ItemRows(
        embeddings.table_rows,
        settings.negatives,
        shared=False,
        weight_v=weight_v,
        given=embeddings,
        log_q_mv=(log_q_v,),
    )
    users = draw_users(settings.users, settings.items, seed=0)
    return train_loader(users, settings.bucket, seed=0, item_rows=rows, prefetch=prefetch)


def measure(settings: Settings) -> dict[str, dict[str, float]]:
    """Figures of all cases."""
    trainer = Trainer(settings)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rows.npy"
        write_rows(path, settings.items, settings.width)
        ahead, alone = (iter(make_loader(settings, path, prefetch)) for prefetch in (2, 0))
        fixed, _ = next(alone)

        def train(batches: Callable[[], Batch]) -> None:
            for _ in range(settings.batches):
                trainer.run(batches())
            trainer.wait()

        cases: dict[str, Callable[[], Any]] = {
            "step": functools.partial(train, lambda: fixed),
            "step_with_loader": functools.partial(train, lambda: next(ahead).batch),
            "loader": lambda: list(itertools.islice(alone, settings.batches)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        cpu_seconds: dict[str, list[float]] = {name: [] for name in cases}
        cases["step_with_loader"]()
        for _ in range(settings.turns):
            for name, case in cases.items():
                clock, cpu_clock = time.perf_counter(), time.process_time()
                case()
                seconds[name].append((time.perf_counter() - clock) / settings.batches)
                cpu_seconds[name].append((time.process_time() - cpu_clock) / settings.batches)
        ahead.close()
    events = int(np.count_nonzero(fixed.loss_weight_bl))
    return {
        name: {
            "ms_per_batch": round(1000 * statistics.median(values), 1),
            "times_step": _ratio(values, seconds["step"]),
            "cpu_ms_per_batch": round(1000 * statistics.median(cpu_seconds[name]), 1),
            "cpu_times_step": _ratio(cpu_seconds[name], cpu_seconds["step"]),
            "events_per_s": round(events / statistics.median(values)),
            "distinct_items": max(int(ids.max()) for ids in fixed.ids.values()),
            "items": settings.items,
            "width": settings.width,
            "negatives": settings.negatives,
            "cache_bytes": settings.cache_bytes,
        }
        for name, values in seconds.items()
    }


def _ratio(values: list[float], steps: list[float]) -> float:
    """The median over the turns of the ratio to `step`."""
    return round(statistics.median(a / b for a, b in zip(values, steps, strict=True)), 3)


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    define_bucket_flags()
    flags.DEFINE_integer("items", 1_000_000, "Size of the catalogue.", lower_bound=2)
    flags.DEFINE_integer("width", 128, "Values of an embedding.", lower_bound=1)
    flags.DEFINE_integer("negatives", 20, "Negatives of each event.", lower_bound=1)
    flags.DEFINE_integer("users", 20_000, "Users drawn.", lower_bound=1)
    flags.DEFINE_integer("embedding_cache_mb", 1024, "MiB of embeddings in memory.", lower_bound=0)
    flags.DEFINE_integer("batches", 4, "Batches of each case in a turn.", lower_bound=1)
    flags.DEFINE_integer("turns", 5, "Turns of each case.", lower_bound=1)


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: The file cannot be written.
    """
    values = flags.FLAGS
    require_directory(values.json)
    return Settings(
        read_bucket(),
        values.items,
        values.width,
        values.negatives,
        values.users,
        values.embedding_cache_mb << 20,
        values.batches,
        values.turns,
        values.json,
    )


def main(settings: Settings) -> None:
    """Measures, prints and writes the file."""
    cases = measure(settings)
    print_figures(cases)
    write_report(settings.json, "cases", cases)


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (DataError, OSError))
