"""Measures this program on the accelerator at hand, in one command of at most six minutes.

    python -m benchmarks.accelerator --json=FILE [--lanes=512 --items=100000 --seconds=5]

Training: events a second of each model in float32 and bfloat16; that speed as a share of the
device's own matrix product in the same type; the memory of the compiled step; and the time that the
paper's 1.6 billion interactions would take at that speed. As in a run, batches come from the host
in every step. `loader`: events a second that the host prepares. `evaluation`: exact ranks over the
whole catalogue. A case that does not fit, or does not compile, is reported with its error, and the
others continue. No case starts after --minutes, and those that did not start are listed: compiling
for a GPU may take a minute per model.

It runs on whatever device JAX finds. For a CPU: --lanes=8 --items=2000 --seconds=0.2.
"""

import dataclasses
import importlib.metadata
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from benchmarks.bucket import define_bucket_flags, read_bucket
from benchmarks.common import require_directory, write_report
from benchmarks.step_rows import ROWS, SEED, Row, Settings
from benchmarks.users import draw_users
from data_pipelines.commands.command import run_command
from data_pipelines.histories.record import Split
from data_pipelines.lanes.loaders import train_loader
from data_pipelines.lanes.memory_lists import remember
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.config import DType
from hiertcn_jax.models.hiertcn import HierTCNConfig
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.scores import Queries
from hiertcn_jax.scoring.steps import make_rank_step

MODELS = ("hiertcn", "hiertcn_memory", "hiergru", "sasrec", "hstu", "gru_user", "tcn_user")
DTYPES: tuple[DType, ...] = ("float32", "bfloat16")
PAPER_EVENTS = 1_600_000_000
"""Interactions that the paper trains on within 24 hours, on one GPU."""
_RANKED = 4096
_RANK_CHUNK = 16384


class Command(NamedTuple):
    """The command's flags.

    Attributes:
      settings: Settings of the training cases.
      product_size: Rows and columns of the matrices whose product gives the peak.
      minutes: No case starts after this.
      json: The file to write.
    """

    settings: Settings
    product_size: int
    minutes: float
    json: str


def repeated(work: Callable[[], Any], seconds: float) -> tuple[int, float]:
    """Repeats some work for about this long; returns how many times, and the exact seconds.

    Runs it once before the clock starts.

    Args:
      work: Returns arrays to wait for.
      seconds: About how long to repeat it.
    """
    jax.block_until_ready(work())
    times, started = 0, time.perf_counter()
    while True:
        out = work()
        times += 1
        # Devices run asynchronously, so wait before reading the clock.
        if times % 4 == 0 or seconds < 1:
            jax.block_until_ready(out)
            if time.perf_counter() - started >= seconds:
                return times, time.perf_counter() - started


def matmul_flops(dtype: str, size: int, seconds: float) -> float:
    """FLOPs a second of a product of square matrices, as JAX computes it by default."""
    matrix = jnp.full((size, size), 1 / size, dtype)
    product = jax.jit(jnp.matmul)
    times, taken = repeated(lambda: product(matrix, matrix), seconds)
    return times * 2 * size**3 / taken


def train_case(name: str, settings: Settings, users: Any, peak: float) -> dict[str, Any]:
    """Figures of one model's training step."""
    row = Row(name, settings, users)
    row.compile()
    steps = row.warm_up()
    events, seconds = row.run(steps)
    speed, figures = events / seconds, row.figures()
    return {
        "events_per_s": round(speed),
        "step_ms": round(1000 * seconds / steps, 2),
        "matmul_peak_fraction": round(speed * figures["flops_per_event"] / peak, 4),
        "paper_hours": round(PAPER_EVENTS / speed / 3600, 2),
        **figures,
    }


def loader_case(settings: Settings, users: Any, memory: bool) -> dict[str, Any]:
    """Events a second of the loader alone, histories in memory; with the lists of memory or not."""
    rows = settings.items + FIRST_ITEM_ID
    recall = remember(users, rows, Split.TRAIN) if memory else None
    loader = iter(train_loader(users, settings.bucket, seed=SEED, recall=recall, prefetch=0))
    next(loader)
    events, started = 0, time.perf_counter()
    for element in itertools.islice(loader, 10_000):
        events += int(np.count_nonzero(element.info.item_ids_bl))
        if time.perf_counter() - started >= settings.seconds:
            break
    return {"events_per_s": round(events / (time.perf_counter() - started))}


def evaluation_case(settings: Settings) -> dict[str, Any]:
    """Events a second of exact ranks over the whole catalogue, in float32."""
    key, rows, width = (
        jax.random.key(SEED),
        settings.items + FIRST_ITEM_ID,
        settings.config.item_dim,
    )
    items = ItemTable(jax.random.normal(key, (rows, width)), None, None)
    queries = Queries(jax.random.normal(key, (1, _RANKED, width)))
    targets = jax.random.randint(key, (_RANKED,), FIRST_ITEM_ID, rows)
    indices = jnp.arange(_RANKED)
    step = make_rank_step(settings.config, min(_RANK_CHUNK, rows))
    times, seconds = repeated(
        lambda: step(items, queries, indices, targets, None), settings.seconds
    )
    return {"events_per_s": round(times * _RANKED / seconds), "items": settings.items}


def measure(command: Command) -> dict[str, dict[str, Any]]:
    """The figures of all cases, by name."""
    settings, started = command.settings, time.perf_counter()
    users = draw_users(settings.users, settings.items, SEED)
    peaks = {dtype: matmul_flops(dtype, command.product_size, settings.seconds) for dtype in DTYPES}
    cases: dict[str, dict[str, Any]] = {
        f"matmul {dtype}": {"tflops_per_s": round(peak / 1e12, 2)} for dtype, peak in peaks.items()
    }

    def attempt(case: str, work: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        try:
            if time.perf_counter() - started > 60 * command.minutes:
                raise ValueError(f"not started within --minutes={command.minutes}")
            cases[case] = work(*arguments)
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            cases[case] = {"error": str(error).partition("\n")[0][:200]}
        print_case(case, cases[case])
        jax.clear_caches()

    # The fast cases come first.
    attempt("loader", loader_case, settings, users, False)
    attempt("loader_memory", loader_case, settings, users, True)
    attempt("evaluation", evaluation_case, settings)
    for name, dtype in itertools.product(settings.models, DTYPES):
        one = settings._replace(config=dataclasses.replace(settings.config, dtype=dtype))
        attempt(f"{name} {dtype}", train_case, name, one, users, peaks[dtype])
    return cases


def print_case(name: str, figures: dict[str, Any]) -> None:
    """Prints a case as soon as it is done, so that an interrupted run has shown its results."""
    told = ("events_per_s", "step_ms", "matmul_peak_fraction", "paper_hours", "compile_s", "error")
    print(
        name,
        *(
            f"{key}={figures[key]:,}" if key != "error" else figures[key]
            for key in told
            if key in figures
        ),
        flush=True,
    )


def print_table(cases: dict[str, dict[str, Any]]) -> None:
    """The table of all cases."""
    columns = {
        "events/s": "events_per_s",
        "step, ms": "step_ms",
        "of matmul peak": "matmul_peak_fraction",
        "memory of a step, MB": "peak_bytes",
        "compile, s": "compile_s",
        "1.6 billion events, h": "paper_hours",
    }
    table = Table(title=f"{jax.devices()[0].device_kind}, JAX {jax.__version__}")
    table.add_column("case")
    for title in columns:
        table.add_column(title, justify="right")
    for name, figures in cases.items():
        if "error" in figures or "tflops_per_s" in figures:
            known = figures.get("error") or f"{figures['tflops_per_s']} TFLOP/s"
            table.add_row(name, str(known))
            continue
        shown = dict(figures)
        if "peak_bytes" in shown:
            shown["peak_bytes"] = round(shown["peak_bytes"] / 1e6)
        table.add_row(
            name, *(f"{shown[key]:,}" if key in shown else "" for key in columns.values())
        )
    Console(width=120).print(table)


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list("models", list(MODELS), f"Models, of {', '.join(ROWS)}.")
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    define_bucket_flags()
    flags.FLAGS.set_default("lanes", 512)
    flags.DEFINE_integer("items", 100_000, "Items of the catalogue.", lower_bound=2)
    flags.DEFINE_integer("negatives", 2048, "Negatives shared by a batch.", lower_bound=1)
    flags.DEFINE_integer("dim", 128, "Width of items, states and channels.", lower_bound=8)
    flags.DEFINE_enum("item_mode", "rows", ["dense", "rows"], "Item mode of all models.")
    flags.DEFINE_integer("users", 4000, "Users drawn.", lower_bound=1)
    flags.DEFINE_integer("batches", 4, "Different batches for each model.", lower_bound=1)
    flags.DEFINE_float("seconds", 5.0, "Approximate duration of a case.", lower_bound=0.0)
    flags.DEFINE_float("minutes", 5.0, "No case starts after this many.", lower_bound=0.0)
    flags.DEFINE_integer("product_size", 8192, "Size of the peak's matrices.", lower_bound=1)


def read_flags() -> Command:
    """The parsed flags.

    Raises:
      ValueError: A model does not exist, or the file cannot be written.
    """
    values = flags.FLAGS
    for name in values.models:
        if ROWS.get(name) != "chunks":
            raise ValueError(f"models={name}: must be one of {', '.join(MODELS)}")
    require_directory(values.json)
    config = HierTCNConfig(
        item_dim=values.dim,
        gru_dim=values.dim,
        tcn_channels=(values.dim,) * 3,
        item_mode=values.item_mode,
    )
    settings = Settings(
        models=tuple(values.models),
        bucket=read_bucket(),
        grid_lanes=1,
        items=values.items,
        negatives=values.negatives,
        config=config,
        users=values.users,
        batches=values.batches,
        rounds=1,
        seconds=values.seconds,
    )
    return Command(settings, values.product_size, values.minutes, values.json)


def main(command: Command) -> None:
    """Measures all cases, prints them and writes them to the file."""
    started = time.perf_counter()
    cases = measure(command)
    print_table(cases)
    write_report(
        command.json,
        "cases",
        cases,
        jax=importlib.metadata.version("jax"),
        device=jax.devices()[0].device_kind,
        device_memory=(jax.devices()[0].memory_stats() or {}).get("bytes_limit"),
        settings=command.settings.to_json(),
        seconds=round(time.perf_counter() - started),
    )


if __name__ == "__main__":
    define_flags()
    run_command(read_flags, main, (OSError,))
