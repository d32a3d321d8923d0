"""Restores a trained model from the checkpoints of a workdir."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax

from data_pipelines.errors import DataError
from experiments.flags.data_flags import DataLocation
from experiments.judging.config import EvalConfig
from experiments.runs.config import TrainConfig
from experiments.runs.data import (
    CACHE_BYTES,
    Catalogue,
    Data,
    open_data,
    require_width,
    with_embeddings,
)
from experiments.runs.layout import make_layout
from experiments.runs.saved_configs import as_now, who_can
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.devices import processes
from hiertcn_jax.devices.mesh import Layout
from hiertcn_jax.learning.earlier_states import earlier_states
from hiertcn_jax.learning.optimizer import Optimizer, OptimizerConfig
from hiertcn_jax.learning.train_state import TrainState, init_train_state, state_shardings
from hiertcn_jax.models import Model, build
from hiertcn_jax.models.earlier_configs import read_model_config
from hiertcn_jax.saving.checkpoint import CheckpointError, Checkpoints


class Restored(NamedTuple):
    """A trained model.

    Attributes:
      model: The module.
      config: Its config.
      evaluation: The run's evaluation settings.
      params: Its parameters.
      step: The checkpoint's step.
      configs: All configs of the checkpoint, JSON values.
      layout: Where the parameters are, if on several devices.
      is_best: Whether the checkpoint is the run's best.
    """

    model: Model
    config: ModelConfig
    evaluation: EvalConfig
    params: dict[str, Any]
    step: int
    configs: dict[str, Any]
    layout: Layout | None = None
    is_best: bool = True


def restore_run(
    workdir: Path, checkpoint: str, data_parallelism: int = 1, model_parallelism: int = 1
) -> Restored:
    """Restores the model of a run, with configs and weights from one of its checkpoints.

    Args:
      workdir: The run's directory.
      checkpoint: `best`, `last` or a step.
      data_parallelism: Devices to share the lanes now; the run may have used others.
      model_parallelism: Devices to share the item table.

    Raises:
      MeshError: There are not enough devices, or they cannot share `eval_lanes` evenly.
      CheckpointError: There is no such checkpoint, or it cannot be read.
    """
    restored, _ = restore_training(workdir, checkpoint, data_parallelism, model_parallelism)
    return restored


def restore_training(
    workdir: Path, checkpoint: str, data_parallelism: int = 1, model_parallelism: int = 1
) -> tuple[Restored, TrainState]:
    """As `restore_run`, and the whole state of the training."""
    directory = workdir / "checkpoints"
    if not directory.is_dir():
        raise CheckpointError(
            f"{directory}: no such directory; was {workdir} trained? Name the workdir of a run"
        )
    with contextlib.closing(Checkpoints(directory, read_only=True)) as checkpoints:
        while True:
            kept = checkpoints.steps()
            try:
                return _restore(
                    checkpoints, checkpoint, directory, (data_parallelism, model_parallelism)
                )
            except CheckpointError:
                # A run that trains here may have just removed it; then use another one.
                if checkpoints.steps() == kept or jax.process_count() > 1:
                    raise


def _restore(
    checkpoints: Checkpoints, checkpoint: str, directory: Path, parallelism: tuple[int, int]
) -> tuple[Restored, TrainState]:
    # Each process looking for itself might find a different one.
    step = processes.first_says(_step(checkpoints, checkpoint, directory))
    saved = checkpoints.read(step, "config")
    configs = as_now(saved)
    try:
        config = read_model_config(configs["model"])
        optimizer_config = OptimizerConfig.from_dict(configs["optimizer"])
        evaluation = EvalConfig.from_dict(configs["evaluation"])
        lanes = TrainConfig.from_dict(configs["train"]).bucket.lanes
        rows = _rows(configs["data"])
        model = build(config)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{directory}/{step}: config cannot be used by this version: {error}{who_can(saved)}"
        ) from error
    optimizer = Optimizer(optimizer_config, _no_rate, config.item_mode == "rows")
    given = config.item_mode == "given"
    layout = make_layout(parallelism, rows, given, eval_lanes=evaluation.lanes)
    like = jax.eval_shape(
        lambda: init_train_state(jax.random.key(0), model, config, optimizer, lanes, rows, layout)
    )
    like = _placed(like, layout)
    earlier = earlier_states(like, optimizer.rows)
    state = checkpoints.restore(step, like, table_parts=parallelism[1], earlier=earlier)
    require_step(directory / str(step), state, step)
    is_best = checkpoint == "best" or processes.first_says(_is_best(checkpoints, step))
    restored = Restored(model, config, evaluation, state.params, step, configs, layout, is_best)
    return restored, state


def _no_rate(_: Any) -> float:
    """A learning rate for states that take no step."""
    return 0.0


def _is_best(checkpoints: Checkpoints, step: int) -> bool:
    """Whether a step is the best; False if damage to another checkpoint makes that unknown."""
    try:
        return checkpoints.best_step() == step
    except CheckpointError:
        return False


def require_step(folder: Path, state: TrainState, step: int) -> None:
    """Checks that a checkpoint has the step of its name.

    Raises:
      CheckpointError: It was renamed.
    """
    if int(state.step) != step:
        raise CheckpointError(
            f"{folder}: holds step {int(state.step)}: was it renamed? Give it that name"
        )


def _placed(like: Any, layout: Layout | None) -> Any:
    """The shapes with their shardings: the devices that wrote a checkpoint may not exist here."""
    if layout is None:
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shardings = jax.tree.map(lambda _: here, like)
    else:
        shardings = state_shardings(like, layout)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        like,
        shardings,
    )


def _rows(data: Any) -> int:
    """Rows of the item table, from the saved description of the data."""
    texts = ("content_hash", "directory")
    if not isinstance(data, dict) or not all(isinstance(data.get(name), str) for name in texts):
        raise ValueError(f"data={data}: must have content_hash, directory and rows")
    rows = data.get("rows")
    if type(rows) is not int or not FIRST_ITEM_ID < rows < 2**31:
        raise ValueError(f"data.rows={rows}: must be a whole number above {FIRST_ITEM_ID}")
    return rows


def open_run_data(
    restored: Restored,
    place: DataLocation,
    catalogue: Catalogue = "fitted",
    cache_bytes: int = CACHE_BYTES,
) -> Data:
    """Opens the data that a run was trained on, or a log that continues it (`prepare --previous`).

    With given embeddings possibly other data.

    With given embeddings no parameter belongs to an item. So the same model scores other users, and
    new items, from any file with their embeddings.

    Args:
      restored: The run.
      place: Where the data is now.
      catalogue: The items to rank among.
      cache_bytes: Memory for histories that were read.

    Raises:
      DataError: It is missing, or cannot be used.
      CheckpointError: It is not the run's data.
    """
    trained = restored.configs["data"]
    data = open_data(place.data_dir or trained["directory"], catalogue, cache_bytes)
    continues = any(
        one["content_hash"] == trained["content_hash"] for one in data.manifest.get("ancestors", [])
    )
    if continues and restored.config.item_mode != "given":
        if catalogue != "live":
            raise DataError(
                f"{data.directory}: continues the log that the model was trained on, and has items "
                "that the model does not know; add --catalogue=live, or train --continue_from"
            )
        return known_to(restored, data)
    named = place.item_embeddings is not None
    if named and restored.config.item_mode != "given":
        raise CheckpointError(
            f"item_embeddings={place.item_embeddings}: the model was trained without given ones; "
            "leave the flag out"
        )
    if not named and data.content_hash != trained["content_hash"]:
        raise CheckpointError(_of_another_log(data.directory, restored))
    config = TrainConfig.from_dict(restored.configs["train"])
    given = {name: value for name, value in place._asdict().items() if value is not None}
    given.pop("data_dir", None)
    data = with_embeddings(data, dataclasses.replace(config, **given))
    require_width(data.embeddings, restored.config.item_dim)
    found = None if data.embeddings is None else data.embeddings.content_hash
    if not named and found != trained.get("embeddings_hash"):
        raise CheckpointError(
            f"{config.item_embeddings}: has changed since the model was trained; to use it "
            "anyway, name it by --item_embeddings"
        )
    return data


def _of_another_log(directory: Path, restored: Restored) -> str:
    """The line about a log that a run was not trained on: its rows are other items."""
    trained_on = Path(restored.configs["data"]["directory"])
    other = "train on this one"
    if restored.config.item_mode == "given":
        other += ", or give the embeddings of its items by --item_embeddings"
    if directory.resolve() == trained_on.resolve():
        return (
            f"{directory}: has changed since the run was trained on it; name a copy of what it was "
            f"by --data_dir, or {other}"
        )
    return (
        f"{directory}: is not the log that the run was trained on ({trained_on}); name that one by "
        f"--data_dir, or {other}"
    )


def known_to(restored: Restored, data: Data) -> Data:
    """A log with the live catalogue, in which an item is fitted if a model has a row for it.

    Args:
      restored: The model, trained on the log or an earlier state of it.
      data: The log.
    """
    fitted = restored.configs["data"]["rows"] - FIRST_ITEM_ID
    return data._replace(vocabulary=dataclasses.replace(data.vocabulary, fitted=fitted))


def _step(checkpoints: Checkpoints, checkpoint: str, directory: Path) -> int:
    named = {"best": checkpoints.best_step, "last": checkpoints.latest_step}
    if checkpoint not in named and not checkpoint.isdecimal():
        raise CheckpointError(f"checkpoint={checkpoint}: must be best, last or a step")
    step = named[checkpoint]() if checkpoint in named else int(checkpoint)
    if step is None:
        raise CheckpointError(f"{directory}: holds no checkpoint; train until one is saved")
    return step
