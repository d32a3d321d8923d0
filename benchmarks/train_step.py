"""Compares the training speed of the models: the real compiled step, on the same users.

    python -m benchmarks.train_step --json=FILE [--models=hiertcn,hiergru_grid] [--item_mode=rows]

Rows: hiertcn, hiergru, gru_user, tcn_user, sasrec, esasrec and hstu on chunks of event streams;
hiertcn_memory, esasrec_memory and hstu_memory with all terms of memory; hiertcn_grid and
hiergru_grid on a padded grid of 32 lanes x 10 sessions x 20 events; hiertcn_grid_tight on a grid
with slots padded only to their longest session (`benchmarks.grid`). All models have as many
parameters as hiertcn, not counting the item table and the terms, and train with sampled softmax
against shared uniform negatives. Only real events count. The steps of all rows and a float32 matrix
product run in turns, so that a slow moment of the machine affects all; figures are medians over the
turns. docs/performance.md explains the figures.
"""

import importlib.metadata
from typing import NamedTuple, get_args

import jax
import numpy as np
from absl import flags

from benchmarks.bucket import define_bucket_flags, read_bucket
from benchmarks.common import print_figures, require_directory, write_report
from benchmarks.matmul import MatmulPeak
from benchmarks.step_rows import ROWS, SEED, Row, Settings, row_config
from benchmarks.users import draw_users
from data_pipelines.commands.command import run_command
from hiertcn_jax.config import DType
from hiertcn_jax.models.hiertcn import HierTCNConfig


def measure(settings: Settings) -> tuple[dict[str, dict[str, float]], float]:
    """The figures of all rows, and the machine's FLOPs a second in matrix products."""
    users = draw_users(settings.users, settings.items, SEED)
    rows = {name: Row(name, settings, users) for name in settings.models}
    for row in rows.values():
        row.compile()
    steps = {name: row.warm_up() for name, row in rows.items()}
    peak = MatmulPeak()
    speeds: dict[str, list[float]] = {name: [] for name in rows}
    peaks = []
    for _ in range(settings.rounds):
        peaks.append(peak.run())
        for name, row in rows.items():
            events, seconds = row.run(steps[name])
            speeds[name].append(events / seconds)
    figures = {
        name: timed_figures(speeds[name], row.figures(), peaks, speeds.get("hiertcn"))
        for name, row in rows.items()
    }
    return figures, float(np.median(peaks))


def timed_figures(
    speeds: list[float],
    figures: dict[str, float],
    peaks: list[float],
    hiertcn: list[float] | None,
) -> dict[str, float]:
    """Puts the figures of the clock before the others.

    Args:
      speeds: Events a second in each turn.
      figures: From `Row.figures`.
      peaks: FLOPs a second of the matrix product in each turn.
      hiertcn: Events a second of hiertcn, if it is among the rows.
    """
    turns = np.asarray(speeds)
    fraction = np.median(turns / np.asarray(peaks)) * figures["flops_per_event"]
    timed = {
        "events_per_s": round(float(np.median(turns))),
        "events_per_s_lowest": round(float(turns.min())),
        "events_per_s_highest": round(float(turns.max())),
        "matmul_peak_fraction": round(float(fraction), 4),
    }
    if hiertcn is not None:
        ratio = np.median(np.asarray(hiertcn) / turns)
        timed["hiertcn_times_as_fast"] = round(float(ratio), 3)
    return timed | figures


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list("models", list(ROWS), f"Rows, of {', '.join(ROWS)}.")
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_enum("item_mode", "dense", ["dense", "rows"], "Item mode of all models.")
    define_bucket_flags()
    flags.DEFINE_integer("grid_lanes", 32, "Lanes of a grid.", lower_bound=1)
    flags.DEFINE_integer("items", 100_000, "Items of the catalogue.", lower_bound=1)
    flags.DEFINE_integer("negatives", 2048, "Negatives shared by a batch.", lower_bound=1)
    flags.DEFINE_integer("dim", 128, "Width of items, states and channels.", lower_bound=8)
    flags.DEFINE_float("dropout", 0.0, "Share of activations dropped.", 0.0, 1.0)
    flags.DEFINE_enum("dtype", "float32", get_args(DType), "Type of matrix products.")
    flags.DEFINE_integer("users", 4000, "Users drawn.", lower_bound=1)
    flags.DEFINE_integer("batches", 8, "Different batches of a row.", lower_bound=1)
    flags.DEFINE_integer("rounds", 7, "Turns.", lower_bound=1)
    flags.DEFINE_float("seconds", 1.5, "Approximate time of a row per turn.", lower_bound=0.0)


class Command(NamedTuple):
    """What the flags say."""

    settings: Settings
    json: str


def read_command() -> Command:
    """The parsed flags.

    Raises:
      ValueError: A row does not exist, a config is out of range, or the file cannot be written.
    """
    values = flags.FLAGS
    for name in values.models:
        if name not in ROWS:
            raise ValueError(f"models={name}: must be one of {', '.join(ROWS)}")
    if not values.models:
        raise ValueError("models=: must name a row")
    require_directory(values.json)
    config = HierTCNConfig(
        item_dim=values.dim,
        gru_dim=values.dim,
        tcn_channels=(values.dim,) * 3,
        item_mode=values.item_mode,
        dropout=values.dropout,
        dtype=values.dtype,
    )
    settings = Settings(
        tuple(values.models),
        read_bucket(),
        values.grid_lanes,
        values.items,
        values.negatives,
        config,
        values.users,
        values.batches,
        values.rounds,
        values.seconds,
    )
    for name in settings.models:
        row_config(name, config)
    return Command(settings, values.json)


def main(command: Command) -> None:
    """Measures all rows, prints them and writes them to the file."""
    figures, peak = measure(command.settings)
    print_figures(figures)
    write_report(
        command.json,
        "models",
        figures,
        jax=importlib.metadata.version("jax"),
        device=jax.devices()[0].device_kind,
        matmul_flops_per_s=round(peak),
        settings=command.settings.to_json(),
    )


if __name__ == "__main__":
    define_flags()
    run_command(read_command, main, (OSError,))
