"""Compares two runs' workdirs, ignoring times."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

_TIMES = ("events_per_s", "seconds")
"""Names of fields that hold times."""


def journal(workdir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without their times."""
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [_timeless(json.loads(line)) for line in lines]


def differences(one: Path, other: Path) -> list[str]:
    """The names of everything that differs in two workdirs."""
    found = []
    if journal(one) != journal(other):
        found.append("metrics.jsonl")
    for name in ("valid.json", "test.json"):
        if (one / name).read_bytes() != (other / name).read_bytes():
            found.append(name)
    names = [sorted(path.name for path in (run / "checkpoints").iterdir()) for run in (one, other)]
    if names[0] != names[1]:
        return [*found, f"checkpoints {names[0]} instead of {names[1]}"]
    for name in names[0]:
        folders = [run / "checkpoints" / name for run in (one, other)]
        if not _same_arrays(*folders):
            found.append(f"state of step {name}")
        for item in ("loader", "metrics", "config"):
            values = [json.loads((folder / item / "metadata").read_text()) for folder in folders]
            if _timeless(values[0]) != _timeless(values[1]):
                found.append(f"{item} of step {name}")
    return found


def _same_arrays(one: Path, other: Path) -> bool:
    leaves = [jax.tree.leaves_with_path(_arrays(folder / "state")) for folder in (one, other)]
    return len(leaves[0]) == len(leaves[1]) and all(
        path == other_path and np.asarray(leaf).tobytes() == np.asarray(other_leaf).tobytes()
        for (path, leaf), (other_path, other_leaf) in zip(*leaves, strict=True)
    )


def _arrays(folder: Path) -> Any:
    """The tree of a checkpoint's arrays, whatever devices they were on."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.metadata(folder).item_metadata.tree
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        return checkpointer.restore(folder, restore_args=restore_args)


def _timeless(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _timeless(item) for name, item in value.items() if name not in _TIMES}
