"""Measures recommendations event by event: JAX and onnxruntime, one user and many.

    python -m benchmarks.streaming --json=FILE [--seconds=5]

A HierTCN of the default sizes with random weights: speed does not depend on them. One user: an
event is observed, then the best items are found. Events in batches: 256 users, one event each. A
large catalogue: the best 100 of 100,000, exact. Each with and without terms of memory, whose counts
are of a log of as many events as the catalogue has items. onnxruntime has one thread for the small
catalogue and one for each core for the large one; JAX has one for each core. It takes about 3
minutes on 2 cores.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from benchmarks.common import print_figures, require_directory, write_report
from data_pipelines.commands.command import run_command
from hiertcn_jax.batch import Bucket, padding_batch
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.exporting.directory import TrainedModel, write_export
from hiertcn_jax.exporting.loading import load_export
from hiertcn_jax.item_ids import FIRST_ITEM_ID
from hiertcn_jax.memory.config import KINDS, SIZES
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.models import build, model_config
from hiertcn_jax.scoring.item_table import init_item_table
from hiertcn_jax.serving.frames import Names

GLOBO_ITEMS = 12_527
MANY_ITEMS = 100_000
BATCH = 256
_START = 1_700_000_000
_LEAST = 50
"""Calls that are measured at least."""
_GIVEN_EVENTS = 200
"""Given embeddings of this many last events are what a state is compared with."""


class Settings(NamedTuple):
    """What the flags say."""

    json: str
    seconds: float


def percentiles(call: Callable[[int], Any], seconds: float) -> dict[str, float]:
    """Milliseconds of a call, by number: median and 99th percentile."""
    for number in range(_LEAST):
        call(number)
    took: list[float] = []
    number, end = _LEAST, time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < _LEAST:
        start = time.perf_counter()
        call(number)
        took.append(1000 * (time.perf_counter() - start))
        number += 1
    return {
        "p50_ms": round(float(np.percentile(took, 50)), 3),
        "p99_ms": round(float(np.percentile(took, 99)), 3),
        "calls": len(took),
    }


def with_rate(found: dict[str, float]) -> dict[str, float]:
    """The figures of a batch of events, and events a second at the median."""
    return {**found, "events_per_s": round(1000 * BATCH / found["p50_ms"])}


def exported(directory: Path, items: int, memory: bool) -> Export:
    """The export of a model of the default sizes with random weights."""
    config = model_config("hiertcn", memory=KINDS if memory else ())
    model, rows = build(config), FIRST_ITEM_ID + items
    table = init_item_table(jax.random.key(0), rows, config)
    batch = padding_batch(Bucket(1, 1, 1)).with_embeddings(table.input_vd)
    params = model.init(jax.random.key(1), batch, model.init_carry(1))["params"]
    counts = None
    if memory:
        counts, rng = Memory(rows), np.random.default_rng(0)
        before_nm = rng.integers(FIRST_ITEM_ID, rows, (items, SIZES.own_events), np.int32)
        counts.observe(
            rng.integers(FIRST_ITEM_ID, rows, items, np.int32),
            _START - items + np.arange(items),
            before_nm,
            np.zeros(items, np.int32),
        )
    write_export(
        directory,
        TrainedModel(
            config=config,
            params=params,
            items=table,
            item_ids=list(range(items)),
            gap_seconds=1800.0,
            newest=_START,
            model_id="benchmark",
            names=Names(),
            memory=counts,
            configs={},
            version="",
        ),
    )
    return Export(directory)


def measure_onnx(export: Export, k: int, seconds: float) -> dict[str, dict[str, Any]]:
    """One user event by event, and batches of events."""
    threads = 1 if export.manifest["rows"] < MANY_ITEMS else len(os.sched_getaffinity(0))
    stream, memory = OnnxStream(export, threads), export.memory()
    rows, rng = export.manifest["rows"], np.random.default_rng(1)
    item_n = rng.integers(FIRST_ITEM_ID, rows, 4096, np.int32)
    state = stream.start()

    def one(number: int) -> None:
        nonlocal state
        item, now_n = item_n[number % 4096 :][:1], np.array([_START + number])
        before, state = state, stream.observe(state, item, now_n)
        if memory is not None:
            memory.observe(item, now_n, before.own_nm, state.position_n - 1)
        stream.recommend(state, now_n, k, memory)

    figures = {"observe and recommend": percentiles(one, seconds)}
    states = stream.start(BATCH)

    def many(number: int) -> None:
        nonlocal states
        item, now_n = item_n[(number * BATCH) % 3840 :][:BATCH], np.full(BATCH, _START + number)
        states = stream.observe(states, item, now_n)

    figures[f"observe {BATCH} users"] = with_rate(percentiles(many, seconds))
    figures["best items"] = percentiles(
        lambda number: stream.recommend(state, [_START + 10**6 + number], k, memory), seconds
    )
    figures["state"] = {
        "bytes": len(state.to_bytes(stream.model_id)),
        "bytes_of_given_embeddings": 4 * _GIVEN_EVENTS * export.manifest["config"]["item_dim"],
    }
    return figures


def measure_jax(export: Export, k: int, seconds: float) -> dict[str, dict[str, Any]]:
    """One user event by event, by the functions that `Recommender` calls."""
    rec = load_export(export.directory)
    state = rec.start()

    def one(number: int) -> None:
        nonlocal state
        state = rec.observe(state, number % GLOBO_ITEMS, _START + number)
        rec.recommend(state, k, _START + number)

    figures = {"observe and recommend": percentiles(one, seconds)}
    states, items = rec.start(BATCH), list(range(BATCH))

    def many(number: int) -> None:
        nonlocal states
        states = rec.observe(states, items, _START + 10**6 + number, count=False)

    figures[f"observe {BATCH} users"] = with_rate(percentiles(many, seconds))
    figures["best items"] = percentiles(
        lambda number: rec.recommend(state, k, _START + 10**6 + number), seconds
    )
    return figures


def measure(seconds: float) -> dict[str, dict[str, Any]]:
    """All cases."""
    figures: dict[str, dict[str, Any]] = {}
    for items, k in ((GLOBO_ITEMS, 20), (MANY_ITEMS, 100)):
        for memory in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                export = exported(Path(folder), items, memory)
                named = f"top {k} of {items}" + (", memory" if memory else "")
                for engine, run in (("onnxruntime", measure_onnx), ("jax", measure_jax)):
                    for case, found in run(export, k, seconds).items():
                        figures[f"{engine}: {case}, {named}"] = found
    return figures


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_float("seconds", 5.0, "How long each case is measured.", lower_bound=0)


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: The file cannot be written.
    """
    require_directory(flags.FLAGS.json)
    return Settings(flags.FLAGS.json, flags.FLAGS.seconds)


def main(settings: Settings) -> None:
    """Measures, prints and writes the file."""
    cases = measure(settings.seconds)
    print_figures(cases)
    write_report(settings.json, "cases", cases)


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (OSError,))
