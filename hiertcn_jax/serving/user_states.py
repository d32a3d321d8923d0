"""Events of users, and their states between them: the model's carry, and what the host has to know.

A state is all that a model needs of a user's past, of one size however long that is. Numpy alone:
servers without JAX use it too.
"""

import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from hiertcn_jax.item_ids import PADDING_ID, UNKNOWN_ID
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.saving.json_files import parse_json
from hiertcn_jax.settings import shortly

_MAGIC = b"HTCN"
SCHEMA = 2
"""Of the bytes of a state; another one means that they are laid out otherwise."""


NOTHING: Mapping[int, Any] = MappingProxyType({})


class Events(NamedTuple):
    """Events of one user, in order.

    Attributes:
      item_rows: int32. Rows of the item table; UNKNOWN_ID for an item that is not in it.
      times: int64. Seconds.
      starts: bool or None. Where sessions start; None: where the pause is longer than the gap.
    """

    item_rows: np.ndarray
    times: np.ndarray
    starts: np.ndarray | None = None


class UserStates(NamedTuple):
    """The states of n users.

    Attributes:
      carry: The arrays of the model's carry, in the order in which JAX flattens it, with the users
        as first axis.
      position_n: int32. Events of the running session.
      events_n: int32. Events of the user in all.
      first_time_n: int64. Time of the user's first event, seconds; 0 where there is none.
      last_time_n: int64. Time of the newest.
      own_nm: int32. Rows of the user's last items, the newest first; PADDING_ID for none.
    """

    carry: tuple[np.ndarray, ...]
    position_n: np.ndarray
    events_n: np.ndarray
    first_time_n: np.ndarray
    last_time_n: np.ndarray
    own_nm: np.ndarray

    @property
    def users(self) -> int:
        """How many."""
        return len(self.position_n)

    def take(self, index_n: np.ndarray) -> "UserStates":
        """Some of the users; one may be named several times."""
        return self.map(lambda array: array[index_n])

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All arrays, the carry's first."""
        carry, *others = self
        return (*carry, *others)

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> "UserStates":
        """The states with a function applied to each array."""
        return self.with_arrays([function(array) for array in self.arrays])

    def with_arrays(self, arrays: Sequence[np.ndarray]) -> "UserStates":
        """States of these arrays, in the order of `arrays`."""
        leaves = len(self.carry)
        return UserStates(tuple(arrays[:leaves]), *arrays[leaves:])

    def to_bytes(self, model_id: str, later: Mapping[int, Any] = NOTHING) -> bytes:
        """The state of one user, for a store; `from_bytes` reads it.

        Args:
          model_id: Which model's carry it holds.
          later: Raw ids of rows that other catalogues have elsewhere: those that a live catalogue
            gave to items of its own.

        Raises:
          ValueError: There are several users.
        """
        if self.users != 1:
            raise ValueError(f"states: {self.users} users, must be 1 to become bytes")
        body = b"".join(array.tobytes() for array in self.arrays)
        facts = {"model": model_id, "schema": SCHEMA, "crc32": zlib.crc32(body)}
        if later:
            facts["later"] = {str(row): item for row, item in later.items()}
        header = json.dumps(facts).encode()
        return _MAGIC + struct.pack("<I", len(header)) + header + body


def fresh_states(carry: Sequence[np.ndarray], users: int) -> UserStates:
    """The states of users without any event.

    Args:
      carry: The arrays of the model's carry of as many lanes, at the start.
      users: How many.
    """
    return UserStates(
        tuple(carry),
        np.zeros(users, np.int32),
        np.zeros(users, np.int32),
        np.zeros(users, np.int64),
        np.zeros(users, np.int64),
        np.full((users, SIZES.own_events), PADDING_ID, np.int32),
    )


def from_bytes(
    data: bytes,
    like: UserStates,
    model_id: str,
    rows: int,
    rows_of: Callable[[list[Any]], np.ndarray] | None = None,
) -> UserStates:
    """The state of a user that `to_bytes` wrote.

    Args:
      data: The bytes.
      like: A state of one user of the same model, without events. An array of it without any
        entry grows with the events: it takes what bytes are left.
      model_id: Which model it must be of.
      rows: `v`, rows of the item table.
      rows_of: Gives the rows of the raw ids that the state names (`later`); None: the items are
        unknown here.

    Raises:
      ValueError: It is no state, of another model or schema, or damaged.
    """
    header, body = _opened(data, model_id)
    later = header["later"]
    expected = sum(array.nbytes for array in like.arrays)
    entry = sum(array.itemsize * array.shape[-1] for array in like.arrays if not array.size)
    more = len(body) - expected
    if more < 0 or (more and not entry) or (entry and more % entry):
        raise ValueError(f"state: {len(body)} bytes, must be {expected}; observe its events again")
    if zlib.crc32(body) != header.get("crc32"):
        raise ValueError("state: its bytes have changed; observe its events again")
    arrays, start = [], 0
    for array in like.arrays:
        shape = array.shape if array.size else (1, more // entry, array.shape[-1])
        end = start + array.itemsize * int(np.prod(shape))
        arrays.append(np.frombuffer(body[start:end], array.dtype).reshape(shape).copy())
        start = end
    state = like.with_arrays(arrays)
    if entry and state.events_n[0] != more // entry:
        raise ValueError(f"state: {more // entry} events, must be {state.events_n[0]}")
    own_nm, state = state.own_nm, state._replace(own_nm=_without(state.own_nm, later))
    if not is_possible(state, rows):
        raise ValueError("state: holds impossible values; observe its events again")
    if rows_of is None or not later:
        return state
    found = rows_of(list(later.values()))
    for row, now in zip(later, found, strict=True):
        state.own_nm[own_nm == row] = now
    return state


def _opened(data: bytes, model_id: str) -> tuple[dict[str, Any], memoryview]:
    """The header of a state's bytes, of this schema and model, and what follows it."""
    if len(data) < 8 or data[:4] != _MAGIC:
        raise ValueError("state: these bytes are no state of a user")
    (length,) = struct.unpack("<I", data[4:8])
    try:
        header = parse_json(data[8 : 8 + length].decode())
        schema, model = header["schema"], header["model"]
        header["later"] = {int(row): item for row, item in header.get("later", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("state: its header is damaged; observe its events again") from error
    if schema != SCHEMA:
        raise ValueError(
            f"state: schema {shortly(schema)}, this version reads {SCHEMA}; observe its events "
            "again"
        )
    if model != model_id:
        raise ValueError(
            f"state: of model {shortly(model)}, not {model_id}; observe its events again"
        )
    return header, memoryview(data)[8 + length :]


def _without(own_nm: np.ndarray, later: Mapping[int, Any]) -> np.ndarray:
    """The items, with those of these rows unknown."""
    return np.where(np.isin(own_nm, list(later)), UNKNOWN_ID, own_nm).astype(np.int32)


def is_possible(states: UserStates, rows: int) -> bool:
    """Whether all of the states may come from a model; see `possible`."""
    return bool(possible(states, rows).all())


def possible(states: UserStates, rows: int) -> np.ndarray:
    """Which states may come from a model, bool [n]: compiled code reads at their rows unchecked.

    Args:
      states: Any, such as those of a file.
      rows: `v`, rows of the item table.
    """
    own_nm = states.own_nm
    good_n = (
        ((own_nm >= PADDING_ID) & (own_nm < rows)).all(1)
        & (states.position_n >= 0)
        & (states.position_n <= states.events_n)
        & (states.first_time_n <= states.last_time_n)
    )
    for array in states.arrays:
        if array.dtype.kind == "f":
            good_n &= ~np.isnan(array).any(tuple(range(1, array.ndim)))
    return good_n


def joined(parts: Sequence[UserStates]) -> UserStates:
    """The states of the users of all parts, in order."""
    return parts[0].with_arrays(
        [np.concatenate(arrays) for arrays in zip(*(part.arrays for part in parts), strict=True)]
    )
