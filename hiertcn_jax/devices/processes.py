"""Exchanges values between the processes of a run. With one process it does nothing and costs
nothing.

Each function is a meeting of all processes: all have to call it, in the same order.
"""

import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

_PIECE_BYTES = 1 << 24
"""Bytes that each process sends at once, through the devices' memory."""


def is_first() -> bool:
    """Whether this process writes files that a run writes once."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns once every process has called it.

    Args:
      name: Of the meeting, the same in all processes.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def highest(values: Sequence[int]) -> list[int]:
    """The maximum of each number over all processes; numbers must be below 2^31."""
    if jax.process_count() == 1:
        return list(values)
    return multihost_utils.process_allgather(np.asarray(values, np.int32)).max(0).tolist()


def gather_json(value: Any) -> list[Any]:
    """The JSON value of each process, in the order of the processes."""
    if jax.process_count() == 1:
        return [value]
    return [json.loads(part) for part in _gather_bytes(json.dumps(value).encode())]


def first_says(value: Any) -> Any:
    """The JSON value of the first process."""
    return gather_json(value)[0]


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """The rows of all processes, in the order of the processes."""
    if jax.process_count() == 1:
        return rows
    parts = _gather_bytes(np.ascontiguousarray(rows).tobytes())
    return np.concatenate(
        [np.frombuffer(part, rows.dtype).reshape(-1, *rows.shape[1:]) for part in parts]
    )


def _gather_bytes(data: bytes) -> list[bytes]:
    lengths = multihost_utils.process_allgather(np.asarray([len(data)], np.int32))[:, 0].tolist()
    pieces: list[list[bytes]] = [[] for _ in lengths]
    for start in range(0, max(lengths), _PIECE_BYTES):
        room = min(max(lengths) - start, _PIECE_BYTES)
        own = np.zeros(room, np.uint8)
        piece = np.frombuffer(data[start : start + room], np.uint8)
        own[: len(piece)] = piece
        for part, received in zip(pieces, multihost_utils.process_allgather(own), strict=True):
            part.append(received.tobytes())
    return [b"".join(part)[:length] for part, length in zip(pieces, lengths, strict=True)]
