"""The content hash of histories on disk, column by column: they need not fit in memory."""

import collections
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from data_pipelines.dataset import column_bytes, content_hash
from data_pipelines.events import HistorySource
from data_pipelines.vocabulary import Vocabulary

_READ_USERS = 4096
"""Histories that are in memory at a time."""


def hash_histories(directory: Path, histories: HistorySource, vocabulary: Vocabulary) -> str:
    """`Dataset.content_hash` of histories on disk.

    Args:
      directory: For a file of each column, which are removed.
      histories: All users.
      vocabulary: The catalogue.
    """
    names = ("lengths", "texts", "item_ids", "times", "session_lengths", "session_splits",
             "user_sessions")  # fmt: skip
    paths = {name: directory / f"column-{name}" for name in names}
    sizes: collections.Counter[str] = collections.Counter()
    files = {name: path.open("wb") for name, path in paths.items()}
    for start in range(0, len(histories), _READ_USERS):
        users = range(start, min(start + _READ_USERS, len(histories)))
        block = histories.__getitems__(list(users))
        lengths, texts = column_bytes(pl.Series([history.user_id for history in block]))
        files["lengths"].write(lengths)
        files["texts"].write(texts)
        for name in names[2:6]:
            values = np.concatenate([getattr(history, name) for history in block])
            sizes[name] += len(values)
            files[name].write(b"".join(column_bytes(values)))
        counts = np.asarray([len(history.session_lengths) for history in block], np.int64)
        files["user_sessions"].write(b"".join(column_bytes(counts)))
    for file in files.values():
        file.close()
    sizes["user_sessions"] = len(histories)
    catalogue = vocabulary.item_ids
    users_bytes = (piece for name in names[:2] for piece in _pieces(paths[name]))
    hashed = content_hash(
        [
            ("user_ids", len(histories), users_bytes),
            ("catalogue", len(catalogue), column_bytes(catalogue)),
            *((name, sizes[name], _pieces(paths[name])) for name in names[2:]),
        ]
    )
    for path in paths.values():
        path.unlink()
    return hashed


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece
