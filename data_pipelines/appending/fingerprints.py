"""A number for each history. Only histories whose number changes have to be written again."""

import numpy as np

from data_pipelines.hashing import scrambled_rows
from data_pipelines.sessions.dataset import Dataset


def fingerprints(dataset: Dataset) -> np.ndarray:
    """uint64 [users]. Depends on items, times, sessions and parts of a history, and their order."""
    session_ends = np.cumsum(dataset.user_sessions)
    event_ends = np.cumsum(dataset.session_lengths, dtype=np.int64)[session_ends - 1]
    event_starts = np.concatenate([[0], event_ends[:-1]])
    session_m = np.arange(len(dataset.session_lengths)) - np.repeat(
        session_ends - dataset.user_sessions, dataset.user_sessions
    )
    of_session_m = session_m << 2 | dataset.session_splits
    place_n = np.arange(len(dataset.item_ids)) - np.repeat(event_starts, event_ends - event_starts)
    hash_n = scrambled_rows(
        place_n,
        dataset.item_ids,
        dataset.times,
        np.repeat(of_session_m, dataset.session_lengths),
    )
    return np.add.reduceat(hash_n, event_starts)
