"""Lanes: a grain stage that assigns histories to independent streams of events, cut into segments.

A lane is known by its number among the lanes of all processes, and its content depends only on that
number. A process reads a contiguous share of the lanes. A lane's state is the first event that it
has not yet returned: (epoch, position of the user in it, index of the event in the user's history).
So any process can resume it, if the number of lanes is the same.

Worker processes may run before this stage, in the source, but never after it: they would take its
batches in turns, and mix up the lanes.
"""

from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from data_pipelines.histories.events import HistorySource, Stream, encode, event_dtype, record_dtype
from data_pipelines.lanes.dealing import Deal
from data_pipelines.lanes.forming import form_segments
from hiertcn_jax.batch import Bucket, LaneBatch

_SEGMENTS_AHEAD = 4
"""Rows that a lane reads ahead: a record costs a quarter as much in a fetch of 300 from disk as in
a fetch of 20."""


class LanesIterDataset(grain.IterDataset[LaneBatch]):
    """Batches of the lanes of one process.

    Attributes:
      lanes: This process's lanes, by their number among all lanes.
    """

    def __init__(
        self,
        source: HistorySource,
        bucket: Bucket,
        stream: Stream,
        deal: Deal,
        *,
        impressions: int = 0,
        one_user_segments: bool = False,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        """Sets up the lanes, without reading anything.

        Args:
          source: The histories.
          bucket: The shape of a batch over all processes.
          stream: The sessions to read.
          deal: The users of each lane.
          impressions: `k`, items shown with an event that its batch carries as negatives.
          one_user_segments: Whether a segment ends where its user's history ends.
          process_index: This process, of `process_count`.
          process_count: Must divide `bucket.lanes`.

        Raises:
          ValueError: `process_count` does not divide the lanes, or `process_index` is out of range.
        """
        super().__init__()
        self.lanes = own_lanes(bucket.lanes, process_index, process_count)
        self.source = source
        self.bucket = bucket
        self.stream = stream
        self.deal = deal
        self.impressions = impressions
        self.one_user_segments = one_user_segments
        self.event = event_dtype(impressions)

    def __iter__(self) -> "LanesIterator":
        """Starts every lane at its first event."""
        return LanesIterator(self)

    def __str__(self) -> str:
        return f"LanesIterDataset({self.bucket}, lanes={self.lanes}, stream={self.stream})"


class _Lane:
    """One lane: events that are read but not yet returned, and the users who follow."""

    def __init__(self, number: int, event: np.dtype) -> None:
        self.number = number
        self._event = event
        self.start(turn=0, event=0)

    def start(self, turn: int, event: int) -> None:
        self.records = np.empty(0, record_dtype(self._event))
        self.next_turn = turn
        self.skipped_events = event  # of the user of `next_turn`
        self.dry = False

    def next_event(self) -> tuple[int, int]:
        """Turn, and index in its user's history, of the first event that is not yet returned."""
        if not len(self.records):
            return self.next_turn, self.skipped_events
        first = self.records[:1].view(self._event)
        return int(first["turn"][0]), int(first["user_position"][0])

    def lacks(self, events: int) -> bool:
        """Whether it has to read more users to hold this many events."""
        return not self.dry and len(self.records) < events

    def append(self, histories: Sequence[np.ndarray]) -> None:
        if not histories:
            return
        first, *others = histories
        self.records = np.concatenate([self.records, first[self.skipped_events :], *others])
        self.next_turn += len(histories)
        self.skipped_events = 0


class LanesIterator(grain.DatasetIterator[LaneBatch]):
    """Iterator of `LanesIterDataset`."""

    def __init__(self, dataset: LanesIterDataset) -> None:
        super().__init__()
        self._dataset = dataset
        self._lanes = [_Lane(number, dataset.event) for number in dataset.lanes]
        self._step = 0
        # The mean decides how many users to fetch at once; it never changes the events. The first
        # fetch takes one user per lane, because users may be long.
        self._users_read = 1
        self._events_read = _SEGMENTS_AHEAD * dataset.bucket.events

    def __next__(self) -> LaneBatch:
        """The next segment of every lane.

        Raises:
          StopIteration: All lanes of all processes are exhausted. Training lanes never are.
        """
        self._assert_not_closed()
        if self._step == self._dataset.deal.batches:
            raise StopIteration
        events = self._dataset.bucket.events
        while any(lane.lacks(events) for lane in self._lanes):
            self._read_on([lane for lane in self._lanes if lane.lacks(_SEGMENTS_AHEAD * events)])
        element = self._form_segments()
        self._step += 1
        return element

    def get_state(self) -> dict[str, Any]:
        """The state as JSON values: the number of batches returned, and each lane's position."""
        next_events = [lane.next_event() for lane in self._lanes]
        positions = [
            self._dataset.deal.position(lane.number, turn)
            for lane, (turn, _) in zip(self._lanes, next_events, strict=True)
        ]
        return {
            "step": self._step,
            "lane_count": self._dataset.bucket.lanes,
            "lane": [lane.number for lane in self._lanes],
            "epoch": [epoch for epoch, _ in positions],
            "place": [position for _, position in positions],
            "event": [event for _, event in next_events],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state, of any number of processes. Ignores lanes of other processes.

        Raises:
          ValueError: The state has another number of lanes or users, lacks a lane, or cannot come
            from `get_state` with these histories.
        """
        _require_counts(state)
        lane_count = self._dataset.bucket.lanes
        if state["lane_count"] != lane_count:
            raise ValueError(f"a state of {state['lane_count']} lanes, for {lane_count} lanes")
        columns = (state["lane"], state["epoch"], state["place"], state["event"])
        saved = {lane: rest for lane, *rest in zip(*columns, strict=True)}
        for lane in self._lanes:
            if lane.number not in saved:
                raise ValueError(f"the state has no lane {lane.number}, only {sorted(saved)}")
            epoch, position, event = saved[lane.number]
            lane.start(self._dataset.deal.turn(lane.number, epoch, position), event)
        self._require_events()
        self._step = state["step"]

    def __str__(self) -> str:
        return f"LanesIterator({self._dataset})"

    def _require_events(self) -> None:
        """Checks that users have the events at which their lanes resume."""
        begun = [lane for lane in self._lanes if lane.skipped_events]
        if not begun:
            return
        lane_n, turn_n = np.asarray([(lane.number, lane.next_turn) for lane in begun]).T
        # An exhausted lane has no user; 0 fills its entry.
        user_n = self._dataset.deal.users(lane_n, turn_n)
        users = np.maximum(user_n, 0).tolist()
        histories = self._dataset.source.__getitems__(users)
        events = map(len, encode(histories, users, turn_n, self._dataset.stream))
        for lane, user, count in zip(begun, user_n.tolist(), events, strict=True):
            if user < 0 or lane.skipped_events >= count:
                raise ValueError(
                    f"lane {lane.number}: event={lane.skipped_events}: its user there has "
                    f"{count if user >= 0 else 0} events"
                )

    def _read_on(self, lanes: Sequence[_Lane]) -> None:
        """Fetches about as many users at once as `_SEGMENTS_AHEAD` segments of these lanes need."""
        dataset = self._dataset
        mean_events = max(self._events_read / self._users_read, 1)
        ahead = _SEGMENTS_AHEAD * dataset.bucket.events
        lacking_b = np.asarray([ahead - len(lane.records) for lane in lanes])
        wanted_b = np.ceil(lacking_b / mean_events).astype(np.int64)
        row_n = np.repeat(np.arange(len(lanes)), wanted_b)
        first_turn_b = np.asarray([lane.next_turn for lane in lanes])
        turn_n = first_turn_b[row_n] + np.arange(len(row_n)) - (wanted_b.cumsum() - wanted_b)[row_n]
        user_n = dataset.deal.users(np.asarray([lane.number for lane in lanes])[row_n], turn_n)

        dealt_n = user_n >= 0
        users = user_n[dealt_n].tolist()
        dealt_b = np.bincount(row_n[dealt_n], minlength=len(lanes))
        for lane, is_dry in zip(lanes, (dealt_b < wanted_b).tolist(), strict=True):
            lane.dry = is_dry
        if not users:
            return
        histories = dataset.source.__getitems__(users)
        encoded = encode(histories, users, turn_n[dealt_n], dataset.stream, dataset.impressions)
        self._users_read += len(users)
        self._events_read += sum(map(len, encoded))
        ends = dealt_b.cumsum().tolist()
        for lane, start, end in zip(lanes, [0, *ends], ends, strict=False):
            lane.append(encoded[start:end])

    def _form_segments(self) -> LaneBatch:
        dataset, bucket = self._dataset, self._dataset.bucket
        event = dataset.event
        record_bl = np.empty((len(self._lanes), bucket.events), record_dtype(event))
        filled_b = np.asarray([min(len(lane.records), bucket.events) for lane in self._lanes])
        for index, lane in enumerate(self._lanes):
            record_bl[index, : filled_b[index]] = lane.records[: bucket.events]
        element, taken_b = form_segments(
            record_bl.view(event),
            filled_b,
            bucket.sessions,
            dataset.stream.evaluated,
            dataset.one_user_segments,
        )
        for lane, taken in zip(self._lanes, taken_b.tolist(), strict=True):
            lane.records = lane.records[taken:]
        return element


def _require_counts(state: dict[str, Any]) -> None:
    """Checks that a state holds whole numbers >= 0, equally many for each lane."""
    for name in ("step", "lane_count"):
        if not _is_count(state[name]):
            raise ValueError(f"{name}={state[name]!r:.60}: must be a whole number >= 0")
    columns = {name: state[name] for name in ("lane", "epoch", "place", "event")}
    for name, column in columns.items():
        if not isinstance(column, list) or not all(map(_is_count, column)):
            raise ValueError(f"{name}={column!r:.60}: must be whole numbers >= 0")
        if len(column) != len(columns["lane"]):
            raise ValueError(f"{name}: {len(column)} values of {len(columns['lane'])} lanes")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def own_lanes(lanes: int, process_index: int, process_count: int) -> range:
    """The lanes of one process.

    Raises:
      ValueError: `process_count` does not divide `lanes`, or `process_index` is out of range.
    """
    if process_count < 1 or lanes % process_count:
        raise ValueError(f"process_count={process_count}: must divide lanes={lanes}")
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index={process_index}: must be in 0..{process_count - 1}")
    own = lanes // process_count
    return range(process_index * own, (process_index + 1) * own)
