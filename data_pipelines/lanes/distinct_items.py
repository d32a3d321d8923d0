"""`rows` mode: draws negatives on the host, and makes ids local to a batch's distinct items.

Every batch of a run has the same room `u` for distinct items: the largest possible number, rounded
up. One shape means one compilation; no batch with more items than those before it can cause another
one late in a run. The cost is bounded: `u` rows are gathered and updated, but no convolution reads
them, and `u` is never more than events and negatives together.

Memory lists up to 96 items an event, but most of them for many events of a batch. So with lists a
batch has the smallest sufficient of a few rooms, each twice the one before it. A run compiles those
that it meets, usually one or two. The room depends on the batch alone, so a run that resumes has
the same.

A process knows only the items of its own lanes. With several processes, each draws its negatives
here and keeps global ids; the step finds the distinct items of the whole batch.

`given` mode works the same way, and the batch also brings the embeddings of its distinct items.
With several processes, each brings the embeddings and ids of its own lanes' items.
"""

import dataclasses
from collections.abc import Callable

import grain
import numpy as np

from data_pipelines.embeddings.item_embeddings import ItemEmbeddings
from hiertcn_jax.batch import (
    FIRST_ITEM_ID,
    PADDING_ID,
    UNKNOWN_ID,
    Batch,
    Bucket,
    GivenItems,
    LaneBatch,
    ListedItems,
    RowItems,
)

_SIZE_QUANTUM = 128
"""`u` is a multiple of this, so that the rows fill the tiles of an accelerator."""


@dataclasses.dataclass(frozen=True)
class ItemRows:
    """Settings of the item table for `rows` and `given` mode.

    Attributes:
      table_rows: `v`, rows of the item table: padding, unknown, catalogue.
      negatives: `k`, how many to draw. 0: none.
      shared: True: one set of negatives for all events of a batch. False: k for each event.
      weight_v: float [v]. Items are drawn in proportion to it (for example popularity^alpha); rows
        0 and 1 never are. None: uniform over the catalogue.
      impressions: Number of negatives that each event brings from impressions.
      listed: The most items that memory lists for an event.
      given: `given` mode: where to read embeddings.
      log_q_mv: `given` mode: for each of the loss's sources of negatives float32 [v], the
        log-probability of each row, -inf if it is never drawn.

    Raises:
      ValueError: A size is out of range, or the weights are not usable.
    """

    table_rows: int
    negatives: int = 0
    shared: bool = True
    weight_v: np.ndarray | None = None
    impressions: int = 0
    listed: int = 0
    given: ItemEmbeddings | None = None
    log_q_mv: tuple[np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        if self.table_rows <= FIRST_ITEM_ID:
            raise ValueError(f"table_rows={self.table_rows}: must be > {FIRST_ITEM_ID}")
        for name in ("negatives", "impressions", "listed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be >= 0")
        if self.given is not None and self.given.table_rows != self.table_rows:
            raise ValueError(f"given: has {self.given.table_rows} rows, not {self.table_rows}")
        if self.weight_v is None:
            return
        if self.weight_v.shape != (self.table_rows,):
            raise ValueError(f"weight_v has shape {self.weight_v.shape}, not ({self.table_rows},)")
        if not (self.weight_v >= 0).all() or not self.weight_v[FIRST_ITEM_ID:].any():
            raise ValueError("weight_v: must be >= 0 everywhere and > 0 for some item")

    def distinct_rows(self, lanes: int, events: int) -> int:
        """`u`: room for the distinct items of any batch of this many lanes and events a lane."""
        shared = self.negatives if self.shared else 0
        own = self.impressions + self.listed + (0 if self.shared else self.negatives)
        most = min(self.table_rows, FIRST_ITEM_ID + lanes * events * (1 + own) + shared)
        return -(-most // _SIZE_QUANTUM) * _SIZE_QUANTUM

    def rooms(self, lanes: int, events: int) -> tuple[int, ...]:
        """The values of `u` that a run may use, ascending; one, unless memory lists items."""
        most = self.distinct_rows(lanes, events)
        rooms = [dataclasses.replace(self, listed=0).distinct_rows(lanes, events)]
        while 2 * rooms[-1] < most:
            rooms.append(2 * rooms[-1])
        return (*rooms, most) if rooms[-1] < most else tuple(rooms)


def given_rows(given: ItemEmbeddings | None) -> ItemRows | None:
    """Settings of `given` mode without training; None if embeddings are learned."""
    return None if given is None else ItemRows(given.table_rows, given=given)


def with_item_rows(
    loader: grain.IterDataset[LaneBatch], items: ItemRows, bucket: Bucket, own: range, seed: int
) -> grain.IterDataset[LaneBatch]:
    """Adds negatives, and turns the ids of the batches into local ones.

    Negatives depend only on (seed, step, lane), not on restarts or on the number of processes. The
    stage's state holds the step.

    Args:
      loader: Batches with global ids.
      items: The item table, and which negatives to draw.
      bucket: The shape of a batch over all processes.
      own: The lanes of this process.
      seed: Seed of the negatives.

    Returns:
      The same batches with `negatives_k` or `negatives_blk` as `items` says (after the
      impressions). In `rows` mode their items are `RowItems`, or `TableItems` with several
      processes. In `given` mode they are `GivenItems`, or `ListedItems` with several processes.
      `info` keeps the rows of the table.
    """
    if items.negatives:
        loader = loader.map_with_index(_drawing(items, bucket.events, own, seed))
    has_all, given = len(own) == bucket.lanes, items.given
    if given is None and not has_all:
        return loader
    # Processes find their own items, but their batches must have the same shape.
    rooms = items.rooms(len(own), bucket.events)[0 if has_all else -1 :]

    def localize(element: LaneBatch) -> LaneBatch:
        local, distinct_u = to_local_ids(element.batch, items.table_rows, rooms)
        if given is None:
            return LaneBatch(local.replace(items=RowItems(distinct_u)), element.info)
        brought = _read_given(distinct_u, given, items.log_q_mv)
        if has_all:
            return LaneBatch(local.replace(items=brought), element.info)
        listed = ListedItems(distinct_u, brought.table_ud, brought.log_q_mu)
        return LaneBatch(element.batch.replace(items=listed), element.info)

    return loader.map(localize)


def to_local_ids(batch: Batch, table_rows: int, rooms: tuple[int, ...]) -> tuple[Batch, np.ndarray]:
    """Replaces ids by positions among the batch's distinct items.

    Args:
      batch: Its ids are rows of the table.
      table_rows: `v`.
      rooms: Choices of `u`, ascending; the last has room for all batches.

    Returns:
      The batch, and `distinct_u`, see `RowItems`.

    Raises:
      ValueError: An id is not a row of the table.
    """
    fields = batch.ids
    # Padding and unknown are the smallest ids, so they get positions 0 and 1.
    always = np.asarray([PADDING_ID, UNKNOWN_ID], np.int32)
    ids = np.concatenate([always, *(ids.ravel() for ids in fields.values())])
    distinct, local = _distinct_places(ids)
    if distinct[0] < 0 or distinct[-1] >= table_rows:
        raise ValueError(f"items {distinct[0]}..{distinct[-1]} in a table of {table_rows} rows")
    room = next(room for room in rooms if room >= len(distinct))
    distinct_u = np.full(room, PADDING_ID, np.int32)
    distinct_u[: len(distinct)] = distinct
    changes = {}
    start = len(always)
    for name, global_ids in fields.items():
        part = local[start : start + global_ids.size]
        changes[name] = part.reshape(global_ids.shape)
        start += global_ids.size
    return batch.replace(**changes), distinct_u


def _distinct_places(ids_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct ids, ascending, and the position of each id among them; all int32.

    Equals `np.unique` with the inverse, in two thirds of the time: it sorts words that hold an id
    and its position, instead of indices of ids.
    """
    words_n = (ids_n.astype(np.int64) << 32) | np.arange(len(ids_n))
    words_n.sort()
    sorted_n = (words_n >> 32).astype(np.int32)
    is_new_n = np.diff(sorted_n, prepend=sorted_n[0] - 1) != 0
    place_n = np.empty(len(ids_n), np.int32)
    place_n[words_n & 0xFFFFFFFF] = np.cumsum(is_new_n, dtype=np.int32) - 1
    return sorted_n[is_new_n], place_n


def _read_given(
    distinct_u: np.ndarray, given: ItemEmbeddings, log_q_mv: tuple[np.ndarray, ...]
) -> GivenItems:
    """The embeddings, and what the logQ correction needs, of a batch's distinct items."""
    end = int(np.argmax(distinct_u)) + 1
    # Zeros for padding and unknown, whose rows the step adds, and after the last item.
    table_ud = np.empty((len(distinct_u), given.width), given.dtype)
    table_ud[:FIRST_ITEM_ID], table_ud[end:] = 0, 0
    given.read(distinct_u[FIRST_ITEM_ID:end], table_ud[FIRST_ITEM_ID:end])
    log_q_mu = np.stack([log_q_v[distinct_u] for log_q_v in log_q_mv]) if log_q_mv else None
    return GivenItems(table_ud, log_q_mu)


def _drawing(
    items: ItemRows, events: int, own: range, seed: int
) -> Callable[[int, LaneBatch], LaneBatch]:
    """A function (step, batch) -> the batch with negatives."""
    key = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    to_items = _inverse_distribution(items)

    def draw(step: int, element: LaneBatch) -> LaneBatch:
        if items.shared:
            uniform_k = _uniform(key, step, 0, items.negatives)
            batch = element.batch.replace(negatives_k=to_items(uniform_k))
        else:
            # Philox makes 4 numbers per count, so each lane begins at its own count.
            counts = -(-events * items.negatives // 4)
            uniform = _uniform(key, step, own.start * counts, len(own) * counts * 4)
            uniform_bn = uniform.reshape(len(own), -1)[:, : events * items.negatives]
            uniform_blk = uniform_bn.reshape(len(own), events, items.negatives)
            drawn_blk, own_blk = to_items(uniform_blk), element.batch.negatives_blk
            if own_blk is not None:
                drawn_blk = np.concatenate([own_blk, drawn_blk], -1)
            batch = element.batch.replace(negatives_blk=drawn_blk)
        return LaneBatch(batch, element.info)

    return draw


def _uniform(key: np.ndarray, step: int, start: int, count: int) -> np.ndarray:
    """float64 [count] in [0, 1): numbers 4 * start.. of the sequence of this step."""
    bits = np.random.Philox(key=key, counter=[start, 0, step, 0])
    return np.random.Generator(bits).random(count)


def _inverse_distribution(items: ItemRows) -> Callable[[np.ndarray], np.ndarray]:
    """Maps uniform numbers to item ids, int32."""
    if items.weight_v is None:
        catalogue = items.table_rows - FIRST_ITEM_ID
        return lambda uniform: (FIRST_ITEM_ID + uniform * catalogue).astype(np.int32)
    weight = np.asarray(items.weight_v[FIRST_ITEM_ID:], np.float64)
    upper = np.cumsum(weight)
    # Rounding may push a draw to the very end, where the last items may have weight 0.
    last = int(np.flatnonzero(weight)[-1])

    def search(uniform: np.ndarray) -> np.ndarray:
        # In this order, consecutive searches touch the same memory. Sorting 16 bits is cheap.
        order = np.argsort((uniform.ravel() * 2**16).astype(np.uint16), kind="stable")
        drawn = np.empty(uniform.size, np.int32)
        drawn[order] = np.searchsorted(upper, uniform.ravel()[order] * upper[-1], side="right")
        return FIRST_ITEM_ID + np.minimum(drawn, np.int32(last)).reshape(uniform.shape)

    return search
