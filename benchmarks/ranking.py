"""Measures exact ranks over a catalogue of a million items: speed and memory.

    python -m benchmarks.ranking --json=FILE [--items=1000000]

`table` ranks over a float32 table on the device, as an evaluation of learned embeddings does.
`file` ranks over the same rows in a float16 file, read in chunks. Targets follow Zipf's law, and
events are sorted by target, as in an evaluation. The two and a product of matrices take turns; they
must find the same ranks.

`matmul_peak_fraction` counts only the product in a ranking, 2 * events * items * width FLOPs, and
is the median over the turns. `extra_bytes` is the largest increase of the process's resident memory
during the first ranking, including the compiler's.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import flags

from benchmarks.common import print_figures, process_status, require_directory, write_report
from benchmarks.matmul import MatmulPeak
from benchmarks.row_cache import drawn_items, file_rows, write_rows
from data_pipelines.commands.command import run_command
from data_pipelines.embeddings.item_embeddings import ItemEmbeddings
from data_pipelines.embeddings.row_cache import RowCache
from data_pipelines.embeddings.row_file import RowFile
from data_pipelines.errors import DataError
from experiments.judging.config import EvalConfig
from experiments.judging.streamed_ranks import StreamedRanks
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.ranks import ranks_of
from hiertcn_jax.scoring.scores import Queries
from hiertcn_jax.scoring.steps import make_rank_step


class Settings(NamedTuple):
    """The command's flags.

    Attributes:
      items: Size of the catalogue.
      width: `d`.
      events: Events ranked in a turn.
      config: Uses `rank_events` and `rank_chunk`.
      turns: Turns of each case, after the first.
      json: The file to write.
    """

    items: int
    width: int
    events: int
    config: EvalConfig
    turns: int
    json: str


class Case(NamedTuple):
    """One way to rank, and the seconds of its turns."""

    rank: Callable[[], np.ndarray]
    seconds: list[float]

    def turn(self) -> None:
        """Ranks once."""
        clock = time.perf_counter()
        self.rank()
        self.seconds.append(time.perf_counter() - clock)

    def first(self) -> tuple[np.ndarray, int]:
        """The ranks, and the largest increase of the process's memory meanwhile, in bytes."""
        # This resets the peak.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = process_status()["VmRSS"]
        return self.rank(), process_status()["VmHWM"] - before


def open_rows(path: Path, items: int, cache_bytes: int) -> ItemEmbeddings:
    """The rows of a file as embeddings of a catalogue in another order."""
    file = RowFile(path)
    rows = file_rows(items)(np.arange(items))
    cache = RowCache(file, items, rows.__getitem__, cache_bytes)
    return ItemEmbeddings(file, rows, cache, "not looked at")


def make_cases(settings: Settings, path: Path) -> dict[str, Case]:
    """Both cases, of the same rows, predictions and targets."""
    generator = np.random.default_rng(0)
    embeddings, config = open_rows(path, settings.items, 0), settings.config
    u_nd = generator.normal(size=(settings.events, settings.width)).astype(np.float32)
    target_n = np.concatenate(
        [drawn_items(generator, settings.items, 1) for _ in range(settings.events)]
    )
    target_n = (FIRST_ITEM_ID + target_n).astype(np.int32)
    by_table, by_file = np.argsort(target_n), np.argsort(embeddings.file_indices(target_n))
    table_vd = np.zeros((embeddings.table_rows, settings.width), np.float32)
    table_vd[FIRST_ITEM_ID:] = embeddings.rows(np.arange(FIRST_ITEM_ID, embeddings.table_rows))
    items = ItemTable(jax.block_until_ready(jax.device_put(table_vd)), None, None)
    del table_vd
    of_batch = Queries(u_nd[None])
    of_file = Queries(u_nd[by_file])
    step = make_rank_step(ModelConfig(), config.rank_chunk)
    streamed = StreamedRanks(embeddings, ModelConfig(), config, jax.local_devices()[:1])

    def in_order(ranked: list, order_n: np.ndarray) -> np.ndarray:
        rank_n = np.empty(len(order_n))
        rank_n[order_n] = np.concatenate([ranks_of(part.counts) for part in ranked])[: len(order_n)]
        return rank_n

    def rank_table() -> np.ndarray:
        size = config.rank_events
        parts = [by_table[first : first + size] for first in range(0, len(by_table), size)]
        filled = [np.pad(part, (0, size - len(part)), mode="edge") for part in parts]
        counts = [step(items, of_batch, part, target_n[part], None) for part in filled]
        return in_order(jax.device_get(counts), by_table)

    def rank_file() -> np.ndarray:
        return in_order(streamed(of_file, target_n[by_file], None), by_file)

    return {"table": Case(rank_table, []), "file": Case(rank_file, [])}


def measure(settings: Settings) -> dict[str, dict[str, float]]:
    """Figures of all cases.

    Raises:
      RuntimeError: The cases find different ranks.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "rows.npy"
        write_rows(path, settings.items, settings.width)
        cases = make_cases(settings, path)
        # Memory from the first ranking stays for the later ones.
        first = {name: case.first() for name, case in cases.items()}
        if not np.array_equal(first["table"][0], first["file"][0]):
            raise RuntimeError("the cases find different ranks")
        peak, speeds = MatmulPeak(), []
        for _ in range(settings.turns):
            speeds.append(peak.run())
            for case in cases.values():
                case.turn()
    flops = 2 * settings.events * settings.items * settings.width
    about = {name: getattr(settings, name) for name in ("items", "width", "events")}
    about |= {name: getattr(settings.config, name) for name in ("rank_events", "rank_chunk")}
    return {
        name: {
            "events_per_s": round(settings.events / statistics.median(case.seconds), 1),
            "gflops_per_s": round(flops / statistics.median(case.seconds) / 1e9, 1),
            "matmul_peak_fraction": round(
                statistics.median(
                    flops / seconds / speed
                    for seconds, speed in zip(case.seconds, speeds, strict=True)
                ),
                3,
            ),
            "extra_bytes": first[name][1],
            **about,
        }
        for name, case in cases.items()
    }


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_integer("items", 1_000_000, "Size of the catalogue.", lower_bound=2)
    flags.DEFINE_integer("width", 128, "Values of an embedding.", lower_bound=1)
    flags.DEFINE_integer("events", 512, "Events ranked in a turn.", lower_bound=1)
    flags.DEFINE_integer("rank_events", EvalConfig.rank_events, "Events ranked by one call.")
    flags.DEFINE_integer("rank_chunk", EvalConfig.rank_chunk, "Items scored at once.")
    flags.DEFINE_integer("turns", 7, "Turns of each case.", lower_bound=1)


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: A size is out of range, or the file cannot be written.
    """
    values = flags.FLAGS
    require_directory(values.json)
    config = EvalConfig(rank_events=values.rank_events, rank_chunk=values.rank_chunk)
    return Settings(values.items, values.width, values.events, config, values.turns, values.json)


def main(settings: Settings) -> None:
    """Measures, prints and writes the file."""
    cases = measure(settings)
    print_figures(cases)
    write_report(settings.json, "cases", cases)


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (DataError, OSError))
