"""Hashes the content of histories on disk column by column, so that they need not fit in memory."""

import collections
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data_pipelines.histories.events import HistorySource, blocks_of
from data_pipelines.histories.fitted_items import as_fitted
from data_pipelines.histories.record import History
from data_pipelines.sessions.dataset import column_bytes, content_hash
from data_pipelines.sessions.vocabulary import Vocabulary

_OF_HISTORIES = ("item_ids", "times", "session_lengths", "session_splits")
_SHOWN = ("shown_items", "shown_counts")
"""Hashed only if the log has impressions."""


def hash_histories(
    directory: Path,
    histories: HistorySource,
    vocabulary: Vocabulary,
    see: Callable[[Sequence[History]], None] = lambda block: None,
) -> str:
    """`Dataset.content_hash` for histories on disk.

    Args:
      directory: Where to keep one temporary file per column.
      histories: All users.
      vocabulary: All items.
      see: A function that receives all histories too, many at a time, so that one read serves both.
    """
    sizes: collections.Counter[str] = collections.Counter()
    for _, block in blocks_of(histories):
        see(block)
        for name, (size, *pieces) in _columns(block, vocabulary).items():
            sizes[name] += size
            with (directory / f"column-{name}").open("ab") as file:
                file.writelines(pieces)

    def column(name: str, *files: str) -> tuple[str, int, Iterator[bytes]]:
        paths = [directory / f"column-{file}" for file in files or (name,)]
        return name, sizes[name], (piece for path in paths for piece in _pieces(path))

    catalogue = vocabulary.fitted_part().item_ids
    # The order must be that of `Dataset.columns`.
    names = (*_OF_HISTORIES, "user_sessions", *(_SHOWN if sizes["shown_counts"] else ()))
    hashed = content_hash(
        [
            column("user_ids", "user_lengths", "user_ids"),
            ("catalogue", len(catalogue), column_bytes(catalogue)),
            *map(column, names),
        ]
    )
    for path in directory.glob("column-*"):
        path.unlink()
    return hashed


def _columns(block: Sequence[History], vocabulary: Vocabulary) -> dict[str, tuple[Any, ...]]:
    """For each column, the number of values in these histories and their bytes."""
    ids = pl.Series([history.user_id for history in block])
    lengths, texts = column_bytes(ids)
    user_sessions = np.asarray([len(history.session_lengths) for history in block], np.int64)
    arrays = {
        name: np.concatenate([getattr(history, name) for history in block])
        for name in (*_OF_HISTORIES, *_SHOWN)
    }
    arrays["item_ids"] = as_fitted(arrays["item_ids"], vocabulary)
    return {
        "user_lengths": (len(ids), lengths),
        "user_ids": (len(ids), texts),
        **{
            name: (len(values), *column_bytes(values))
            for name, values in {**arrays, "user_sessions": user_sessions}.items()
        },
    }


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
