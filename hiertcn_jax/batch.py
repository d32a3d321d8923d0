"""The batch: the next chunk of every lane, of one fixed shape.

A batch has `b` lanes. A lane is an endless stream of events: session after session, user after
user; a batch holds the next row of each. A row closes when `l` events are in it, or when it would
touch more than `s` sessions; only then is its tail padding. What a row needs of the rows before it
travels in the model's carry, so a session may be longer than a row.

Names end in their axes:

    b  lanes (rows of a batch)           d  width of an item embedding
    l  events in a row                   h  width of the GRU's state
    s  sessions that a row touches       c  channels of the TCN, width of its input
    k  candidates or negatives           v  rows of the item table: padding, unknown, catalogue
    u  distinct items of a batch         n  events picked out of a batch (scored ones, say)
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

PADDING_ID = 0
"""Row 0 of the item table: no event is here."""

UNKNOWN_ID = 1
"""Row 1: an item outside the training vocabulary. An event like others, but never a target."""

FIRST_ITEM_ID = 2
"""Rows 2.. are the catalogue: the items of the training vocabulary."""

Array = Any
"""A numpy array on the host, a jax array on the device; the annotations beside give the shape."""


@dataclasses.dataclass(frozen=True)
class Bucket:
    """The fixed shape of a batch. One shape is one compilation.

    Attributes:
      lanes: `b`, over all processes.
      events: `l`, events in a row.
      sessions: `s`, sessions that one row may touch.

    Raises:
      ValueError: A size is below 1.
    """

    lanes: int
    events: int
    sessions: int

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise ValueError(f"{field.name}={value}: must be >= 1")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TableItems:
    """Ids are rows of the run's item table."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowItems:
    """Ids are places in the list of table rows that the batch touches (`rows` mode).

    Attributes:
      distinct_u: int32. Those rows, each once; [0] is PADDING_ID, [1] is UNKNOWN_ID, the tail is
        filled up with PADDING_ID.
    """

    distinct_u: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GivenItems:
    """Ids are places in the embeddings that the batch brings (`given` mode).

    Attributes:
      table_ud: float. An embedding for each distinct item. Rows 0 and 1 are empty: those of padding
        and unknown are learned, and the step fills them in.
      log_q_mu: float32 or None. The log-probability of each item under each of the loss's m sources
        of negatives; None where nothing is trained.
    """

    table_ud: Array
    log_q_mu: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ListedItems:
    """Ids are table rows; each process brings the embeddings of those that its lanes touch.

    `given` mode of several processes, as the batches leave the loaders. The step makes `GivenItems`
    of them (`devices.distinct_items.resolve_items`).

    Attributes:
      listed_u: int32. The rows that each process brings, one process after the other; the same row
        may be there several times.
      table_ud: float. An embedding for each of them; empty for padding and unknown.
      log_q_mu: float32 or None. See `GivenItems`.
    """

    listed_u: Array
    table_ud: Array
    log_q_mu: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EmbeddedItems:
    """Ids are rows of these embeddings: what models are called with.

    Attributes:
      table_ud: float32. Complete, padding and unknown included; u = v where it is the whole table.
    """

    table_ud: Array


Items = TableItems | RowItems | GivenItems | ListedItems | EmbeddedItems
"""What the ids of a batch point into."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """What the device gets: a pytree of arrays, numpy before the transfer and jax after it.

    Events stand at the front of a row, padding only after them. The type of `items` says what all
    ids of the batch point into. In each of them 0 is padding (`PADDING_ID`), 1 the unknown item
    (`UNKNOWN_ID`), and known items follow (`FIRST_ITEM_ID`..).

    Attributes:
      item_ids_bl: int32. The item of each event, which is what the model predicts there.
      position_bl: int32. Index of the event in its session, counted over rows. 0 on padding.
      user_position_bl: int32. Index of the event in its user's history, likewise.
      seconds_bl: int32. From the first event of its user to this one; 2**31 - 1 at most, 0 on
        padding.
      session_bl: int32. Index of the event's session in the row, 0..s-1. 0 on padding.
      starts_session_bs: bool. False for a session continued from the row before, and for slots
        that hold none.
      starts_user_bs: bool. True at a user's first session, where it starts.
      gap_hours_bs: float32. Hours from the last event of the session before to the first of this
        one; 0 at a user's first and where the session is continued.
      loss_weight_bl: float32. 0 on padding, unknown targets and events that are not trained on.
      scored_bl: bool. True where the event is a target of the evaluation.
      negatives_k: int32 or None. Items that serve every event as negatives.
      negatives_blk: int32 or None. Negatives of each event's own: what was shown beside it, then
        what was drawn for it. PADDING_ID: no candidate.
      memory_ids_blk: int32 or None. Items that memory speaks of at each event; PADDING_ID for none.
      memory_counts_blkf: float32 or None. What it says of each (`memory.lists.FEATURES`).
      clock_blg: float32 or None. Hour of the day and of the week, each as sine and cosine.
      items: What the ids point into.
    """

    item_ids_bl: Array
    position_bl: Array
    user_position_bl: Array
    seconds_bl: Array
    session_bl: Array
    starts_session_bs: Array
    starts_user_bs: Array
    gap_hours_bs: Array
    loss_weight_bl: Array
    scored_bl: Array
    negatives_k: Array | None = None
    negatives_blk: Array | None = None
    memory_ids_blk: Array | None = None
    memory_counts_blkf: Array | None = None
    clock_blg: Array | None = None
    items: Items = TableItems()

    def replace(self, **changes: Any) -> "Batch":
        """This batch with the named fields changed."""
        return dataclasses.replace(self, **changes)

    def with_embeddings(self, table_ud: Array) -> "Batch":
        """This batch for a model: its ids are rows of these embeddings."""
        return self.replace(items=EmbeddedItems(table_ud))

    @property
    def ids(self) -> dict[str, Array]:
        """The fields that hold ids, by name; what a batch does not have is left out."""
        names = ("item_ids_bl", "negatives_k", "negatives_blk", "memory_ids_blk")
        return {name: ids for name in names if (ids := getattr(self, name)) is not None}

    @property
    def bucket(self) -> Bucket:
        """The shape of this batch (of this process's lanes)."""
        lanes, events = self.item_ids_bl.shape
        return Bucket(lanes, events, self.starts_session_bs.shape[1])


def padding_batch(bucket: Bucket) -> Batch:
    """A batch without any event, to make parameters and shapes from."""
    events = (bucket.lanes, bucket.events)
    sessions = (bucket.lanes, bucket.sessions)
    return Batch(
        item_ids_bl=np.full(events, PADDING_ID, np.int32),
        position_bl=np.zeros(events, np.int32),
        user_position_bl=np.zeros(events, np.int32),
        seconds_bl=np.zeros(events, np.int32),
        session_bl=np.zeros(events, np.int32),
        starts_session_bs=np.zeros(sessions, bool),
        starts_user_bs=np.zeros(sessions, bool),
        gap_hours_bs=np.zeros(sessions, np.float32),
        loss_weight_bl=np.zeros(events, np.float32),
        scored_bl=np.zeros(events, bool),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NextEvent:
    """What is known of the next event of each lane before it happens: everything but its item.

    Attributes:
      position_b: int32. Its index in its session. 0 starts a session.
      user_position_b: int32. Its index in its user's history. 0 starts a user.
      seconds_b: int32. From the first event of its user to this one, as `Batch.seconds_bl`.
      gap_hours_b: float32. Where it starts a session, the hours since the last event of the session
        before; 0 at a user's first. It is not read elsewhere.
    """

    position_b: Array
    user_position_b: Array
    seconds_b: Array
    gap_hours_b: Array


@dataclasses.dataclass(frozen=True)
class BatchInfo:
    """What only the host needs to know about a batch.

    Attributes:
      user_bs: int64. Index of the user's record in the histories, -1 for a slot without a session.
      session_in_user_bs: int32. Index of the session in its user's history, -1 likewise.
      time_bl: int64. Seconds since the epoch, 0 on padding.
      item_ids_bl: int32. Rows of the item table, whatever the ids of the batch point into.
      target_bl: bool. Events of the part that is trained on or evaluated, unknown items included:
        `target_bl & (item_ids_bl == UNKNOWN_ID)` are the unknown targets.
      ends_user_bl: bool. The last event of its user's history, as far as it is gone through.
    """

    user_bs: np.ndarray
    session_in_user_bs: np.ndarray
    time_bl: np.ndarray
    item_ids_bl: np.ndarray
    target_bl: np.ndarray
    ends_user_bl: np.ndarray


class LaneBatch(NamedTuple):
    """One element of a loader: the device's part and the host's."""

    batch: Batch
    info: BatchInfo
