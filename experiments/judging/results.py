"""Results as people read them (tables) and as programs do (JSON, Parquet)."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_pipelines.errors import DataError
from data_pipelines.raw.parquet import read_parquet
from experiments.judging.collector import Evaluation
from experiments.runs.data import Data
from experiments.runs.files import whole_file, write_text

_RANKS = ["user_id", "session", "position", "item_id", "rank"]

_COLUMNS = ("recall@1", "recall@5", "recall@10", "recall@20", "mrr", "ndcg@10", "mrp")


def metrics_table(rows: Mapping[str, Mapping[str, Any]], title: str) -> Table:
    """One row for each model and group (all, first, next), micro averages over events.

    Where there are impressions, the same once more within what was shown.

    Args:
      rows: Evaluation JSON by model.
      title: Above the table.
    """
    table = Table(title=title)
    for column in ("model", "events of", "events", *_COLUMNS):
        table.add_column(column, justify="left" if column in ("model", "events of") else "right")
    for model, metrics in _with_shown(rows).items():
        for group in ("all", "first", "next"):
            values = metrics[group]
            cells = ["-" if values[name] is None else f"{values[name]:.4f}" for name in _COLUMNS]
            table.add_row(model, group, f"{values['events']:,}", *cells)
        table.add_section()
    return table


def _with_shown(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    shown = {
        f"{model} (shown)": values["shown"] for model, values in rows.items() if "shown" in values
    }
    return {**rows, **shown}


def print_table(table: Table) -> None:
    """Prints a table whole: wider than a narrow or unknown terminal rather than cut off."""
    # A title holds a path, which may look like markup.
    table.title = None if table.title is None else Text(str(table.title))
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes aside and renames: the file is whole or not there."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_ranks(path: Path, evaluation: Evaluation, data: Data) -> None:
    """One row for each scored event: user_id, session, position, item_id, rank.

    Ids have the type that the raw log has.
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
    """What `write_ranks` wrote, ids as text, in an order that is the same for all models.

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
    """The path of a table that a user wants to have.

    Args:
      flag: The flag that names it.
      text: Its value.

    Raises:
      ValueError: Its suffix is of no format that can be written.
    """
    path = Path(text)
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(f"flag --{flag}={text}: must end with {', '.join(_WRITERS)}")
    return path


def write_table(path: Path, frame: pl.DataFrame) -> None:
    """Writes a table in the format of its suffix: .parquet, .csv or .jsonl, whole or not at all.

    CSV has no lists: a column `x` of arrays becomes the columns x_0, x_1, and so on.

    Raises:
      OSError: It cannot be written.
    """
    with whole_file(path) as aside:
        _WRITERS[path.suffix.lower()](frame, aside)


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Each column of arrays as columns of their numbers."""
    for name, kind in frame.schema.items():
        if isinstance(kind, pl.Array):
            fields = [f"{name}_{place}" for place in range(kind.size)]
            frame = frame.with_columns(frame[name].arr.to_struct(fields)).unnest(name)
    return frame
