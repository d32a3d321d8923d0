"""Measures how fast batches are made, and how full they are.

    python -m benchmarks.loader --data_dir=D --json=FILE

Cases: `lanes` from decoded histories in memory (`CachedHistories`); `disk` from the files, which
are in the system's cache after the first epoch; `disk_rows` from the files in `rows` mode, with
shared uniform negatives; `evaluation` of the test part from disk. `lanes_memory` and
`evaluation_memory` also make the lists of memory. All but the evaluations read the training part.
One thread makes the batches, without prefetching. `events_per_s` uses the clock, `events_per_cpu_s`
the processor time of the process.
"""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from absl import app, flags

from benchmarks.bucket import define_bucket_flags, read_bucket
from benchmarks.common import print_figures, write_report
from data_pipelines.histories.caching import CachedHistories
from data_pipelines.histories.events import HistorySource
from data_pipelines.histories.fitted_items import FittedItems
from data_pipelines.histories.manifest import load_manifest
from data_pipelines.histories.record import Split
from data_pipelines.histories.store import open_histories
from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import eval_loader, train_loader
from data_pipelines.lanes.memory_lists import remember
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, Bucket, LaneBatch


@dataclasses.dataclass
class Meter:
    """Counts events and slots of batches, and times how long they take to arrive."""

    events: int = 0
    slots: int = 0
    batches: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def read(self, batches: Iterator[LaneBatch], until_events: float = float("inf")) -> None:
        """Reads batches until this many events were counted in all, or to the end."""
        clock, cpu_clock = time.perf_counter(), time.process_time()
        while self.events < until_events and (element := next(batches, None)) is not None:
            item_ids_bl = element.info.item_ids_bl
            self.events += int(np.count_nonzero(item_ids_bl != PADDING_ID))
            self.slots += item_ids_bl.size
            self.batches += 1
        self.seconds += time.perf_counter() - clock
        self.cpu_seconds += time.process_time() - cpu_clock

    def figures(self) -> dict[str, float]:
        """The figures so far, with their units."""
        return {
            "events_per_s": round(self.events / self.seconds),
            "events_per_cpu_s": round(self.events / self.cpu_seconds),
            "useful_slots": round(self.events / self.slots, 5),
            "batches": self.batches,
        }


def measure(
    loader: grain.IterDataset[LaneBatch], epoch_events: float = float("inf"), epochs: int = 1
) -> dict[str, float]:
    """Figures of a loader over some epochs, after one batch that is not counted."""
    next(iter(loader))
    meter = Meter()
    meter.read(iter(loader), epoch_events * epochs)
    return meter.figures()


def measure_all(
    source: HistorySource, counts: dict[str, Any], bucket: Bucket, epochs: int, negatives: int
) -> dict[str, dict[str, float]]:
    """All cases, see the module.

    Args:
      source: The histories on disk.
      counts: Those of the manifest.
      bucket: The shape of a batch.
      epochs: Training epochs of each case.
      negatives: How many the case `disk_rows` draws per batch.
    """
    epoch_events = counts["splits"]["train"]["events"]["all"]
    rows = ItemRows(counts["items"] + FIRST_ITEM_ID, negatives)
    in_memory = CachedHistories(source, max_bytes=1 << 40)
    in_memory.__getitems__(range(len(source)))

    recall = remember(in_memory, rows.table_rows, Split.TRAIN)

    def training(histories: HistorySource, **options: Any) -> dict[str, float]:
        loader = train_loader(histories, bucket, seed=0, prefetch=0, **options)
        return measure(loader, epoch_events, epochs)

    def evaluation(**options: Any) -> dict[str, float]:
        return measure(eval_loader(source, bucket, split=Split.TEST, prefetch=0, **options))

    return {
        "lanes": training(in_memory),
        "disk": training(source),
        "disk_rows": training(source, item_rows=rows),
        "evaluation": evaluation(),
        "lanes_memory": training(in_memory, recall=recall),
        "evaluation_memory": evaluation(recall=recall._replace(few=True)),
    }


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("data_dir", None, "Prepared data.", required=True)
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    define_bucket_flags()
    flags.DEFINE_integer("epochs", 5, "Training epochs of each case.", lower_bound=1)
    flags.DEFINE_integer("negatives", 2048, "Negatives of `disk_rows`.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Measures all cases, prints them and writes them to the file."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]}")
    values = flags.FLAGS
    vocabulary = Vocabulary.load(values.data_dir)
    cases = measure_all(
        # As a run reads them: without the items that only the later parts have.
        FittedItems(open_histories(values.data_dir, vocabulary.size), vocabulary),
        load_manifest(values.data_dir)["counts"],
        read_bucket(),
        values.epochs,
        values.negatives,
    )
    print_figures(cases)
    write_report(values.json, "cases", cases)


if __name__ == "__main__":
    define_flags()
    app.run(main)
