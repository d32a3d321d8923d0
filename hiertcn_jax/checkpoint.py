"""Checkpoints of a run: {state, loader, config}, the newest and the best, through Orbax.

A checkpoint is written aside and renamed, so a folder with a step's name is whole. It holds the
train state (parameters, moments, lane carries), the loader's state in front of the next batch, and
the frozen configs. Restoring compares configs first and names every field that differs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

SCHEMA_VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that is missing, unreadable, or of another run; the message is one line."""


def config_differences(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """One "field: checkpoint A, this run B" for each wanted leaf that was saved otherwise."""
    lines = []
    for name in sorted(wanted):
        here, there = wanted.get(name), saved.get(name)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            lines += config_differences(there, here, f"{prefix}{name}.")
        elif _plain(here) != _plain(there):
            lines.append(f"{prefix}{name}: checkpoint {_plain(there)}, this run {_plain(here)}")
    return lines


def _plain(value: Any) -> Any:
    """As JSON would give it back: tuples are lists."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


class Checkpoints:
    """The checkpoints below one directory: the newest is kept, and the best.

    Args:
      directory: Made where it is missing, unless `read_only`.
      read_only: Never writes or removes anything.

    Raises:
      CheckpointError: What is there cannot be read.
    """

    def __init__(self, directory: Path, read_only: bool = False) -> None:
        self._directory = Path(directory).absolute()
        try:
            self._manager = _open(self._directory, read_only)
            # Looks at what each checkpoint was worth: what cannot be read shows here, not later.
            self._manager.best_step()
        except Exception as error:
            raise CheckpointError(
                f"{self._directory}: cannot be read: {_one_line(error)}"
            ) from error

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None where there is none."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Step of the best checkpoint, of equals the newest; the newest if none was validated."""
        best = self._manager.best_step()
        return self._manager.latest_step() if best is None else best

    def steps(self) -> list[int]:
        """All kept steps, in order."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        step: int,
        state: Any,
        loader: Mapping[str, Any],
        config: Mapping[str, Any],
        monitored: float | None = None,
    ) -> None:
        """Saves; returns when the device's arrays are copied, writing goes on behind.

        Args:
          step: Steps done.
          state: TrainState.
          loader: The loader's state in front of the next batch, JSON values.
          config: Configs, JSON values.
          monitored: The validation metric whose highest value makes the best checkpoint; None for
            a checkpoint that was not validated.
        """
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                loader=ocp.args.JsonSave(dict(loader)),
                config=ocp.args.JsonSave({"schema_version": SCHEMA_VERSION, **config}),
            ),
            metrics=None if monitored is None else {"monitored": monitored},
            force=True,
        )

    def read(self, step: int, item: str) -> dict[str, Any]:
        """The JSON item `config` or `loader` of a checkpoint.

        Raises:
          CheckpointError: There is no such step, the item cannot be read, or the checkpoint is of
            another schema.
        """
        if step not in self._manager.all_steps():
            kept = ", ".join(str(kept) for kept in self.steps()) or "none"
            raise CheckpointError(f"{self._directory}: no checkpoint of step {step} (kept: {kept})")
        try:
            value = dict(
                self._manager.restore(
                    step, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()})
                )[item]
            )
        # Orbax has no class for what it cannot read: a file cut off raises a plain Exception.
        except Exception as error:
            raise CheckpointError(
                f"{self._directory}/{step}: {item} cannot be read: {_one_line(error)}"
            ) from error
        if item == "config":
            version = value.pop("schema_version", None)
            if version != SCHEMA_VERSION:
                raise CheckpointError(
                    f"{self._directory}/{step}: schema_version={version}: this program reads "
                    f"{SCHEMA_VERSION}"
                )
        return value

    def restore(self, step: int, like: Any, config: Mapping[str, Any]) -> Any:
        """The train state of a step.

        Args:
          step: One of `steps()`.
          like: A tree of arrays or `jax.ShapeDtypeStruct` of the same structure.
          config: The parts of the saved config that must be equal.

        Raises:
          CheckpointError: No such step, unreadable files, or a config that differs.
        """
        saved = self.read(step, "config")
        differing = config_differences(saved, config)
        if differing:
            raise CheckpointError(
                f"{self._directory}/{step}: made with other settings: {'; '.join(differing)}"
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            )["state"]
        except Exception as error:
            raise CheckpointError(
                f"{self._directory}/{step}: state cannot be read: {_one_line(error)}"
            ) from error

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()


def _open(directory: Path, read_only: bool) -> ocp.CheckpointManager:
    best = preservation_policy.BestN(
        get_metric_fn=_monitored, n=1, keep_checkpoints_without_metrics=False
    )
    return ocp.CheckpointManager(
        directory,
        options=ocp.CheckpointManagerOptions(
            best_fn=_monitored,
            best_mode="max",
            preservation_policy=preservation_policy.AnyPreservationPolicy(
                [preservation_policy.LatestN(1), best]
            ),
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
        ),
        item_handlers={
            "state": ocp.StandardCheckpointHandler(),
            "loader": ocp.JsonCheckpointHandler(),
            "config": ocp.JsonCheckpointHandler(),
        },
    )


def _monitored(metrics: Mapping[str, float]) -> float:
    return float(metrics["monitored"])


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__
