"""The batch: the next segment of every lane, with one fixed shape.

A batch has `b` lanes. A lane is an endless stream of events: session after session, user after
user. A batch holds the next segment of each. A segment closes when it has `l` events, or when it
would touch more than `s` sessions; only then does it end with padding. What a segment needs from
earlier segments is in the model's carry, so a session may be longer than a segment.

Names end in their axes:

    b  lanes                             d  width of an item embedding
    l  events in a segment               h  width of the GRU's state
    s  sessions that a segment touches   c  channels of the TCN, width of its input
    k  candidates or negatives           v  rows of the item table: padding, unknown, catalogue
    u  distinct items of a batch         n  selected events (for example scored ones)
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from hiertcn_jax.item_ids import FIRST_ITEM_ID as FIRST_ITEM_ID
from hiertcn_jax.item_ids import PADDING_ID as PADDING_ID
from hiertcn_jax.item_ids import UNKNOWN_ID as UNKNOWN_ID

Array = Any
"""A numpy array on the host, a jax array on the device; the names of fields give the axes."""


@dataclasses.dataclass(frozen=True)
class Bucket:
    """The fixed shape of a batch. Each shape is compiled once.

    Attributes:
      lanes: `b`, over all processes.
      events: `l`, events in a segment.
      sessions: `s`, the most sessions that one segment may touch.

    Raises:
      ValueError: A size is below 1.

    Example:
      >>> padding_batch(Bucket(lanes=4, events=32, sessions=8)).item_ids_bl.shape
      (4, 32)
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
    """Ids are positions in the list of table rows that the batch touches (`rows` mode).

    Attributes:
      distinct_u: int32. Those rows, each once; [0] is PADDING_ID, [1] is UNKNOWN_ID, and PADDING_ID
        fills up the tail.
    """

    distinct_u: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GivenItems:
    """Ids are positions in the embeddings that the batch brings (`given` mode).

    Attributes:
      table_ud: float. An embedding for each distinct item. Rows 0 and 1 are empty: the embeddings
        of padding and unknown are learned, and the step fills them in.
      log_q_mu: float32 or None. The log-probability of each item under each of the loss's m sources
        of negatives; None outside training.
    """

    table_ud: Array
    log_q_mu: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ListedItems:
    """Ids are table rows; each process brings the embeddings of the rows that its lanes touch.

    Loaders make these in `given` mode with several processes. The step turns them into `GivenItems`
    (`devices.distinct_items.resolve_items`).

    Attributes:
      listed_u: int32. The rows that each process brings, in the order of the processes; a row may
        occur several times.
      table_ud: float. An embedding for each of them; empty for padding and unknown.
      log_q_mu: float32 or None. See `GivenItems`.
    """

    listed_u: Array
    table_ud: Array
    log_q_mu: Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EmbeddedItems:
    """Ids are rows of these embeddings. Models are called with these.

    Attributes:
      table_ud: float32. Complete, including padding and unknown; u = v for the whole table.
    """

    table_ud: Array


Items = TableItems | RowItems | GivenItems | ListedItems | EmbeddedItems
"""What the ids of a batch refer to."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Input of the device: a pytree of arrays, numpy before the transfer and jax after it.

    Events are at the start of a segment, padding only after them. The type of `items` says what all
    ids of the batch refer to. In each of them 0 is padding (`PADDING_ID`), 1 the unknown item
    (`UNKNOWN_ID`), and known items follow (`FIRST_ITEM_ID`..).

    Attributes:
      item_ids_bl: int32. The item of each event, which the model predicts there.
      position_bl: int32. Index of the event in its session, counted over segments. 0 on padding.
      user_position_bl: int32. Index of the event in its user's history. 0 on padding.
      seconds_bl: int32. From the first event of its user to this one; 2**31 - 1 at most, 0 on
        padding.
      session_bl: int32. Index of the event's session in the segment, 0..s-1. 0 on padding.
      starts_session_bs: bool. False for a session continued from the segment before, and for empty
        slots.
      starts_user_bs: bool. True where a user's first session starts.
      gap_hours_bs: float32. Hours from the last event of the previous session to the first of this
        one; 0 at a user's first session and where a session continues.
      loss_weight_bl: float32. 0 on padding, unknown targets and events that are not trained on.
      scored_bl: bool. True where the event is a target of the evaluation.
      negatives_k: int32 or None. Items that every event has as negatives.
      negatives_blk: int32 or None. Each event's own negatives: first impressions, then those drawn
        for it. PADDING_ID: no candidate.
      memory_ids_blk: int32 or None. Items that memory lists for each event; PADDING_ID for none.
      memory_counts_blkf: float32 or None. Memory's counts of each (`memory.lists.FEATURES`).
      memory_counts_nkf: float32 or None. In place of these, the counts of the few events of a batch
        that have a list.
      memory_events_n: int32 or None. The index of each such event in the batch, with segments laid
        end to end; b*l for none.
      clock_blg: float32 or None. Hour of the day and of the week, each as sine and cosine.
      items: What the ids refer to.
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
    memory_counts_nkf: Array | None = None
    memory_events_n: Array | None = None
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
        """The fields that hold ids, by name, without those that are None."""
        names = ("item_ids_bl", "negatives_k", "negatives_blk", "memory_ids_blk")
        return {name: ids for name in names if (ids := getattr(self, name)) is not None}

    @property
    def bucket(self) -> Bucket:
        """The shape of this batch (of this process's lanes)."""
        lanes, events = self.item_ids_bl.shape
        return Bucket(lanes, events, self.starts_session_bs.shape[1])


def padding_batch(bucket: Bucket) -> Batch:
    """A batch without any event, to initialize parameters and shapes."""
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
    """What is known of each lane's next event before it happens: everything but its item.

    Attributes:
      position_b: int32. Its index in its session. 0 starts a session.
      user_position_b: int32. Its index in its user's history. 0 starts a user.
      seconds_b: int32. From the first event of its user to this one, as `Batch.seconds_bl`.
      gap_hours_b: float32. If it starts a session, the hours since the last event of the previous
        session; 0 at a user's first. Ignored otherwise.
      memory_ids_bk: int32 or None. Items that memory lists for it; see `Batch.memory_ids_blk`.
      memory_counts_bkf: float32 or None. Memory's counts of each.
      clock_bg: float32 or None. Hour of the day and of the week, each as sine and cosine.
    """

    position_b: Array
    user_position_b: Array
    seconds_b: Array
    gap_hours_b: Array
    memory_ids_bk: Array | None = None
    memory_counts_bkf: Array | None = None
    clock_bg: Array | None = None


@dataclasses.dataclass(frozen=True)
class BatchInfo:
    """Facts about a batch that only the host needs.

    Attributes:
      user_bs: int64. Index of the user's record in the histories, -1 for a slot without a session.
      session_in_user_bs: int32. Index of the session in its user's history, -1 without a session.
      time_bl: int64. Seconds since the epoch, 0 on padding.
      item_ids_bl: int32. Rows of the item table, whatever the ids of the batch refer to.
      target_bl: bool. Events of the part that is trained on or evaluated, including unknown items:
        `target_bl & (item_ids_bl == UNKNOWN_ID)` are the unknown targets.
      ends_user_bl: bool. The last event of its user's history, as far as the loader reads it.
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
