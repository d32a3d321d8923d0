"""Writes recommendations for the users of a trained run.

    python -m experiments.recommend --workdir=W --output=recs.parquet [--k=20]

One row an item: user_id, rank (from 1), item_id, title if prepare was given titles, score; with
--explain also the parts of the score. Users go on where the log ends; --events
names what they did since then, in any format that prepare reads, with the columns of the log. The
suffix of --output says the format: .parquet, .csv or .jsonl. Users are read and rows are written
block by block, so memory does not grow with their number. --ranker=popularity --data_dir=D takes a
ranker in place of a trained run: it learns from the whole log first.
"""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from absl import flags

from data_pipelines.commands.command import run_command
from data_pipelines.directories import Kind, require_kind
from data_pipelines.embeddings.item_ids import read_ids
from data_pipelines.errors import DataError
from data_pipelines.outputs import check_file
from data_pipelines.progress import Progress
from experiments.flags.data_flags import DataLocation, define_data_flags, read_data_location
from experiments.flags.levels import define_catalogue_flag
from experiments.judging.results import table_path
from experiments.runs.data import Catalogue, Data, open_data
from experiments.runs.restore import open_run_data, restore_run
from experiments.service.loading import ranker_recommender, recommender_of
from experiments.service.new_events import read_events, typed_users
from experiments.service.table_writer import written_in_parts
from hiertcn_jax.baselines.registry import RANKERS
from hiertcn_jax.devices.mesh import MeshError
from hiertcn_jax.saving.checkpoint import CheckpointError
from hiertcn_jax.serving.given_users import GivenUsers
from hiertcn_jax.serving.recommender import Recommender

MENDABLE = (DataError, CheckpointError, MeshError, OSError)

_USERS_AT_ONCE = 4096
_CACHE_BYTES = 64 << 20
"""For histories, of which each is read a few times."""


class Settings(NamedTuple):
    """What the flags say."""

    workdir: Path | None
    output: Path
    checkpoint: str
    location: DataLocation
    users: Path | None
    events: tuple[str, ...]
    candidates: Path | None
    k: int
    exclude_seen: bool
    at: int | None
    explain: bool = False
    by_index: bool = False
    data_parallelism: int = 1
    ranker: str | None = None
    catalogue: Catalogue = "fitted"


def recommend(settings: Settings, rec: Recommender, data: Data) -> int:
    """Writes the recommendations; returns how many users have any.

    Raises:
      DataError: A file cannot be used, or names a user or an item that is not known.
      OSError: The output cannot be written.
    """
    if settings.events:
        events = read_events(settings.events, data.manifest, rec.names)
        try:
            rec.add(events)
        except ValueError as error:
            raise DataError(f"{', '.join(settings.events)}: {error}") from error
    candidates = None
    if settings.candidates is not None:
        candidates = read_ids(settings.candidates, "item_id").to_list()
        if not candidates:
            raise DataError(f"{settings.candidates}: names no item; leave --candidates out for all")
    users = 0
    with Progress("recommending", "users") as progress, written_in_parts(settings.output) as add:
        for block in _blocks(settings, rec, data):
            try:
                table = rec.recommend(
                    block,
                    k=settings.k,
                    at=settings.at,
                    exclude_seen=settings.exclude_seen,
                    candidates=candidates,
                    explain=settings.explain,
                )
            except ValueError as error:
                raise DataError(_with_advice(str(error), settings)) from error
            add(table)
            users += table["user_id"].n_unique()
            progress.add(len(block if isinstance(block, list) else block.ids))
    return users


def _with_advice(message: str, settings: Settings) -> str:
    """The message about an id that is not known, with what to do about its file."""
    if message.startswith("users="):
        what, _, _ = message.partition(";")
        return f"{what}; leave it out of {settings.users}, or give its events by --events"
    if message.startswith("candidates="):
        return f"{message}; leave it out of {settings.candidates}"
    return message


def _blocks(
    settings: Settings, rec: Recommender, data: Data
) -> Iterator[list[str | int] | GivenUsers]:
    """Users, many at a time: their ids in the type of the log, or all users."""
    if settings.users is None:
        yield from rec.all_users()
        return
    ids = read_ids(settings.users, rec.names.user)
    if ids.is_empty():
        raise DataError(f"{settings.users}: names no user; leave --users out for all")
    typed = typed_users(ids, data.manifest, str(settings.users))
    for start in range(0, len(typed), _USERS_AT_ONCE):
        yield typed[start : start + _USERS_AT_ONCE].to_list()


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("workdir", None, "Directory of the trained run.")
    flags.DEFINE_enum(
        "ranker",
        None,
        sorted(RANKERS),
        "A ranker without a network in place of --workdir; it learns from the log of --data_dir.",
    )
    flags.DEFINE_string("output", None, "File to write: .parquet, .csv or .jsonl.", required=True)
    flags.DEFINE_string("checkpoint", "best", "Checkpoint to use: best, last, or a step.")
    flags.DEFINE_string(
        "users",
        None,
        "File with the ids of the users to recommend for: .txt with one a line, or .parquet with "
        "the log's column of users. Default: all users of the log and of --events.",
    )
    flags.DEFINE_multi_string(
        "events",
        [],
        "Files with what users did since the log was prepared, in any format that prepare reads.",
    )
    flags.DEFINE_string(
        "candidates",
        None,
        "File with the ids of the items to choose from: .txt with one a line, or .parquet with a "
        "column item_id. Default: all items of --catalogue.",
    )
    flags.DEFINE_integer("k", 20, "Items for each user.", lower_bound=1)
    flags.DEFINE_bool("exclude_seen", False, "Leave out the items that the user picked before.")
    flags.DEFINE_string(
        "at",
        None,
        "Time to recommend for: seconds since the epoch, or such as 2024-05-31T18:00. Default: the "
        "time of the newest event.",
    )
    flags.DEFINE_bool("explain", False, "Also write the parts that each score is the sum of.")
    flags.DEFINE_bool(
        "index",
        False,
        "Find items by an index, for catalogues of a million items: most of the best, not all. "
        "Needs the extra retrieval.",
    )
    flags.DEFINE_integer("data_parallelism", 1, "Devices that share the users.", lower_bound=1)
    define_catalogue_flag(
        "The items to choose from: those of the fitted part, or live: all that anybody picked, in "
        "the log or in --events. An item that training never had is scored by its counts."
    )
    define_data_flags()


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: The output has no known format, the time is none, it is not said what recommends,
        or an index is to hold a live catalogue.
    """
    values = flags.FLAGS
    if (values.workdir is None) == (values.ranker is None):
        raise ValueError("flag --workdir: give it, or --ranker and --data_dir, not both")
    if values.ranker is not None:
        _check_ranker_flags(values)
    if values.index and values.catalogue == "live":
        raise ValueError(
            "flag --index: holds the fitted items alone; leave it out, or --catalogue=live"
        )
    return Settings(
        workdir=values.workdir and Path(values.workdir),
        output=table_path("output", values.output),
        checkpoint=values.checkpoint,
        location=read_data_location(),
        users=values.users and Path(values.users),
        events=tuple(path for text in values.events for path in text.split(",")),
        candidates=values.candidates and Path(values.candidates),
        k=values.k,
        exclude_seen=values.exclude_seen,
        at=None if values.at is None else _seconds(values.at),
        explain=values.explain,
        by_index=values.index,
        data_parallelism=values.data_parallelism,
        ranker=values.ranker,
        catalogue=values.catalogue,
    )


def _check_ranker_flags(values: flags.FlagValues) -> None:
    if values.data_dir is None:
        raise ValueError(f"flag --ranker={values.ranker}: needs --data_dir, the log to learn from")
    for name in ("explain", "index"):
        if values[name].value:
            raise ValueError(f"flag --{name}: a ranker has no embeddings; leave it out")


def _seconds(text: str) -> int:
    if text.lstrip("-").isdecimal():
        return int(text)
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"flag --at={text}: must be seconds since the epoch, or a time such as 2024-05-31T18:00"
        ) from error
    return int((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp())


def main(settings: Settings) -> None:
    """Restores or fits, recommends, writes."""
    check_file("output", settings.output)
    if settings.workdir is None:
        assert settings.ranker is not None and settings.location.data_dir is not None
        data = open_data(settings.location.data_dir, settings.catalogue)
        rec = ranker_recommender(settings.ranker, data, {})
    else:
        rec, data = _restore(settings.workdir, settings)
    users = recommend(settings, rec, data)
    print(f"{settings.output}: {users:,} users, {settings.k} items each at most")


def _restore(workdir: Path, settings: Settings) -> tuple[Recommender, Data]:
    """The Recommender of a run, and its log."""
    require_kind("workdir", workdir, Kind.RUN, Kind.CELL)
    restored = restore_run(workdir, settings.checkpoint, settings.data_parallelism)
    data = open_run_data(restored, settings.location, settings.catalogue, _CACHE_BYTES)
    try:
        live = settings.at is None
        rec = recommender_of(restored, data, workdir.name, settings.by_index, live)
        return rec, data
    except ValueError as error:
        raise DataError(str(error)) from error


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, MENDABLE)
