"""Writes a report about trained runs: one page, which any browser opens, without a connection.

    python -m experiments.report --workdir=W[,W2...] --output=report.html

Shows the scores, some users of the log session by session with what each run would have shown and
what came next, what recommendations are made of, learning curves, the log, and the settings. All
runs must have the same log. A comparison may be among the directories: its table is shown, with
intervals. Slices are shown if `evaluate --slices` made them, scores through time if `replay` did.
"""

from pathlib import Path
from typing import NamedTuple

from absl import flags

from data_pipelines.commands.command import run_command
from data_pipelines.errors import DataError
from data_pipelines.outputs import check_file
from experiments.flags.data_flags import DataLocation, define_data_flags, read_data_location
from experiments.reporting.chosen_users import choose, named
from experiments.reporting.contents import sections_of
from experiments.reporting.loaded import Loaded, load_run
from experiments.reporting.page import page
from experiments.reporting.run_files import Files, read_files
from experiments.runs.data import Data, open_data
from experiments.runs.files import write_text
from hiertcn_jax.devices.mesh import MeshError
from hiertcn_jax.saving.checkpoint import CheckpointError

_USERS = 6
"""Users that are shown, unless they are named."""


class Settings(NamedTuple):
    """What the flags say."""

    workdirs: tuple[Path, ...]
    output: Path
    place: DataLocation = DataLocation()
    user_ids: tuple[str, ...] = ()


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_list(
        "workdir", None, "Directories of trained runs, and of comparisons.", required=True
    )
    flags.DEFINE_string("output", None, "File to write, such as report.html.", required=True)
    flags.DEFINE_list(
        "user_ids", [], f"Ids of the users to show. Default: {_USERS} users, chosen by their ids."
    )
    define_data_flags()


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: The output is no page, or no directory is named, or one twice.
    """
    values = flags.FLAGS
    output, workdirs = Path(values.output), tuple(map(Path, values.workdir))
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"flag --output={output}: must end with .html")
    if not workdirs or "" in values.workdir or len(set(workdirs)) < len(workdirs):
        listed = ",".join(values.workdir)
        raise ValueError(f"flag --workdir={listed}: must name one or more directories, each once")
    return Settings(workdirs, output, read_data_location(), tuple(values.user_ids))


def main(settings: Settings) -> None:
    """Reads what the directories hold, asks the models, writes the page."""
    check_file("output", settings.output)
    names = _names(settings.workdirs)
    files = [read_files(one, name) for one, name in zip(settings.workdirs, names, strict=True)]
    loaded = [load_run(one.directory, one.name, settings.place) for one in files if one.log is None]
    data = loaded[0].data if loaded else open_data(settings.place.data_dir or _log_of(files))
    _require_one_log(data, files, loaded)
    if settings.user_ids:
        users = named(data.histories, settings.user_ids, data.directory)
    else:
        users = choose(data.histories, _USERS)
    subtitle = f"{', '.join(names)} on the log {data.directory.name}"
    text = page(f"Report: {subtitle}", _SUBTITLE, sections_of(files, loaded, data, users))
    write_text(settings.output, text)
    print(f"{settings.output}: {len(text.encode()) / 1e6:.2f} MB; open it in a browser")


_SUBTITLE = (
    "At every event of a user, a model predicts which item comes next. This page shows how well, "
    "for whom, and why."
)


def _names(workdirs: tuple[Path, ...]) -> list[str]:
    """The directories' names; where two are the same, their paths."""
    names = [one.resolve().name for one in workdirs]
    return [
        str(one) if names.count(name) > 1 else name
        for one, name in zip(workdirs, names, strict=True)
    ]


def _log_of(files: list[Files]) -> str:
    """The log of a comparison."""
    return next(one.log[0] for one in files if one.log is not None)


def _require_one_log(data: Data, files: list[Files], loaded: list[Loaded]) -> None:
    hashes = {run.name: run.data.content_hash for run in loaded}
    hashes |= {one.name: one.log[1] for one in files if one.log is not None}
    for name, found in hashes.items():
        if found != data.content_hash:
            raise DataError(
                f"workdir={name}: was made with another log than {data.directory} "
                f"({found}, not {data.content_hash}); write a report for each log"
            )


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (DataError, CheckpointError, MeshError, OSError))
