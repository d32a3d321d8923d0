"""An exported model that follows users event by event, in onnxruntime.

    export = Export("exports/shop")
    stream, memory = OnnxStream(export), export.memory()
    states = stream.start()
    states = stream.observe(states, export.items.encode(["i42"]), [1_700_000_000])
    best = stream.recommend(states, [1_700_000_060], k=10, memory=memory)
    export.items.decode(best.rows_nk[0])

The functions are those of `serving.stream`, with one event of each user at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime

from hiertcn_jax.exported.reading import Export, ExportError
from hiertcn_jax.item_ids import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.memory.clock import clock
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.serving.event_rows import follow, memory_lists, next_event
from hiertcn_jax.serving.user_states import UserStates, from_bytes


class Best(NamedTuple):
    """The best items of n users.

    Attributes:
      rows_nk: int32. Rows of the item table, best first; PADDING_ID where fewer are left.
      scores_nk: float32. -inf there.
      vectors_nd: float32. The users' vectors; `ExportedExplainer` reads them.
    """

    rows_nk: np.ndarray
    scores_nk: np.ndarray
    vectors_nd: np.ndarray


class OnnxStream:
    """States of users, and the best items for them.

    Attributes:
      gap_seconds: A pause longer than this ends a session.
      model_id: See `Export`.
    """

    def __init__(self, export: Export, threads: int = 1) -> None:
        """Loads the model.

        Args:
          export: The model.
          threads: To score the items for one call: one up to some 50,000 items, several are
            faster for more.

        Raises:
          ExportError: It is not one that onnxruntime can run.
        """
        self.gap_seconds, self.model_id = export.gap_seconds, export.model_id
        self._start, self._rows = export.start, export.manifest["rows"]
        self._has_memory = bool(export.manifest["memory"])
        self._observe = _session(export, "observe", 1) if self._start.carry else None
        self._recommend = _session(export, "recommend", threads)
        self._inputs = {one.name for one in self._recommend.get_inputs()}
        (self._width,) = (
            one.shape[-1] for one in self._recommend.get_outputs() if one.name == "vectors"
        )
        self._observe_inputs = (
            {one.name for one in self._observe.get_inputs()} if self._observe else set()
        )
        self._all_v = np.ones(self._rows, bool)

    def start(self, users: int = 1) -> UserStates:
        """The states of users without any event."""
        return self._start.take(np.zeros(users, np.int64))

    def from_bytes(self, data: bytes) -> UserStates:
        """The state that `UserStates.to_bytes` gave; see `serving.user_states.from_bytes`."""
        return from_bytes(data, self._start, self.model_id, self._rows)

    def observe(
        self,
        states: UserStates,
        item_rows_n: Sequence[int] | np.ndarray,
        time_n: Sequence[int] | np.ndarray,
        starts_n: np.ndarray | None = None,
    ) -> UserStates:
        """The states after one event of each user.

        Args:
          states: Before it.
          item_rows_n: int32. Rows of the item table; UNKNOWN_ID for an item that is not in it.
          time_n: Seconds; before a user's newest event counts as its time.
          starts_n: Whether each starts a session; None: if the pause is longer than the gap.

        Raises:
          ValueError: There are not as many events as users, or an item is no row.
        """
        item_n = np.asarray(item_rows_n, np.int32)
        time_n = np.asarray(time_n, np.int64)
        if not len(item_n) == len(time_n) == states.users:
            raise ValueError(
                f"item_rows_n: {len(item_n)} items and {len(time_n)} times for {states.users} users"
            )
        if len(item_n) and not PADDING_ID < item_n.min() <= item_n.max() < self._rows:
            raise ValueError(f"item_rows_n: must be from 1 to {self._rows - 1}")
        facts, after = follow(
            states,
            item_n,
            time_n,
            np.ones(len(item_n), np.int64),
            self.gap_seconds,
            None if starts_n is None else np.asarray(starts_n, bool),
        )
        if self._observe is None or not len(item_n):
            return after
        given = {
            "item": item_n,
            "position": facts.position_m,
            "user_position": facts.user_position_m,
            "seconds": facts.seconds_m,
            "gap_hours": facts.gap_hours_m,
            **_named(states),
        }
        given = {name: given[name] for name in self._observe_inputs}
        return after._replace(carry=tuple(_run(self._observe, None, given)))

    def recommend(
        self,
        states: UserStates,
        time_n: Sequence[int] | np.ndarray,
        k: int,
        memory: Memory | None = None,
        excluded_ne: np.ndarray | None = None,
        allowed_v: np.ndarray | None = None,
        starts_n: np.ndarray | None = None,
    ) -> Best:
        """The best items for the users' next events.

        Args:
          states: Of the users.
          time_n: When the events would happen, seconds.
          k: Items for each.
          memory: What everybody did so far, for a model with terms of it.
          excluded_ne: int32. Rows that each user is not to get; PADDING_ID is none.
          allowed_v: bool. Which rows anybody may get; None: all items.
          starts_n: Whether each event starts a session; None: if the pause is longer than the gap.

        Raises:
          ValueError: k is below 1, there are not as many times as users, or the model needs a
            memory and has none.
        """
        feed = self._moments(states, time_n, memory, starts_n)
        if k < 1:
            raise ValueError(f"k={k}: must be >= 1")
        if excluded_ne is None:
            excluded_ne = np.full((states.users, 1), PADDING_ID, np.int32)
        feed["excluded"] = np.asarray(excluded_ne, np.int32)
        feed["allowed"] = self._all_v if allowed_v is None else allowed_v
        feed["k"] = np.array([min(k, self._rows - FIRST_ITEM_ID)], np.int64)
        rows_nk, scores_nk, vectors = _run(self._recommend, ["rows", "scores", "vectors"], feed)
        rows_nk[scores_nk == -np.inf] = PADDING_ID
        # The vectors of the model `memory` are all 0: one number stands for them.
        vectors_nd = np.broadcast_to(vectors, (states.users, self._width))
        return Best(rows_nk, scores_nk, vectors_nd)

    def _moments(
        self,
        states: UserStates,
        time_n: Sequence[int] | np.ndarray,
        memory: Memory | None,
        starts_n: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        time_n = np.asarray(time_n, np.int64)
        if len(time_n) != states.users:
            raise ValueError(f"time_n: {len(time_n)} times for {states.users} users")
        moments = next_event(states, time_n, self.gap_seconds, starts_n)
        feed = {
            "position": moments.position_n,
            "user_position": moments.user_position_n,
            "seconds": moments.seconds_n,
            "gap_hours": moments.gap_hours_n,
            **_named(states),
        }
        if self._has_memory:
            if memory is None:
                raise ValueError("memory: must be given for a model with terms of memory")
            now_n = np.maximum(time_n, states.last_time_n)
            lists = memory_lists(states, now_n, moments.position_n, memory)
            feed |= {
                "memory_items": lists.item_ids_nk,
                "memory_counts": lists.features_nkf,
                "clock": clock(now_n),
            }
        return {name: array for name, array in feed.items() if name in self._inputs}


def _run(
    session: onnxruntime.InferenceSession, wanted: list[str] | None, given: dict[str, np.ndarray]
) -> list[np.ndarray]:
    try:
        return session.run(wanted, given)
    except Exception as error:  # onnxruntime's own exceptions have no common class.
        line = str(error).partition("\n")[0]
        raise ExportError(f"onnxruntime cannot run the model: {line}; export it again") from error


def _named(states: UserStates) -> dict[str, np.ndarray]:
    return {f"carry_{number}": array for number, array in enumerate(states.carry)}


def _session(export: Export, name: str, threads: int) -> onnxruntime.InferenceSession:
    path = export.directory / f"{name}.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common class.
        line = str(error).partition("\n")[0]
        raise ExportError(f"{path}: onnxruntime cannot run it: {line}") from error
