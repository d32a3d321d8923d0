"""Prepares, trains and loads in one call, as a notebook wants it."""

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import narwhals as nw
import polars as pl
from absl import flags

from data_pipelines.commands.flagfiles import expand_flagfiles
from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.prepare import prepare
from data_pipelines.progress import say
from experiments.flags.run_flags import define_config_flags, read_run_config, run_lines
from experiments.runs.config import RunConfig
from experiments.runs.data import open_data
from experiments.runs.files import make_workdir, write_text
from experiments.runs.header import header_lines
from experiments.runs.locking import lock_workdir
from experiments.runs.resolve import resolve
from experiments.runs.train_loop import train
from experiments.service.loading import load, load_ranker
from hiertcn_jax.baselines.registry import RANKERS
from hiertcn_jax.serving.recommender import Recommender

_LOCATIONS = ("data_dir", "workdir", "synthetic")
"""Flags of presets that a call decides itself."""


def fit(
    frame: Any,
    user: str,
    item: str,
    time: str,
    session: str | None,
    preset: str,
    workdir: str | Path | None,
) -> Recommender:
    """See `hiertcn_jax.fit`."""
    # Settings first: a mistyped preset should not take the time of preparing.
    run = None if preset in RANKERS else _run(preset)
    table = _table(frame, {"user": user, "item": item, "time": time, "session": session})
    own = workdir is None
    place = Path(tempfile.mkdtemp(prefix="hiertcn_") if workdir is None else workdir)
    try:
        config = PrepareConfig(
            input=(str(place / "events.parquet"),),
            output_dir=str(place / "data"),
            user_column=user,
            item_column=item,
            time_column=time,
            session_column=session,
        )
        rec = _fit(place, config, table, preset, run)
    except BaseException:
        if own:
            shutil.rmtree(place, ignore_errors=True)
        raise
    if own:
        weakref.finalize(rec, shutil.rmtree, place, True)
    return rec


def _fit(
    place: Path, config: PrepareConfig, table: pl.DataFrame, preset: str, run: RunConfig | None
) -> Recommender:
    data_dir, workdir = Path(config.output_dir), place / "run"
    if data_dir.exists():
        raise DataError(f"{place}: holds data and a run; give another workdir, or load that run")
    make_workdir(place)
    events = Path(config.input[0])
    try:
        table.write_parquet(events)
        counts = prepare(config)["counts"]
    finally:
        events.unlink(missing_ok=True)
    say(f"{counts['users']:,} users, {counts['items']:,} items, {counts['events']:,} events")
    if run is None:
        return load_ranker(preset, data_dir)
    resolved = resolve(run, open_data(data_dir))

    def start() -> None:
        places = [f"--data_dir={data_dir}", f"--workdir={workdir}"]
        write_text(workdir / "flags.txt", "\n".join(run_lines(resolved.config) + places) + "\n")
        for line in header_lines(resolved):
            say(line)

    with lock_workdir(workdir):
        train(resolved, workdir, start)
    return load(workdir)


def _run(preset: str) -> RunConfig:
    """The settings of a preset.

    Raises:
      ValueError: There is none of that name.
    """
    try:
        lines = expand_flagfiles(["fit", f"--preset={preset}"])[1:]
    except flags.IllegalFlagValueError as error:
        names = str(error).partition("one of ")[2]
        raise ValueError(
            f"preset={preset!r}: must be one of {names}, or a ranker: {', '.join(RANKERS)}"
        ) from error
    # Flags of this call alone: in a notebook nobody parses those of a command.
    values = flags.FlagValues()
    define_config_flags(values)
    for name in _LOCATIONS:
        flags.DEFINE_string(name, None, "Not read here.", flag_values=values)
    try:
        values(["fit", *lines])
        return read_run_config(values)
    except flags.Error as error:
        raise ValueError(f"preset={preset!r}: {error}") from error


def _table(frame: Any, names: dict[str, str | None]) -> pl.DataFrame:
    """The columns of a data frame of any library.

    Raises:
      TypeError: It is no data frame.
      ValueError: A column is missing, or there is no row.
    """
    table = nw.from_native(frame, eager_only=True)
    for role, name in names.items():
        if name is not None and name not in table.columns:
            raise ValueError(
                f"{role}={name!r}: there is no such column, got {', '.join(table.columns)}"
            )
    if not len(table):
        raise ValueError("frame: has no rows")
    return table.select(*(name for name in names.values() if name is not None)).to_polars()
