"""What is in the directory of an exported model. All files are plain data.

| file | content |
|---|---|
| `manifest.json` | what the model is, its functions, and SHA-256 and size of every other file |
| `configs.json` | all settings of the run |
| `items.json` | the catalogue: `ids` in the order of rows, from 2 on; `columns`: titles and more |
| `weights.safetensors` | the parameters, and the embeddings of all items |
| `observe.onnx`, `recommend.onnx` | the model; weights are read from `weights.safetensors` |
| `observe.stablehlo`, `recommend.stablehlo` | the same for JAX and other users of XLA |
| `memory.safetensors` | what everybody did so far (models with `--memory`) |
| `start.npy` | the state of a user without events, one record |
| `users/ids.json` | the users of the log |
| `users/states.npy` | their states at its end, a record each |
| `users/events.npy`, `users/first.npy` | all their events; where each user's begin, and the end |
"""

from typing import Any

import numpy as np

from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.serving.user_states import UserStates

KIND = "hiertcn_jax export"
SCHEMA = 1
"""Of the directory; another one means that it is laid out otherwise."""

MANIFEST = "manifest.json"
CONFIGS = "configs.json"
ITEMS = "items.json"
WEIGHTS = "weights.safetensors"
MEMORY = "memory.safetensors"
START = "start.npy"
USER_IDS = "users/ids.json"
STATES = "users/states.npy"
EVENTS = "users/events.npy"
FIRST_EVENTS = "users/first.npy"

EVENT = np.dtype([("item", "<i4"), ("time", "<i8"), ("start", "?")])
"""An event: row of the item table, seconds, whether it starts a session."""

_HOST = [
    ("position", "<i4"),
    ("events", "<i4"),
    ("first_time", "<i8"),
    ("last_time", "<i8"),
    ("own", "<i4", (SIZES.own_events,)),
]


def state_record(states: UserStates) -> np.dtype[Any]:
    """The record of a user's state; its bytes are those after the header of `to_bytes`."""
    carry = [
        (f"carry_{number}", array.dtype.newbyteorder("<"), array.shape[1:])
        for number, array in enumerate(states.carry)
    ]
    return np.dtype([*carry, *_HOST])


def is_state_record(record: np.dtype[Any]) -> bool:
    """Whether records of this type are states of some model."""
    names = record.names or ()
    carry = [f"carry_{number}" for number in range(len(names) - len(_HOST))]
    host = np.dtype(_HOST)
    return names == (*carry, *(host.names or ())) and all(
        record[name] == host[name] for name in host.names or ()
    )


def as_records(states: UserStates) -> np.ndarray:
    """The states as records."""
    records = np.zeros(states.users, state_record(states))
    for name, array in zip(records.dtype.names or (), states.arrays, strict=True):
        records[name] = array
    return records


def as_states(records: np.ndarray) -> UserStates:
    """The states of records."""
    arrays = [np.ascontiguousarray(records[name]) for name in records.dtype.names or ()]
    host = len(_HOST)
    return UserStates(tuple(arrays[:-host]), *arrays[-host:])
