"""The loaders: lanes, items of each batch if asked for, a thread that prepares batches ahead."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grain
import numpy as np
from grain.experimental import ThreadPrefetchIterDataset

from data_pipelines.histories.events import HistorySource, Stream
from data_pipelines.histories.record import Split
from data_pipelines.lanes.dealing import Chosen, Deal, Shuffled, deal_by_length, require_targets
from data_pipelines.lanes.distinct_items import ItemRows, with_item_rows
from data_pipelines.lanes.lanes import LanesIterDataset
from data_pipelines.lanes.open_catalogue import OpenCatalogue
from data_pipelines.lanes.replay import Replay
from hiertcn_jax.batch import PADDING_ID, Bucket, LaneBatch

FIT_STREAMS = {
    "train": Stream(Split.TRAIN, Split.TRAIN, evaluated=False),
    "train_valid": Stream(Split.TRAIN, Split.VALID, evaluated=False),
}
"""The sessions to train on, by the value of `fit_on`."""

ALL_SESSIONS = Stream(Split.TRAIN, Split.TEST, evaluated=False)
"""Reads every event of every user."""


class ListSource(Protocol):
    """Gives each event the short list of items that terms of the score add to.

    `memory_lists.Recall` is one.
    """

    @property
    def listed(self) -> int:
        """Items on an event's list."""

    def onto(self, loader: grain.IterDataset[LaneBatch]) -> grain.IterDataset[LaneBatch]:
        """Adds the lists to a loader's batches, whose ids must still be rows of the table."""


def train_loader(
    source: HistorySource,
    bucket: Bucket,
    *,
    seed: int,
    fit_on: str = "train",
    before: int | None = None,
    impressions: int = 0,
    item_rows: ItemRows | None = None,
    recall: ListSource | None = None,
    replay: Replay | None = None,
    process_index: int = 0,
    process_count: int = 1,
    prefetch: int = 2,
) -> grain.IterDataset[LaneBatch]:
    """Batches for training, without end: every user once per epoch, in a new order each time.

    Args:
      source: All histories; sessions of parts that are not trained on are left out.
      bucket: The shape of a batch over all processes; each gets `lanes / process_count` of its
        lanes.
      seed: Seed of the order of users and of the negatives.
      fit_on: "train" or "train_valid".
      before: Seconds. Events from then on are left out; None: none are.
      impressions: `k`, items shown with each event that become its negatives (`negatives_blk`).
      item_rows: Settings of `rows` or `given` mode; None: ids stay global.
      recall: The log's memory, for models with terms; None: no lists.
      replay: What to learn, for a run that continues another; None: all users, every event.
      process_index: This process, of `process_count`.
      process_count: Must divide `bucket.lanes`.
      prefetch: Batches that a thread prepares ahead. 0: none.

    Returns:
      A dataset. Its iterators have `get_state` and `set_state` with JSON values, for the last
      batch returned. `merge_states` joins the states of several processes.

    Raises:
      ValueError: An argument is out of range, or there is nothing to train on.
    """
    stream = fit_stream(fit_on, before)
    require_targets(source, stream)
    deal: Deal = Shuffled(len(source), bucket.lanes, seed)
    if replay is not None:
        deal = Chosen(replay.users, bucket.lanes, seed)
    lanes = LanesIterDataset(
        source,
        bucket,
        stream,
        deal,
        impressions=impressions,
        process_index=process_index,
        process_count=process_count,
    )
    alter = None if replay is None else replay.weigh
    return _assemble(lanes, item_rows, recall, seed, prefetch, local_lists=True, alter=alter)


def fit_stream(fit_on: str, before: int | None) -> Stream:
    """The sessions to train on; see `train_loader`.

    Raises:
      ValueError: `fit_on` is not one of FIT_STREAMS.
    """
    if fit_on not in FIT_STREAMS:
        raise ValueError(f"fit_on={fit_on}: must be one of {', '.join(FIT_STREAMS)}")
    return dataclasses.replace(FIT_STREAMS[fit_on], before=before)


def eval_loader(
    source: HistorySource,
    bucket: Bucket,
    *,
    split: Split | None,
    item_rows: ItemRows | None = None,
    recall: ListSource | None = None,
    opened: OpenCatalogue | None = None,
    process_index: int = 0,
    process_count: int = 1,
    prefetch: int = 2,
) -> grain.IterDataset[LaneBatch]:
    """Batches for evaluation: reads every user once, from a fresh carry.

    Leaves out users without a session of `split`. Reads the other users' sessions up to and
    including it. All processes get the same number of batches, padded once their lanes are
    exhausted. Building a loader reads all histories, to assign them evenly: keep it for reuse.

    Args:
      source: All histories.
      bucket: The shape of a batch over all processes; each gets `lanes / process_count` of its
        lanes.
      split: The part whose known items are scored. None: all sessions of all users, none scored.
      item_rows: Settings of `rows` or `given` mode, without negatives; None: ids stay global.
      recall: The log's memory, for models with terms; None: no lists. Ids in the lists are
        always rows of the table, whatever the ids of the batch refer to.
      opened: The live catalogue; None: the histories hold fitted items alone, and all are scored.
      process_index: This process, of `process_count`.
      process_count: Must divide `bucket.lanes`.
      prefetch: Batches that a thread prepares ahead. 0: none.

    Returns:
      A dataset like that of `train_loader`, but finite.

    Raises:
      ValueError: An argument is out of range, or no user has a session of `split`.
    """
    stream = ALL_SESSIONS if split is None else Stream(split, split, evaluated=True)
    deal: Deal = deal_by_length(source, stream, bucket)
    lanes = LanesIterDataset(
        source, bucket, stream, deal, process_index=process_index, process_count=process_count
    )
    alter = None if opened is None else opened.open
    return _assemble(lanes, item_rows, recall, 0, prefetch, alter=alter)


def user_loader(
    source: HistorySource,
    bucket: Bucket,
    *,
    item_rows: ItemRows | None = None,
    recall: ListSource | None = None,
    process_index: int = 0,
    process_count: int = 1,
    prefetch: int = 2,
) -> grain.IterDataset[LaneBatch]:
    """Batches that cover the whole history of every user once, with one user per segment.

    After a segment with `info.ends_user_bl`, the carry of its lane is that user's state after the
    whole history. Nothing is scored. All processes get the same number of batches, padded once
    their lanes are exhausted.

    Args:
      source: All histories.
      bucket: The shape of a batch over all processes. Short segments need less padding, because
        many users have few events.
      item_rows: Settings of `rows` or `given` mode, without negatives; None: ids stay global.
      recall: The log's memory, for models with terms; None: no lists. Ids in the lists are
        always rows of the table, whatever the ids of the batch refer to.
      process_index: This process, of `process_count`.
      process_count: Must divide `bucket.lanes`.
      prefetch: Batches that a thread prepares ahead. 0: none.

    Returns:
      A dataset like that of `train_loader`, but finite.

    Raises:
      ValueError: An argument is out of range, or there are no events.
    """
    lanes = LanesIterDataset(
        source,
        bucket,
        ALL_SESSIONS,
        deal_by_length(source, ALL_SESSIONS, bucket, one_user_segments=True),
        one_user_segments=True,
        process_index=process_index,
        process_count=process_count,
    )
    return _assemble(lanes, item_rows, recall, 0, prefetch)


def useful_slots(loader: grain.IterDataset[LaneBatch], batches: int) -> float:
    """The share of event slots that hold an event, over the first `batches` batches.

    An epoch of n events takes about `n / (useful_slots * lanes * events)` steps.
    """
    shares = [
        np.mean(element.info.item_ids_bl != PADDING_ID)
        for element in itertools.islice(loader, batches)
    ]
    return float(np.mean(shares))


def merge_states(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Joins the loader states of all processes into one that any process can restore.

    Args:
      states: What `get_state` returned at the same step in each process.

    Raises:
      ValueError: The states are from different steps.
    """
    first = states[0]
    merged: dict[str, Any] = {}
    for name, value in first.items():
        values = [state[name] for state in states]
        if name == "parent":
            merged[name] = merge_states(values)
        elif isinstance(value, list):
            merged[name] = list(itertools.chain.from_iterable(values))
        elif any(other != value for other in values):
            raise ValueError(f"states differ in {name}: {values}")
        else:
            merged[name] = value
    return merged


def require_state(state: Any, like: dict[str, Any], step: int) -> None:
    """Checks that a saved state has all stages of a loader, each at `step`.

    `set_state` checks the lanes' positions.

    Args:
      state: The saved state.
      like: A state that the loader's `get_state` returned.
      step: The expected number of returned batches.

    Raises:
      ValueError: A stage or a field is missing or unknown, or is at another step.
    """
    if not isinstance(state, dict):
        raise ValueError(f"batches={state!r:.60}: must be fields with their values")
    for name in sorted(state.keys() ^ like.keys()):
        raise ValueError(f"batches.{name!r:.60}: {'missing' if name in like else 'unknown'}")
    for name in {"step", "counter"} & like.keys():
        if type(state[name]) is not int or state[name] != step:
            raise ValueError(f"batches.{name}={state[name]!r:.60}: must be {step}")
    if "parent" in like:
        require_state(state["parent"], like["parent"], step)


def _assemble(
    lanes: LanesIterDataset,
    item_rows: ItemRows | None,
    recall: ListSource | None,
    seed: int,
    prefetch: int,
    local_lists: bool = False,
    alter: Callable[[LaneBatch], LaneBatch] | None = None,
) -> grain.IterDataset[LaneBatch]:
    loader: grain.IterDataset[LaneBatch] = lanes
    if alter is not None:
        loader = loader.map(alter)
    if recall is not None and local_lists:
        # This must come before ids become local, because the lists' items count as the batch's.
        loader = recall.onto(loader)
        if item_rows is not None:
            item_rows = dataclasses.replace(item_rows, listed=recall.listed)
    if item_rows is not None:
        loader = with_item_rows(loader, item_rows, lanes.bucket, lanes.lanes, seed)
    if recall is not None and not local_lists:
        loader = recall.onto(loader)
    if prefetch:
        loader = ThreadPrefetchIterDataset(loader, prefetch_buffer_size=prefetch)
    return loader
