"""Writes the histories of a log that continues an earlier one, and only those that changed."""

import shutil
from pathlib import Path

import numpy as np

from data_pipelines.appending.earlier import Earlier
from data_pipelines.appending.fingerprints import fingerprints
from data_pipelines.histories.store import (
    join_histories,
    load_places,
    save_places,
    write_histories,
)
from data_pipelines.progress import watched
from data_pipelines.sessions.dataset import Dataset

_MOST_RECORDS = 2
"""Records for each history; with more, all histories are written again, each once."""


def write_changed(directory: Path, earlier: Earlier, dataset: Dataset) -> int:
    """Writes the histories of `dataset`.

    The files of the earlier directory are taken over. New records follow for the histories that are
    new or changed, and records.parquet says which record each history has now.

    Args:
      directory: Receives them.
      earlier: The directory whose log this one continues. Its users come first.
      dataset: All histories.

    Returns:
      How many were new or changed.
    """
    users = len(dataset.user_ids)
    before = earlier.kept.fingerprints
    is_changed = np.ones(users, bool)
    is_changed[: len(before)] = fingerprints(dataset)[: len(before)] != before
    changed = np.flatnonzero(is_changed)
    places = load_places(earlier.directory)
    if places is None:
        places = np.arange(len(before))
    # The newest records are all in use.
    records = int(places.max()) + 1
    if not len(changed) or records + len(changed) > _MOST_RECORDS * users:
        write_histories(directory, watched(dataset.histories(), "writing", "users", users))
        return len(changed)
    part = directory / ".changed"
    part.mkdir()
    histories = watched(dataset.histories(changed), "writing", "users", len(changed))
    write_histories(part, histories)
    join_histories(directory, [part], kept=[earlier.directory])
    shutil.rmtree(part)
    now = np.empty(users, np.int64)
    now[: len(before)] = places
    now[changed] = records + np.arange(len(changed))
    save_places(directory, now)
    return len(changed)
