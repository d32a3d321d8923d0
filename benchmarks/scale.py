"""Measures what an event costs as the log grows, and projects the log of the paper.

    python -m benchmarks.scale --json=FILE [--sizes=1000000,10000000,100000000]

Histories of each log are drawn as they are read, and never stored (`benchmarks.streamed_users`);
there is one item for every 100 events. One thread makes batches in `rows` mode from the first event
to the last; the compiled training step runs on the first batches. Loaders take turns over equal
numbers of events, and steps over equal seconds, so that a slow moment of the machine affects all
sizes. The figures of the largest log are then scaled to 1.6 billion events of 6 million users (You
et al. 2019): an epoch at the pace of this machine's loader and step, and on accelerators by their
published figures. docs/scale.md lists the assumptions.
"""

import importlib.metadata
import itertools
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from benchmarks.accelerators import ACCELERATORS, projected_hours
from benchmarks.bucket import define_bucket_flags, read_bucket
from benchmarks.common import print_figures, process_status, require_directory, write_report
from benchmarks.loader import Meter
from benchmarks.step_rows import SEED, Row, Settings
from benchmarks.streamed_users import StreamedUsers
from data_pipelines.commands.command import run_command
from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import train_loader
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.models import build
from hiertcn_jax.models.hiertcn import HierTCNConfig

PAPER_EVENTS, PAPER_USERS = 1_600_000_000, 6_000_000
UTILISATIONS = (0.2, 0.4)
EVENTS_PER_ITEM = 100


class Command(NamedTuple):
    """The command's flags.

    Attributes:
      sizes: Events of each log.
      settings: Settings of the step; the size sets `items`.
      turn_events: Events that a loader reads in a turn.
      json: The file to write.
    """

    sizes: tuple[int, ...]
    settings: Settings
    turn_events: int
    json: str


class Log:
    """A log of one size: its loader, and the training step on its first batches."""

    def __init__(self, events: int, settings: Settings) -> None:
        self.events, self.items = events, max(1, events // EVENTS_PER_ITEM)
        self._settings = settings._replace(items=self.items)
        self.source = StreamedUsers(events, self.items, SEED)
        rows = ItemRows(self.items + FIRST_ITEM_ID, settings.negatives)
        loader = train_loader(self.source, settings.bucket, seed=SEED, item_rows=rows, prefetch=0)
        self._batches = iter(loader)
        self._speeds: list[float] = []
        self._meter = Meter()

    def read(self, events: int) -> None:
        """Makes batches of this many more events, and records the speed."""
        before = (self._meter.events, self._meter.seconds)
        self._meter.read(self._batches, self._meter.events + events)
        speed = (self._meter.events - before[0]) / (self._meter.seconds - before[1])
        self._speeds.append(speed)

    def read_on(self) -> int:
        """Reads the rest of the log; returns by how many bytes the process grew meanwhile."""
        before = process_status()["VmRSS"]
        self._meter.read(self._batches, self.events)
        return process_status()["VmRSS"] - before

    def figures(self) -> dict[str, float]:
        """Figures of the loader so far."""
        first = next(self._batches).batch
        item_ids = int(np.count_nonzero(first.item_ids_bl))
        return {
            "users": len(self.source),
            "items": self.items,
            "events_read": self._meter.events,
            "loader_events_per_s": round(float(np.median(self._speeds))),
            "loader_events_per_s_whole_log": round(self._meter.events / self._meter.seconds),
            "loader_useful_slots": round(self._meter.events / self._meter.slots, 4),
            "batch_bytes_per_event": round(_nbytes(first) / item_ids),
        }

    def make_step(self) -> Row:
        """The compiled step on the log's first batches."""
        row = Row("hiertcn", self._settings, self.source)
        row.compile()
        return row


def measure(command: Command) -> dict[str, dict[str, Any]]:
    """The figures of each log, and the projections."""
    logs = {f"{events:,} events": Log(events, command.settings) for events in command.sizes}
    rounds = command.settings.rounds
    for _, log in itertools.product(range(rounds), logs.values()):
        log.read(command.turn_events)
    grown = {name: log.read_on() for name, log in logs.items()}
    cases: dict[str, dict[str, Any]] = {}
    for (name, log), step in zip(
        logs.items(), _measure_steps(list(logs.values()), rounds), strict=True
    ):
        cases[name] = log.figures() | {"resident_growth_bytes": grown[name]} | step
    first = next(iter(cases.values()))
    for case in cases.values():
        for speed in ("loader_events_per_s", "step_events_per_s"):
            case[speed.replace("events_per_s", "times_first")] = round(
                case[speed] / first[speed], 3
            )
    bytes_kept = kept_bytes(command.settings.config)
    return cases | {"bytes kept": bytes_kept} | project(case, bytes_kept["per_user_bytes"])


def kept_bytes(config: ModelConfig) -> dict[str, int]:
    """Bytes stored for a user and for an item between batches.

    A user: the carry for serving. An item: its row with Adam's two moments if it is learned, and
    its row if it is given as float16.
    """
    carry = jax.eval_shape(lambda: build(config).init_carry(1))
    return {
        "per_user_bytes": sum(
            math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(carry)
        ),
        "per_learned_item_bytes": 3 * 4 * config.item_dim,
        "per_given_item_bytes": 2 * config.item_dim,
    }


def project(case: dict[str, Any], user_bytes: int) -> dict[str, dict[str, float]]:
    """One epoch over the paper's log, from the figures of a log."""
    hours = {
        name: {"hours_an_epoch": round(PAPER_EVENTS / case[speed] / 3600, 3)}
        for name, speed in (
            ("paper: loader of this machine, one thread", "loader_events_per_s"),
            ("paper: training step on this machine", "step_events_per_s"),
        )
    }
    for (name, chip), share in itertools.product(ACCELERATORS.items(), UTILISATIONS):
        costs = (case["flops_per_event"], case["bytes_per_event"])
        hours[f"paper: {name} at {share:.0%}"] = {
            "hours_an_epoch": round(projected_hours(chip, share, PAPER_EVENTS, *costs), 3)
        }
    return hours | {"paper: all users": {"kept_bytes": PAPER_USERS * user_bytes}}


def _measure_steps(logs: list[Log], rounds: int) -> list[dict[str, Any]]:
    """The figures of the logs' steps, which run in turns."""
    rows = [log.make_step() for log in logs]
    steps = [row.warm_up() for row in rows]
    speeds: list[list[float]] = [[] for _ in rows]
    for _ in range(rounds):
        for row, count, found in zip(rows, steps, speeds, strict=True):
            events, seconds = row.run(count)
            found.append(events / seconds)
    return [
        {"step_events_per_s": round(float(np.median(found)))} | row.figures()
        for row, found in zip(rows, speeds, strict=True)
    ]


def _nbytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list("sizes", ["1000000", "10000000", "100000000"], "Events of each log.")
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    define_bucket_flags()
    flags.DEFINE_integer("negatives", 2048, "Negatives shared by a batch.", lower_bound=1)
    flags.DEFINE_integer("dim", 128, "Width of items, states and channels.", lower_bound=8)
    flags.DEFINE_integer("turn_events", 500_000, "Events of a loader's turn.", lower_bound=1)
    flags.DEFINE_integer("rounds", 7, "Turns.", lower_bound=1)
    flags.DEFINE_float("seconds", 1.5, "Approximate time of a step per turn.", lower_bound=0.0)


def read_command() -> Command:
    """The parsed flags.

    Raises:
      ValueError: A size is not a positive number, a config is out of range, or the file cannot be
        written.
    """
    values = flags.FLAGS
    for size in values.sizes:
        if not size.isdecimal() or int(size) < 1:
            raise ValueError(f"sizes={size}: must be whole numbers >= 1")
    if not values.sizes:
        raise ValueError("sizes=: must name a size")
    require_directory(values.json)
    dim = values.dim
    settings = Settings(
        models=("hiertcn",),
        bucket=read_bucket(),
        grid_lanes=1,
        items=0,
        negatives=values.negatives,
        config=HierTCNConfig(item_dim=dim, gru_dim=dim, tcn_channels=(dim,) * 3, item_mode="rows"),
        users=0,
        batches=4,
        rounds=values.rounds,
        seconds=values.seconds,
    )
    return Command(tuple(map(int, values.sizes)), settings, values.turn_events, values.json)


def main(command: Command) -> None:
    """Measures all sizes, prints the figures and writes them to the file."""
    cases = measure(command)
    print_figures(cases)
    write_report(
        command.json,
        "cases",
        cases,
        jax=importlib.metadata.version("jax"),
        device=jax.devices()[0].device_kind,
        accelerators={name: chip._asdict() for name, chip in ACCELERATORS.items()},
        utilisations=list(UTILISATIONS),
    )


if __name__ == "__main__":
    define_flags()
    run_command(read_command, main, (OSError,))
