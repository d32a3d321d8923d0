"""Recommends to all users of invented logs: users a second, and the peak of memory.

    python -m benchmarks.all_users --json=FILE [--users=50000,200000]

A HierTCN with all terms of memory and random weights, over users that are drawn when they are read
(`benchmarks.streamed_users`): Globo's numbers and lengths of sessions, 28 events a user. Counting
and recommending are those of experiments.recommend. Each log has a process of its own, and its peak
is that of the whole process, the file that is written included.
"""

import concurrent.futures
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from benchmarks.common import print_figures, process_status, require_directory, write_report
from benchmarks.streamed_users import StreamedUsers
from benchmarks.users import globo_lengths
from data_pipelines.commands.command import run_command
from data_pipelines.histories.record import Split
from data_pipelines.lanes.live_counts import count_live
from experiments.service.known_users import LoggedUsers
from experiments.service.table_writer import written_in_parts
from hiertcn_jax.batch import FIRST_ITEM_ID, Bucket, padding_batch
from hiertcn_jax.exported.id_table import IdTable
from hiertcn_jax.memory.config import KINDS
from hiertcn_jax.models import build, model_config
from hiertcn_jax.scoring.item_table import init_item_table
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.serving.recommender import Recommender
from hiertcn_jax.serving.scorer import ModelScorer
from hiertcn_jax.serving.stream import Stream

K = 20


class Settings(NamedTuple):
    """The command's flags.

    Attributes:
      users: Approximate numbers of users of the logs.
      items: Size of the catalogue.
      width: `d`, width of embeddings, states and channels.
      json: The file to write.
    """

    users: tuple[int, ...]
    items: int
    width: int
    json: str


def recommender(source: StreamedUsers, items: int, width: int) -> Recommender:
    """A Recommender with random weights over a log."""
    config = model_config(
        "hiertcn",
        item_dim=width,
        gru_dim=width,
        tcn_channels=(width, width),
        memory=KINDS,
        memory_units=32,
    )
    model, rows = build(config), FIRST_ITEM_ID + items
    table = init_item_table(jax.random.key(0), rows, config)
    batch = padding_batch(Bucket(1, 1, 1)).with_embeddings(table.input_vd)
    params = model.init(jax.random.key(1), batch, model.init_carry(1))["params"]
    stream = Stream(model, {"model": params, "items": table}, 1800.0)
    return Recommender(
        ModelScorer(stream, item_keys(table, config), KINDS),
        IdTable(range(items)),
        LoggedUsers(source, "int64"),
        "benchmark",
        count_live(source, rows, Split.TEST),
    )


def measure(users: int, items: int, width: int) -> dict[str, Any]:
    """Recommends to all users of a log, and writes a file."""
    sessions, events = globo_lengths()
    source = StreamedUsers(round(users * sessions.mean() * events.mean()), items, seed=0)
    start = time.perf_counter()
    rec = recommender(source, items, width)
    counted = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        written_in_parts(Path(folder) / "recs.parquet") as add,
    ):
        for block in rec.all_users():
            add(rec.recommend(block, K))
    end = time.perf_counter()
    return {
        "users": len(source),
        "count_s": round(counted - start, 1),
        "recommend_s": round(end - counted, 1),
        "users_per_s": round(len(source) / (end - counted)),
        "peak_bytes": process_status()["VmHWM"],
    }


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_list("users", ["50000", "200000"], "Numbers of users, a log for each.")
    flags.DEFINE_integer("items", 12_527, "Size of the catalogue.", lower_bound=K)
    flags.DEFINE_integer("width", 128, "Width of embeddings, states, channels.", lower_bound=1)


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: The file cannot be written, or a number is none.
    """
    values = flags.FLAGS
    require_directory(values.json)
    return Settings(tuple(map(int, values.users)), values.items, values.width, values.json)


def main(settings: Settings) -> None:
    """Measures, prints and writes the file."""
    cases = {}
    for users in settings.users:
        fresh = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, fresh) as process:
            found = process.submit(measure, users, settings.items, settings.width).result()
        case = f"{users} users, width {settings.width}"
        cases[case] = found
        print_figures({case: found})
    write_report(settings.json, "cases", cases)


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (OSError,))
