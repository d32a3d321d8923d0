"""Writes results for programs: JSON, Parquet, CSV."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.raw.parquet import read_parquet
from experiments.judging.collector import Evaluation
from experiments.runs.data import Data
from experiments.runs.files import whole_file, write_text

_RANKS = ["user_id", "session", "position", "item_id", "rank"]


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a temporary file and renames it, so that the file is complete or absent."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_ranks(path: Path, evaluation: Evaluation, data: Data) -> None:
    """Writes one row per scored event: user_id, session, position, item_id, rank.

    Ids have the type of the raw log.
    """
    events = evaluation.events
    frame = pl.DataFrame(
        {
            "user_id": data.logged_user_ids(events.user_n),
            "session": events.session_n,
            "position": events.position_n,
            "item_id": data.vocabulary.decode(events.item_n),
            "rank": evaluation.rank_n,
        }
    )
    write_table(path, frame)


def read_ranks(path: Path) -> pl.DataFrame:
    """Reads a file that `write_ranks` wrote, with ids as text, in an order common to all models.

    Raises:
      DataError: The file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; remove {path.parent} to make it again")
    frame = read_parquet(path, _RANKS, lambda names: _require_ranks(path, names))
    ids = pl.col("user_id", "item_id").cast(pl.String)
    return frame.with_columns(ids).sort("user_id", "session", "position")


def _require_ranks(path: Path, names: list[str]) -> None:
    if names != _RANKS:
        raise DataError(
            f"{path}: expected the columns {', '.join(_RANKS)}; "
            f"remove {path.parent} to make it again"
        )


_WRITERS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    ".parquet": lambda frame, path: frame.write_parquet(path),
    ".csv": lambda frame, path: _flat(frame).write_csv(path),
    ".jsonl": lambda frame, path: frame.write_ndjson(path),
}


def table_path(flag: str, text: str) -> Path:
    """Checks the path of a table that a user asks for.

    Args:
      flag: The flag that names it.
      text: Its value.

    Raises:
      ValueError: Its suffix is no format that can be written.
    """
    path = Path(text)
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"flag --{flag}={text}: must end with {', '.join(_WRITERS)}")
    return path


def write_table(path: Path, frame: pl.DataFrame) -> None:
    """Writes a table in the format of its suffix (.parquet, .csv or .jsonl), completely or not at
    all.

    CSV has no lists: a column `x` of arrays becomes the columns x_0, x_1, and so on.

    Raises:
      OSError: It cannot be written.
    """
    with whole_file(path) as aside:
        _WRITERS[path.suffix.lower()](frame, aside)


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Splits each column of arrays into columns of numbers."""
    for name, kind in frame.schema.items():
        if isinstance(kind, pl.Array):
            fields = [f"{name}_{number}" for number in range(kind.size)]
            frame = frame.with_columns(frame[name].arr.to_struct(fields)).unnest(name)
    return frame
