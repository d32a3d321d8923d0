"""Reads rows of a large file of embeddings with the cache, without it, and by a memory map.

    python -m benchmarks.row_cache --file=/tmp/rows.npy --json=FILE

Makes a file of random float16 rows (5 GB; removed at the end) and asks three readers, each in its
own process, for the rows of the same draws: `cache`, `no_cache`, and `memory_map`, which is
`np.load` of the file and an index. They take turns. The item of rank r is drawn with a probability
~ 1 / r, as many at a time as a batch has, and requested once, as the loader does. An item's row in
the file is unrelated to its rank. A turn is `warm`, with the file in the system's cache as far as
memory allows, or `cold`: the system drops the file first. It keeps pages that a reader has mapped,
so the map is made anew for each cold turn. Then `cache` reads from a file of 10^9 rows, a sparse
file without data.

`peak_resident_bytes` is the peak resident memory of the process, of which its imports take
`start_resident_bytes`. Rows a second are the median over the turns; batches are drawn beforehand.
"""

import contextlib
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from benchmarks.common import print_figures, process_status, require_directory, write_report
from data_pipelines.commands.command import run_command
from data_pipelines.embeddings.row_cache import RowCache
from data_pipelines.embeddings.row_file import RowFile
from data_pipelines.errors import DataError

READERS = ("cache", "no_cache", "memory_map")
_DTYPE = np.dtype("<f2")
_FINITE = np.uint16(0xBBFF)
"""With one bit of the exponent cleared, random bits are a finite number."""


class Settings(NamedTuple):
    """The command's flags.

    Attributes:
      file: Path of the file of rows.
      items: Rows of the filled file.
      addressed_items: Rows of the sparse file.
      width: `d`.
      cache_bytes: Memory of the cache.
      draws: Items drawn for a batch.
      batches: Batches of a turn.
      turns: Warm turns of each reader; half as many are cold.
      json: The file to write.
    """

    file: Path
    items: int
    addressed_items: int
    width: int
    cache_bytes: int
    draws: int
    batches: int
    turns: int
    json: str


def file_rows(items: int) -> Callable[[np.ndarray], np.ndarray]:
    """Maps items to rows: all different, spread over the file, computed without a table."""
    step = int(items * (math.sqrt(5) - 1) / 2)
    while math.gcd(step, items) != 1:
        step += 1
    return lambda item_n: (item_n * np.int64(step)) % items


def drawn_items(generator: np.random.Generator, items: int, draws: int) -> np.ndarray:
    """int64, ascending. The distinct items of this many draws with probability ~ 1 / rank."""
    # Rank r gets the integral of 1 / x over [r, r + 1).
    ranks = np.exp(generator.random(draws) * math.log(items + 1)).astype(np.int64)
    return np.unique(np.minimum(ranks, items) - 1)


def write_header(path: Path, items: int, width: int) -> int:
    """Makes a sparse .npy file of this many rows; returns the size of its header in bytes."""
    with path.open("wb") as file:
        shape = {"descr": _DTYPE.str, "fortran_order": False, "shape": (items, width)}
        np.lib.format.write_array_header_1_0(file, shape)
        header = file.tell()
        file.truncate(header + items * width * _DTYPE.itemsize)
    return header


def write_rows(path: Path, items: int, width: int) -> None:
    """Makes a .npy file of random rows."""
    left = items * width
    generator = np.random.default_rng(0)
    header = write_header(path, items, width)
    with path.open("r+b") as file:
        file.seek(header)
        while left:
            values = np.frombuffer(generator.bytes(2 * min(left, 1 << 25)), np.uint16)
            file.write((values & _FINITE).data)
            left -= len(values)
        os.fsync(file.fileno())


class Reader:
    """One way to read rows.

    Args:
      kind: One of READERS.
      path: The file.
      cache_bytes: Room of the cache.
    """

    def __init__(self, kind: str, path: Path, cache_bytes: int) -> None:
        self._path, self._file = path, RowFile(path)
        self._file_rows = file_rows(self._file.rows)
        self._generator = np.random.default_rng(1)
        self._cache: RowCache | None = None
        if kind != "memory_map":
            room = cache_bytes if kind == "cache" else 0
            self._cache = RowCache(self._file, self._file.rows, self._file_rows, room)
        self.forget_map()

    def forget_map(self) -> None:
        """Closes the memory map, if there is one; the next turn makes it anew."""
        self._mapped: np.ndarray | None = None

    def turn(self, batches: int, draws: int, is_cold: bool) -> dict[str, float]:
        """Reads some batches; returns rows, seconds, and how many of the rows were in memory."""
        drawn = [drawn_items(self._generator, self._file.rows, draws) for _ in range(batches)]
        hits = self._cache.hits if self._cache else 0
        if is_cold:
            self.forget_map()
            forget_file(self._path)
        clock = time.perf_counter()
        for items_n in drawn:
            self._read(items_n)
        seconds = time.perf_counter() - clock
        if is_cold:
            self.forget_map()
        hits = self._cache.hits - hits if self._cache else 0
        return {"rows": sum(map(len, drawn)), "seconds": seconds, "hits": hits}

    def _read(self, items_n: np.ndarray) -> None:
        out_nd = np.empty((len(items_n), self._file.width), _DTYPE)
        if self._cache:
            self._cache.read(items_n, out_nd)
            return
        if self._mapped is None:
            self._mapped = np.load(self._path, mmap_mode="r")
        rows_n = self._file_rows(items_n)
        order_n = np.argsort(rows_n)
        out_nd[order_n] = self._mapped[rows_n[order_n]]


def forget_file(path: Path) -> None:
    """Makes the system drop the pages of a file that nobody has mapped."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def serve(kind: str, path: Path, cache_bytes: int, orders: Connection) -> None:
    """A reader's process: takes a turn for each order, until it gets None."""
    start = process_status()["VmRSS"]
    reader = Reader(kind, path, cache_bytes)
    while (order := orders.recv()) is not None:
        orders.send(reader.turn(*order) | {"start": start, "peak": process_status()["VmHWM"]})


class Worker:
    """A reader in its own process, and the turns that it took.

    Args: see `Reader`.
    """

    def __init__(self, kind: str, path: Path, cache_bytes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, orders = context.Pipe()
        self._process = context.Process(target=serve, args=(kind, path, cache_bytes, orders))
        self._process.start()
        orders.close()
        self._turns: dict[bool, list[dict[str, float]]] = {False: [], True: []}

    def turn(self, batches: int, draws: int, is_cold: bool) -> None:
        """Makes it take a turn."""
        self._orders.send((batches, draws, is_cold))
        self._turns[is_cold].append(self._orders.recv())

    def close(self) -> None:
        """Ends the process."""
        self._orders.send(None)
        self._process.join()

    def figures(self) -> dict[str, float]:
        """The figures of all turns."""
        turns = self._turns[False] + self._turns[True]
        figures: dict[str, float] = {}
        for is_cold, name in ((False, "warm"), (True, "cold")):
            speeds = [turn["rows"] / turn["seconds"] for turn in self._turns[is_cold]]
            if speeds:
                figures[f"{name}_rows_per_s"] = round(statistics.median(speeds))
        return figures | {
            "hit_rate": round(sum(t["hits"] for t in turns) / sum(t["rows"] for t in turns), 4),
            "rows": int(sum(turn["rows"] for turn in turns)),
            "start_resident_bytes": int(turns[0]["start"]),
            "peak_resident_bytes": int(turns[-1]["peak"]),
        }


@contextlib.contextmanager
def workers(settings: Settings, kinds: Sequence[str]) -> Iterator[dict[str, Worker]]:
    """Readers of the file by their kind."""
    opened = {kind: Worker(kind, settings.file, settings.cache_bytes) for kind in kinds}
    try:
        yield opened
    finally:
        for worker in opened.values():
            worker.close()


def measure(settings: Settings) -> dict[str, dict[str, float]]:
    """All cases; the file is removed at the end."""
    sizes = (settings.batches, settings.draws)
    about = {"cache_bytes": settings.cache_bytes, "width": settings.width, "draws": settings.draws}
    cases = {}
    try:
        write_rows(settings.file, settings.items, settings.width)
        with workers(settings, READERS) as readers:
            # The first turn fills the system's cache for the others.
            for turn in range(1 + settings.turns + settings.turns // 2):
                for worker in reversed(readers.values()):
                    worker.turn(*sizes, turn > settings.turns)
            for kind, worker in readers.items():
                cases[kind] = worker.figures() | about | {"items": settings.items}
        settings.file.unlink()
        write_header(settings.file, settings.addressed_items, settings.width)
        with workers(settings, ["cache"]) as readers:
            for _ in range(settings.turns):
                readers["cache"].turn(*sizes, False)
            case = readers["cache"].figures() | about | {"items": settings.addressed_items}
            cases["cache_addressed"] = case
    finally:
        settings.file.unlink(missing_ok=True)
    return cases


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("file", None, "File of rows to write; removed at the end.")
    flags.DEFINE_string("json", None, "The file to write.")
    flags.DEFINE_integer("items", 20_000_000, "Rows of the filled file.", lower_bound=2)
    flags.DEFINE_integer("addressed_items", 10**9, "Rows of the sparse file.", lower_bound=2)
    flags.DEFINE_integer("width", 128, "Values in a row.", lower_bound=1)
    flags.DEFINE_integer("cache_mb", 1024, "MiB of the cache.", lower_bound=0)
    flags.DEFINE_integer("draws", 16_384, "Items drawn for a batch.", lower_bound=1)
    flags.DEFINE_integer("batches", 5, "Batches of a turn.", lower_bound=1)
    flags.DEFINE_integer("turns", 4, "Warm turns of each reader; half as many cold.", lower_bound=1)
    flags.mark_flags_as_required(["file", "json"])


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: A file cannot be written, or exists already.
    """
    values = flags.FLAGS
    require_directory(values.json)
    if Path(values.file).exists():
        raise ValueError(f"file={values.file}: exists already, and would be overwritten")
    return Settings(
        Path(values.file),
        values.items,
        values.addressed_items,
        values.width,
        values.cache_mb << 20,
        values.draws,
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
