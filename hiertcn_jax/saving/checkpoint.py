"""Checkpoints of a run: {state, loader, config}, the newest two and the best, through Orbax.

A checkpoint is written to a temporary folder, every file is hashed, and then the folder is renamed:
a folder with a step's name was complete. It holds the train state (parameters, moments, lane
carries), the loader's state before the next batch, and the frozen configs. Before restoring
anything, a program compares the hashes and then the configs, and names every difference.

With several processes, each writes and reads its part of the arrays, in a directory that all see.
The first process does what is done once.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from hiertcn_jax.devices.processes import is_first
from hiertcn_jax.saving.checkpoint_damage import (
    REPLACED,
    SCHEMA_VERSION,
    checkpoint_damage,
    metrics_damage,
    put_back_replaced,
    schema_difference,
    step_folders,
    worth_of,
)
from hiertcn_jax.saving.checksums import write_checksums
from hiertcn_jax.saving.json_files import parse_json

_WRITING = ".writing"
"""Suffix of a step's folder that is not complete."""

_REMOVED = "removed"
"""Where a checkpoint moves before it is deleted, so that a half-deleted one is never in the way."""


class CheckpointError(ValueError):
    """A checkpoint that is missing, unreadable, or of another run; the message is one line."""


class EarlierState(NamedTuple):
    """A state in the form in which an earlier version saved it.

    Attributes:
      like: As for `Checkpoints.restore`.
      back: Converts a state of this form into the form of this version.
    """

    like: Any
    back: Callable[[Any], Any]


def config_differences(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """One "field: checkpoint A, this run B" for each field of `wanted` saved differently."""
    lines = []
    for name in sorted(wanted):
        here, there = wanted.get(name), saved.get(name)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            lines += config_differences(there, here, f"{prefix}{name}.")
        elif _plain(here) != _plain(there):
            lines.append(f"{prefix}{name}: checkpoint {_plain(there)}, this run {_plain(here)}")
    return lines


def unknown_fields(
    saved: Mapping[str, Any], known: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """One "field: checkpoint A, unknown to this version" for each field only `saved` has."""
    lines = []
    for name in sorted(saved):
        there, here = saved[name], known.get(name)
        if name not in known:
            lines.append(f"{prefix}{name}: checkpoint {_plain(there)}, unknown to this version")
        elif isinstance(there, Mapping) and isinstance(here, Mapping):
            lines += unknown_fields(there, here, f"{prefix}{name}.")
    return lines


def _plain(value: Any) -> Any:
    """The value as JSON returns it: tuples become lists."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


class Checkpoints:
    """The checkpoints in one directory. Keeps the newest two and the best.

    Args:
      directory: Created if it is missing, unless `read_only`.
      read_only: Never writes or removes anything.

    Raises:
      CheckpointError: The directory cannot be created, or a file that holds a checkpoint's
        validation metric is corrupt.
    """

    def __init__(self, directory: Path, read_only: bool = False) -> None:
        self._directory = Path(directory).absolute()
        self._whole: set[int] = set()
        self._checkpointer = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(
                state=ocp.StandardCheckpointHandler(),
                loader=ocp.JsonCheckpointHandler(),
                config=ocp.JsonCheckpointHandler(),
                metrics=ocp.JsonCheckpointHandler(),
            )
        )
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None
        if read_only or not is_first():
            return
        try:
            self._directory.mkdir(exist_ok=True)
            for aside in self._directory.glob(f"*{_WRITING}*"):
                shutil.rmtree(aside)
            put_back_replaced(self._directory)
        except OSError as error:
            raise CheckpointError(f"{self._directory}: cannot be opened: {error}") from error
        self._tidy()

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return max(step_folders(self._directory), default=None)

    def best_step(self) -> int | None:
        """Step of the best checkpoint (of equals the newest); the newest if none was validated.

        Raises:
          CheckpointError: A checkpoint's validation metric is corrupt.
        """
        worth = {}
        for step, folder in step_folders(self._directory).items():
            damage = metrics_damage(folder)
            if damage is not None:
                raise CheckpointError(
                    f"{damage}; name a step or the last one, in place of the best"
                )
            metrics = _read_json(folder, "metrics")
            try:
                found = worth_of(metrics)
            except ValueError as error:
                raise CheckpointError(f"{folder}: metrics: {error}") from error
            if found is not None:
                worth[step] = found
        if not worth:
            return self.latest_step()
        return max(worth, key=lambda step: (worth[step], step))

    def steps(self) -> list[int]:
        """The steps of all kept checkpoints, in order."""
        return sorted(step_folders(self._directory))

    def save(
        self,
        step: int,
        state: Any,
        loader: Mapping[str, Any],
        config: Mapping[str, Any],
        monitored: float | None = None,
        lower_is_better: bool = False,
    ) -> None:
        """Saves a checkpoint. Returns once the device's arrays are copied; a thread writes them.

        Args:
          step: Steps done. Replaces an existing checkpoint of this step.
          state: TrainState.
          loader: The loader's state before the next batch, JSON values.
          config: Configs, JSON values.
          monitored: The validation metric; the best checkpoint has the best value. None if this
            checkpoint was not validated.
          lower_is_better: Whether the lowest value is the best.

        Raises:
          CheckpointError: This checkpoint, or the previous one, cannot be written.
        """
        self.wait()
        aside = self._directory / f"{step}{_WRITING}"
        try:
            self._checkpointer.save(
                aside,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    loader=ocp.args.JsonSave(dict(loader)),
                    config=ocp.args.JsonSave({"schema_version": SCHEMA_VERSION, **config}),
                    metrics=ocp.args.JsonSave(
                        {"monitored": monitored, "lower_is_better": lower_is_better}
                    ),
                ),
            )
        except Exception as error:
            raise self._unwritten(step, error) from error
        self._writing = self._thread.submit(self._finish, step, aside)

    def read(self, step: int, item: str) -> dict[str, Any]:
        """The JSON item `config` or `loader` of a checkpoint.

        Raises:
          CheckpointError: The step does not exist, a file of it is corrupt, or it has another
            schema.
        """
        folder = self._require_whole(step)
        value = _read_json(folder, item)
        if item == "config":
            difference = schema_difference(folder, value.pop("schema_version", None))
            if difference is not None:
                raise CheckpointError(difference)
        return value

    def restore(
        self,
        step: int,
        like: Any,
        differences: Callable[[Mapping[str, Any]], list[str]] = lambda saved: [],
        table_parts: int = 1,
        earlier: Mapping[int, EarlierState] = MappingProxyType({}),
    ) -> Any:
        """The train state of a step.

        Args:
          step: One of `steps()`.
          like: A tree of arrays or `jax.ShapeDtypeStruct` of the same structure.
          differences: Lists how the saved configs contradict this run, one line each.
          table_parts: Devices that share the rows of item tables. If there are several, now or when
            it was saved, rows of zeros fill tables up, and their number may differ.
          earlier: The form of the state in earlier schemas, by version.

        Raises:
          CheckpointError: The step does not exist, a file of it is corrupt, or a config differs.
        """
        folder = self._require_whole(step)
        saved = self.read(step, "config")
        if differing := differences(saved):
            raise CheckpointError(
                f"{folder}: made with other settings: {'; '.join(differing)}; "
                "use those settings, or another directory"
            )
        form = earlier.get(self._schema_version(folder), EarlierState(like, lambda state: state))
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, form.like)
        try:
            strict = (_saved_table_parts(saved), table_parts) == (1, 1)
            args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract, strict=strict))
            return form.back(self._checkpointer.restore(folder, args=args)["state"])
        # Orbax has no error class for files that it cannot read.
        except Exception as error:
            raise CheckpointError(f"{folder}: state cannot be read: {_one_line(error)}") from error

    def wait(self) -> None:
        """Waits until everything is written.

        Raises:
          CheckpointError: Writing failed.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits until everything is written, and closes.

        Raises:
          CheckpointError: Writing failed.
        """
        try:
            self.wait()
        except CheckpointError:
            # Of a full disk, Orbax would tell again, and not of which file.
            with contextlib.suppress(OSError):
                self._end()
            raise
        try:
            self._end()
        except OSError as error:
            raise CheckpointError(
                f"{self._directory}: cannot be written: {_one_line(error)}"
            ) from error

    def _end(self) -> None:
        self._thread.shutdown()
        self._checkpointer.close()

    def _finish(self, step: int, aside: Path) -> None:
        """Completes a checkpoint once Orbax has written it; runs in its own thread."""
        try:
            self._checkpointer.wait_until_finished()
            if not is_first():
                return
            write_checksums(aside)
            self._whole.discard(step)
            self._give_name(step, aside)
            self._tidy()
        except CheckpointError:
            raise
        except Exception as error:
            raise self._unwritten(step, error) from error

    def _give_name(self, step: int, aside: Path) -> None:
        """Renames a complete folder; after a kill at any moment the step has a complete one."""
        path = self._directory / str(step)
        replaced = path.with_name(f"{step}{REPLACED}")
        if path.exists():
            os.rename(path, replaced)
        os.rename(aside, path)
        shutil.rmtree(replaced, ignore_errors=True)

    def _unwritten(self, step: int, error: Exception) -> CheckpointError:
        # On a full disk the rest of the run needs the space.
        if is_first():
            for aside in self._directory.glob(f"{step}{_WRITING}*"):
                shutil.rmtree(aside, ignore_errors=True)
        newest = self.latest_step()
        kept = "no checkpoint is whole" if newest is None else f"that of step {newest} is whole"
        return CheckpointError(
            f"{self._directory}/{step}: cannot be written: {_one_line(error)}; {kept}"
        )

    def _tidy(self) -> None:
        """Removes all but the newest two and the best.

        Raises:
          CheckpointError: As for `best_step`, even if there is nothing to remove yet.
        """
        best = self.best_step()
        for step in set(self.steps()[:-2]) - {best}:
            self._remove(step)
        shutil.rmtree(self._directory / _REMOVED, ignore_errors=True)

    def _remove(self, step: int) -> None:
        removed = self._directory / _REMOVED / str(step)
        removed.parent.mkdir(exist_ok=True)
        if removed.exists():
            shutil.rmtree(removed)
        os.rename(self._directory / str(step), removed)

    def _schema_version(self, folder: Path) -> Any:
        return _read_json(folder, "config").get("schema_version")

    def _require_whole(self, step: int) -> Path:
        """The folder of a step, after checking its files against their checksums once."""
        folder = self._directory / str(step)
        if step not in step_folders(self._directory):
            kept = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(f"{self._directory}: no checkpoint of step {step} (kept: {kept})")
        if step not in self._whole and is_first():
            damage = checkpoint_damage(folder)
            if damage is not None:
                kept = ", ".join(str(other) for other in self.steps() if other != step)
                way = f"name another step (kept: {kept})" if kept else "no other step is kept"
                raise CheckpointError(f"{damage}; {way}")
            self._whole.add(step)
        return folder


def _saved_table_parts(config: Mapping[str, Any]) -> Any:
    train = config.get("train")
    return train.get("model_parallelism", 1) if isinstance(train, Mapping) else 1


def _read_json(folder: Path, item: str) -> dict[str, Any]:
    """Reads a file that `ocp.JsonCheckpointHandler` wrote."""
    try:
        return dict(parse_json((folder / item / "metadata").read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: {item} cannot be read: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    # TensorStore appends a description of the array to its message.
    text = " ".join(str(error).partition(" [tensorstore_spec")[0].split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:200]} ... {text[-200:]}"
