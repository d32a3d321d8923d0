"""Computes item embeddings for a log without any, from the items that sessions of train share."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.histories.record import History, Split
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.baselines.cooccurrence import sum_cooccurrence
from hiertcn_jax.baselines.events import FittedEvents
from hiertcn_jax.baselines.item_vectors import svd_item_vectors
from hiertcn_jax.batch import FIRST_ITEM_ID

FILE_NAME = "item_embeddings.npy"

_SHRINKAGE_SESSIONS = 50.0
"""The default width of the rankers that use such vectors."""


_BLOCK_EVENTS = 1 << 22
"""Events held in memory at a time."""


def write_svd_embeddings(
    directory: Path,
    histories: Iterable[History],
    vocabulary: Vocabulary,
    width: int,
    cut: int | None = None,
) -> None:
    """Writes `item_embeddings.npy`: float32, one row for each item of `vocabulary.parquet`.

    The rows are those of `svd_item_vectors`, rescaled to the square root of their lengths. Items
    without an event in train get zeros. Histories are counted one block at a time. Memory holds the
    pairs of items that share a session, and the items of sessions that have many.

    Args:
      directory: Where to write it.
      histories: All users; only their train parts count.
      vocabulary: All items.
      width: `d`, values in a row.
      cut: Seconds. Events from then on do not count; None: all of train count.

    Raises:
      DataError: `width` is not below the number of items in train.
    """
    events = (_train_events(block, cut) for block in _blocks(histories))
    counts = sum_cooccurrence(events, vocabulary.fitted_size)
    items = np.count_nonzero(counts.sessions_v)
    if width >= items:
        raise DataError(
            f"svd_embeddings={width}: must be below the number of items in train, {items}; "
            "lower it, or leave it out"
        )
    vectors_vd = svd_item_vectors(counts, width, _SHRINKAGE_SESSIONS, seed=0)
    later = [(0, vocabulary.size - vocabulary.fitted_size), (0, 0)]
    np.save(directory / FILE_NAME, np.pad(_with_rooted_lengths(vectors_vd[FIRST_ITEM_ID:]), later))


def _with_rooted_lengths(vectors_vd: np.ndarray) -> np.ndarray:
    """float32 [v, d]: the same directions, with lengths closer to each other.

    Lengths of rare and popular items differ a hundredfold. A model with given rows cannot correct
    that, and finds only popular items. With equal lengths, nothing would tell which items are
    popular. docs/scale.md compares the three.
    """
    wide_vd = vectors_vd.astype(np.float64)
    length_v = np.linalg.norm(wide_vd, axis=1)
    return (wide_vd / np.sqrt(np.where(length_v > 0, length_v, 1))[:, None]).astype(np.float32)


def _blocks(histories: Iterable[History]) -> Iterator[list[History]]:
    """The histories in blocks of about `_BLOCK_EVENTS` events."""
    block: list[History] = []
    events = 0
    for history in histories:
        block.append(history)
        events += len(history.item_ids)
        if events >= _BLOCK_EVENTS:
            yield block
            block, events = [], 0
    if block:
        yield block


def _train_events(block: Sequence[History], cut: int | None) -> FittedEvents:
    """The known events in the train parts of some users."""
    item_n, time_n, length_m, split_m = (
        np.concatenate([getattr(history, name) for history in block])
        for name in ("item_ids", "times", "session_lengths", "session_splits")
    )
    session_n = np.repeat(np.arange(len(length_m)), length_m)
    taken_n = (split_m[session_n] == Split.TRAIN) & (item_n >= FIRST_ITEM_ID)
    if cut is not None:
        taken_n &= time_n < cut
    return FittedEvents(
        item_n[taken_n].astype(np.int64),
        time_n[taken_n],
        session_n[taken_n],
        time_n[np.cumsum(length_m) - 1],
    )
