"""Exports a trained run: a directory that recommends without this program, and without JAX.

    python -m experiments.export --workdir=W --output_dir=X

X holds the model as ONNX and as StableHLO, its weights, the catalogue, the counts of memory, and
the users of the log with their states (hiertcn_jax/exported/layout.py lists the files). All of it
is plain data. hiertcn_jax.load reads X as it reads W; hiertcn_jax/exported runs it in onnxruntime.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from data_pipelines.commands.aside import require_vacant, written_aside
from data_pipelines.commands.command import run_command
from data_pipelines.directories import Kind, require_kind
from data_pipelines.errors import DataError
from data_pipelines.outputs import check_directory
from data_pipelines.progress import Progress
from data_pipelines.raw.times import parse_time
from experiments.flags.data_flags import DataLocation, define_data_flags, read_data_location
from experiments.replaying.cutting import cut_at
from experiments.runs.data import Data
from experiments.runs.restore import Restored, open_run_data, restore_run
from experiments.service.loading import Parts, parts_of
from hiertcn_jax import __version__
from hiertcn_jax.item_ids import FIRST_ITEM_ID
from hiertcn_jax.saving.checkpoint import CheckpointError
from hiertcn_jax.serving.user_states import Events

MENDABLE = (DataError, CheckpointError, OSError)

_NEEDED = ("flatbuffers", "onnx", "safetensors")


class Settings(NamedTuple):
    """What the flags say."""

    workdir: Path
    output_dir: Path
    checkpoint: str
    location: DataLocation
    users: bool
    k: int
    until: int | None = None


def export(settings: Settings, restored: Restored, data: Data) -> None:
    """Writes the export of a run.

    Raises:
      DataError: The directory is not empty.
      OSError: It cannot be written.
    """
    # onnx is in an extra.
    from hiertcn_jax.exporting.directory import TrainedModel, UsersToExport, write_export

    parts = parts_of(restored, data, settings.workdir.name, live=True)
    trained = TrainedModel(
        config=restored.config,
        params=parts.params["model"],
        items=parts.params["items"],
        item_ids=data.vocabulary.decode(np.arange(FIRST_ITEM_ID, data.vocabulary.size)),
        gap_seconds=parts.gap_seconds,
        newest=parts.known.newest,
        model_id=parts.model_id,
        names=parts.names,
        memory=parts.memory,
        configs=restored.configs,
        version=__version__,
        known_of_items=parts.items,
    )
    known = parts.known
    with written_aside(settings.output_dir) as aside, Progress("exporting", "users") as progress:
        users = UsersToExport(_blocks(parts, progress), len(known), known.events)
        write_export(aside, trained, users if settings.users else None, settings.k)


def _blocks(parts: Parts, progress: Progress) -> Iterator[tuple[list[Any], list[Events]]]:
    for ids, events in parts.known.blocks():
        yield ids, events
        progress.add(len(ids))


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("workdir", None, "Directory of the trained run.", required=True)
    flags.DEFINE_string("output_dir", None, "Directory to make.", required=True)
    flags.DEFINE_string("checkpoint", "best", "Checkpoint to use: best, last, or a step.")
    flags.DEFINE_bool(
        "users",
        True,
        "Write the users of the log too: their ids, events, and states. --nousers: only new users "
        "can be recommended to, and the directory says nothing about anybody, except for counts.",
    )
    flags.DEFINE_string(
        "until",
        None,
        "Leave out all events of the log from this time on, such as 2017-10-13: users, counts and "
        "states are those of that moment. For a replay of what came after.",
    )
    flags.DEFINE_integer(
        "k",
        100,
        "Items that the StableHLO function gives; ONNX takes it as an input.",
        lower_bound=1,
    )
    define_data_flags()


def read_settings() -> Settings:
    """The settings of the parsed flags."""
    values = flags.FLAGS
    return Settings(
        workdir=Path(values.workdir),
        output_dir=Path(values.output_dir),
        checkpoint=values.checkpoint,
        location=read_data_location(),
        users=values.users,
        k=values.k,
        until=None if values.until is None else _seconds(values.until),
    )


def _seconds(text: str) -> int:
    """The time of --until.

    Raises:
      ValueError: It is none.
    """
    try:
        return parse_time(text) // 1000
    except ValueError as error:
        raise ValueError(f"flag --until={text}: {error}, such as 2017-10-13") from error


def main(settings: Settings) -> None:
    """Restores the run and writes its export."""
    for package in _NEEDED:
        _require(package)
    require_kind("workdir", settings.workdir, Kind.RUN, Kind.CELL)
    check_directory("output_dir", settings.output_dir)
    require_vacant(settings.output_dir)
    restored = restore_run(settings.workdir, settings.checkpoint)
    data = open_run_data(restored, settings.location)
    if settings.until is not None:
        data = cut_at(data, settings.until)
    export(settings, restored, data)
    files = [path for path in settings.output_dir.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2**20
    print(f"{settings.output_dir}: {len(files)} files, {size:,.1f} MB")


def _require(package: str) -> None:
    """Checks that a package of the extra is there.

    Raises:
      DataError: It is not.
    """
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise DataError(f"{package} is not installed; run: pip install 'hiertcn_jax[export]'")


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, MENDABLE)
