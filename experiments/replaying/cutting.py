"""A log as it was at a moment."""

import dataclasses

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.histories.events import blocks_of
from data_pipelines.histories.record import NO_ITEMS, History
from experiments.comparison.alterations import AlteredHistories, ListedHistories, sessions_of
from experiments.runs.data import Data


def cut_at(data: Data, until: int) -> Data:
    """The log without the events from a moment on; a session may be cut.

    Args:
      data: The log.
      until: Seconds.

    Raises:
      DataError: Nothing happened before.
    """

    def alter(_: int, history: History) -> History:
        kept_n = history.times < until
        lengths_m = np.bincount(
            sessions_of(history)[kept_n], minlength=len(history.session_lengths)
        )
        kept_m = lengths_m > 0
        return dataclasses.replace(
            history,
            item_ids=history.item_ids[kept_n],
            times=history.times[kept_n],
            session_lengths=lengths_m[kept_m].astype(np.int32),
            session_splits=history.session_splits[kept_m],
            shown_items=NO_ITEMS,
            shown_counts=NO_ITEMS,
        )

    cut = ListedHistories(
        history
        for _, block in blocks_of(AlteredHistories(data.histories, alter))
        for history in block
        if len(history.times)
    )
    if not len(cut):
        raise DataError(f"{data.directory}: no event before --until={until}; set it later")
    return data._replace(histories=cut)
