"""Measures where a training step of HierTCN spends its time, part by part.

    export XLA_FLAGS=--xla_cpu_multi_thread_eigen=false
    taskset -c 0 python -m benchmarks.step_profile --json=FILE [--item_mode=rows] [--dropout=0.5]

The profiler times every operation of the compiled step; an operation's name in the program tells
the part it belongs to. With several threads operations overlap and their times do not add up, so
the profile uses one core. Matrix products are listed apart: their time is close to the minimum that
the machine needs, and the rest is what could be saved.
"""

import collections
import gzip
import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags

from benchmarks.bucket import define_bucket_flags, read_bucket
from benchmarks.common import print_figures, require_directory, write_report
from benchmarks.program import matrix_products
from benchmarks.step_rows import SEED, Row, Settings
from benchmarks.users import draw_users
from data_pipelines.commands.command import run_command
from hiertcn_jax.models.hiertcn import HierTCNConfig

PARTS = {
    "random_numbers": r"random|threefry|bernoulli|randint|fold_in|searchsorted",
    "tcn": r"/tcn/",
    "gru": r"/gru/",
    "pooling_and_context": r"take_items|_long_term",
    "join_and_output": r"/join_item/|/output/|HierTCN\.output",
    "item_rows": r"gather|scatter|/take|_take",
    "model_rest": r"HierTCN",
    "loss": r"jvp\(",
    "optimizer_and_rest": r"",
}
"""Patterns of an operation's name; the first match decides."""

_NAMED = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*?op_name="([^"]*)"', re.MULTILINE)


class Command(NamedTuple):
    """What the flags say."""

    settings: Settings
    steps: int
    json: str


def part_of(operation: str) -> str:
    """The part that an operation belongs to, by its name in the program."""
    return next(part for part, pattern in PARTS.items() if re.search(pattern, operation))


def operation_names(program: str) -> dict[str, str]:
    """The name of each instruction of an HLO text in the traced function; loops are left out.

    The time of a loop is that of its body's instructions, which have their own names.
    """
    return {
        name: operation
        for name, operation in _NAMED.findall(program)
        if not name.startswith(("while", "call"))
    }


def sum_by_part(
    microseconds: Mapping[str, float], operations: Mapping[str, str], products: set[str]
) -> dict[str, dict[str, float]]:
    """Milliseconds of each part, and its share of the total.

    Args:
      microseconds: Of each instruction, per step.
      operations: From `operation_names`.
      products: Instructions that are matrix products.
    """
    total, of_products = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0.0)
    for instruction, spent in microseconds.items():
        part = part_of(operations[instruction])
        total[part] += spent
        of_products[part] += spent if instruction in products else 0
    everything = sum(total.values())
    cases = {
        part: {
            "ms_per_step": round(total[part] / 1e3, 2),
            "products_ms_per_step": round(of_products[part] / 1e3, 2),
            "share": round(total[part] / everything, 4),
        }
        for part in PARTS
        if total[part]
    }
    cases["all"] = {
        "ms_per_step": round(everything / 1e3, 2),
        "products_ms_per_step": round(sum(of_products.values()) / 1e3, 2),
        "share": 1.0,
    }
    return cases


def measure(settings: Settings, steps: int) -> dict[str, dict[str, float]]:
    """Figures of all parts of hiertcn's step."""
    row = Row("hiertcn", settings, draw_users(settings.users, settings.items, SEED))
    row.compile()
    row.run(len(row.batches))
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory, create_perfetto_trace=True):
            row.run(steps)
        events = _trace_events(Path(directory))
    (program,) = row.program_texts()
    operations = operation_names(program)
    microseconds: dict[str, float] = collections.defaultdict(float)
    for event in events:
        if event.get("ph") == "X" and event["name"] in operations:
            microseconds[event["name"]] += event["dur"] / steps
    return sum_by_part(microseconds, operations, matrix_products(program))


def _trace_events(directory: Path) -> list[dict[str, Any]]:
    (path,) = directory.rglob("perfetto_trace.json.gz")
    with gzip.open(path) as file:
        return json.load(file)["traceEvents"]


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_enum("item_mode", "dense", ["dense", "rows"], "How to update the item table.")
    define_bucket_flags()
    flags.DEFINE_integer("items", 100_000, "Items of the catalogue.", lower_bound=1)
    flags.DEFINE_integer("negatives", 2048, "Negatives shared by a batch.", lower_bound=1)
    flags.DEFINE_float("dropout", 0.0, "Share of activations dropped.", 0.0, 1.0)
    flags.DEFINE_integer("steps", 8, "Steps to profile.", lower_bound=1)


def read_command() -> Command:
    """The parsed flags.

    Raises:
      ValueError: A config is out of range, or the file cannot be written.
    """
    values = flags.FLAGS
    require_directory(values.json)
    settings = Settings(
        ("hiertcn",),
        read_bucket(),
        1,
        values.items,
        values.negatives,
        HierTCNConfig(item_mode=values.item_mode, dropout=values.dropout),
        4000,
        4,
        1,
        0.0,
    )
    return Command(settings, values.steps, values.json)


def main(command: Command) -> None:
    """Measures, prints and writes the file."""
    cases = measure(command.settings, command.steps)
    print_figures(cases)
    write_report(command.json, "cases", cases, settings=command.settings.to_json())


if __name__ == "__main__":
    define_flags()
    run_command(read_command, main, (OSError,))
