"""Measures what a catalogue costs: HierTCN's step in `rows` and in `dense` mode, by its size.

    python -m benchmarks.item_modes --json=FILE [--items=10000,100000,1000000]

Each case is a mode and a number of items, such as `rows_10000`. All run in turns, as in
`benchmarks.train_step`, with its settings. `rows_flatness` is how much the speed of `rows` mode
varies with the catalogue. `crossover_items` is where `dense` mode becomes slower, interpolated
between the two nearest sizes on logarithmic scales.
"""

import dataclasses
import itertools
import math
from typing import NamedTuple

import numpy as np
from absl import flags

from benchmarks.bucket import define_bucket_flags, read_bucket
from benchmarks.common import print_figures, require_directory, write_report
from benchmarks.step_rows import SEED, Row, Settings
from benchmarks.users import draw_users
from data_pipelines.commands.command import run_command
from hiertcn_jax.models.hiertcn import HierTCNConfig


class Command(NamedTuple):
    """The command's flags; `settings` apply to all cases except for items and mode."""

    settings: Settings
    items: tuple[int, ...]
    json: str


def measure(settings: Settings, catalogues: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """The figures of all cases, and a case `all` that compares them.

    Args:
      settings: Settings of every case, except items and mode.
      catalogues: Numbers of items, ascending.
    """
    rows = {}
    for items in catalogues:
        users = draw_users(settings.users, items, SEED)
        for mode in ("dense", "rows"):
            config = dataclasses.replace(settings.config, item_mode=mode)
            row = Row("hiertcn", settings._replace(items=items, config=config), users)
            row.compile()
            rows[f"{mode}_{items}"] = row
    steps = {name: row.warm_up() for name, row in rows.items()}
    turns: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(settings.rounds):
        for name, row in rows.items():
            events, seconds = row.run(steps[name])
            turns[name].append(events / seconds)
    cases = {name: _figures(turns[name], row) for name, row in rows.items()}
    return cases | {"all": compare(turns, catalogues)}


def _figures(turns: list[float], row: Row) -> dict[str, float]:
    figures = row.figures()
    return {
        "events_per_s": round(float(np.median(turns))),
        "events_per_s_lowest": round(min(turns)),
        "events_per_s_highest": round(max(turns)),
        "bytes_per_event": figures["bytes_per_event"],
        "peak_bytes": figures["peak_bytes"],
    }


def compare(turns: dict[str, list[float]], catalogues: tuple[int, ...]) -> dict[str, float]:
    """How flat `rows` mode is, and where it overtakes `dense`.

    Args:
      turns: Events a second of each case in each turn.
      catalogues: Numbers of items, ascending.

    Returns:
      `rows_flatness`: the largest deviation from the mean over catalogues, as a share of the mean,
      median over the turns. `crossover_items`: left out if one mode always leads.
    """
    rows_tc, dense_tc = (
        np.asarray([turns[f"{mode}_{items}"] for items in catalogues]).T
        for mode in ("rows", "dense")
    )
    mean_t1 = rows_tc.mean(axis=1, keepdims=True)
    flatness = np.median(np.abs(rows_tc / mean_t1 - 1).max(axis=1))
    figures = {"rows_flatness": round(float(flatness), 4)}
    lead_c = np.log(np.median(rows_tc / dense_tc, axis=0))
    behind = np.flatnonzero((lead_c[:-1] < 0) & (lead_c[1:] >= 0))
    if len(behind):
        left = int(behind[0])
        share = -lead_c[left] / (lead_c[left + 1] - lead_c[left])
        low, high = (math.log(items) for items in catalogues[left : left + 2])
        figures["crossover_items"] = round(math.exp(low + share * (high - low)))
    return figures


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_list("items", ["10000", "100000", "1000000"], "Catalogues, ascending.")
    define_bucket_flags()
    flags.DEFINE_integer("negatives", 2048, "Negatives shared by a batch.", lower_bound=1)
    flags.DEFINE_integer("users", 4000, "Users drawn.", lower_bound=1)
    flags.DEFINE_integer("batches", 4, "Different batches of a case.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Turns.", lower_bound=1)
    flags.DEFINE_float("seconds", 1.0, "Approximate time of a case per turn.", lower_bound=0.0)


def read_command() -> Command:
    """The parsed flags.

    Raises:
      ValueError: The catalogues are not ascending numbers, or the file cannot be written.
    """
    values = flags.FLAGS
    require_directory(values.json)
    if not values.items or not all(text.isdigit() for text in values.items):
        raise ValueError(f"items={','.join(values.items)}: must be whole numbers")
    items = tuple(int(text) for text in values.items)
    if items[0] < 1 or any(after <= before for before, after in itertools.pairwise(items)):
        raise ValueError(f"items={','.join(values.items)}: must be >= 1 and ascending")
    settings = Settings(
        ("hiertcn",),
        read_bucket(),
        1,
        0,
        values.negatives,
        HierTCNConfig(),
        values.users,
        values.batches,
        values.rounds,
        values.seconds,
    )
    return Command(settings, items, values.json)


def main(command: Command) -> None:
    """Measures all cases, prints them and writes them to the file."""
    cases = measure(command.settings, command.items)
    print_figures(cases)
    write_report(command.json, "cases", cases, settings=command.settings.to_json())


if __name__ == "__main__":
    define_flags()
    run_command(read_command, main, (OSError,))
