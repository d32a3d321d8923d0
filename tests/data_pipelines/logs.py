"""Small logs for the tests of preparation."""

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.config import PrepareConfig
from data_pipelines.raw.columns import Columns
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.log import Log
from data_pipelines.raw.times import TimeOptions

HEADER = "user_id,item_id,timestamp"

SMALL_TIMES = TimeOptions(unit="s", allow_odd=True)
"""For logs whose times are a few seconds after 1970, which no real log has."""


def small_times(columns: Columns | None = None, **changes) -> ReadOptions:
    """Options that read such a log."""
    columns = dataclasses.replace(columns or Columns(), times=SMALL_TIMES)
    return ReadOptions(columns, **changes)


def small_times_config(**changes) -> PrepareConfig:
    """A config that prepares such a log."""
    return PrepareConfig(**{"time_unit": "s", "allow_odd_times": True, **changes})


def write_csv(path: Path, *rows: str | bytes, header: str = HEADER) -> str:
    """Writes a header and rows; gzipped if the name ends in .gz."""
    lines = [header.encode(), *(row.encode() if isinstance(row, str) else row for row in rows)]
    text = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)


def codes_log(users, items, times_ms, sessions=None) -> Log:
    """A log whose ids are the codes themselves."""
    users, items = np.array(users, np.int32), np.array(items, np.int32)
    return Log(
        user_ids=pl.Series([f"u{code}" for code in range(users.max(initial=0) + 1)]),
        item_ids=pl.Series([f"i{code}" for code in range(items.max(initial=0) + 1)]),
        users=users,
        items=items,
        times_ms=np.array(times_ms, np.int64),
        sessions=None if sessions is None else np.array(sessions, np.int32),
    )
