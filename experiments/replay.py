r"""Judges a model through time: scores each event with what was known before it, then learns.

    python -m experiments.replay --data_dir=D --workdir=W \
        --from=2017-10-13 --every=1d --update=never,counts
    python -m experiments.replay --data_dir=D --rankers=stan --output_dir=R

From --from on, all events are scored, in the live catalogue. --update says what is learned from
them, once they are scored: never (counts stand still; the user's own events come with each
request), counts (at once), counts:15m (15 minutes late), and train (as counts; at the start of
every period rankers are fitted anew, and a model is trained on what happened since) or train:6h
(every 6 hours). A session belongs to the period in which it starts.

With --export_dir, all events after the export's last one are played through the server instead, in
this process or at --url: each is asked for, then sent, and test's are scored as `evaluate
--counts=live` scores them. The export must end where test begins:

    python -m experiments.export --workdir=W --output_dir=X --until=2017-10-13
    python -m experiments.replay --data_dir=D --export_dir=X --output_dir=R \
        [--url=http://HOST:PORT]

Without --export_dir it writes R/replay.json and plots by period, by age of the item and of the
user, R/replay_time.png and so on; R is W/replay by default. Finished rows are kept: the same
command resumes.
"""

import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from rich.table import Table

from data_pipelines.commands.command import run_command
from data_pipelines.directories import Kind, require_kind
from data_pipelines.errors import DataError
from data_pipelines.histories.prepared_files import read_json
from data_pipelines.histories.record import Split
from data_pipelines.outputs import check_directory
from data_pipelines.raw.times import parse_time, to_iso
from experiments.comparison.entries import entry_of, read_settings_files
from experiments.flags.continuing_flags import define_replay_share
from experiments.flags.data_flags import DataLocation
from experiments.judging.result_tables import print_table, report_line
from experiments.judging.results import write_json, write_table
from experiments.judging.slice_plots import plot_slices, require_matplotlib
from experiments.replaying.report import summarize
from experiments.replaying.scoring import Model, Ranker, score_row
from experiments.replaying.walk import Periods, Update, parse_every, parse_update, periods_of
from experiments.runs.continuing import REPLAY_SHARE, fitted_until
from experiments.runs.data import Data, open_data
from experiments.runs.files import kept_if_used
from experiments.runs.recall import has_level
from experiments.runs.restore import open_run_data, restore_run
from hiertcn_jax.baselines.registry import AT_LEVELS
from hiertcn_jax.exported.reading import Export, ExportError
from hiertcn_jax.saving.checkpoint import CheckpointError

SETTINGS_FILE = "replay_settings.json"


class Settings(NamedTuple):
    """What the flags say."""

    data_dir: Path
    workdir: Path | None
    checkpoint: str
    rankers: tuple[Ranker, ...]
    output_dir: Path
    first: int | None
    every: int
    updates: tuple[Update, ...]
    replay_share: float = REPLAY_SHARE
    export_dir: Path | None = None
    url: str | None = None


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("data_dir", None, "Prepared directory of the log.", required=True)
    flags.DEFINE_string("workdir", None, "Directory of a trained run to replay.")
    flags.DEFINE_string("checkpoint", "best", "Checkpoint to use: best, last, or a step.")
    flags.DEFINE_list("rankers", [], "Rankers, or variants of --settings, to replay too.")
    flags.DEFINE_list(
        "settings",
        [],
        'JSON files with arguments of rankers, such as {"stan": {"causal": true}}, and with '
        "variants of rankers, as experiments.compare takes them.",
    )
    flags.DEFINE_string(
        "output_dir", None, "Directory to write into. Default: replay, inside --workdir."
    )
    flags.DEFINE_string(
        "from", None, "Score sessions that start from this time on. Default: the log's test cut."
    )
    flags.DEFINE_string("every", "1d", "Length of a period: a number of m, h or d.")
    flags.DEFINE_list(
        "update",
        ["never", "counts"],
        "What is learned from events once they are scored, a row for each: never, counts, "
        "counts:15m (late), train (in every period rankers are fitted anew, and a model is trained "
        "on what happened since), train:6h (every 6 hours).",
    )
    define_replay_share("With --workdir and --update=train")
    flags.DEFINE_string(
        "export_dir", None, "Directory of experiments.export, to play the log through the server."
    )
    flags.DEFINE_string(
        "url", None, "With --export_dir: a server of it with an empty store. Default: this process."
    )


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: One of them cannot be used.
    """
    values = flags.FLAGS
    if values.export_dir is not None:
        return _read_served()
    require_matplotlib()
    if values.url is not None:
        raise ValueError(f"flag --url={values.url}: needs --export_dir, the server's export")
    if values.workdir is None and not values.rankers:
        raise ValueError("flag --workdir=: nothing to replay; give --workdir, --rankers or both")
    if values.output_dir is None and values.workdir is None:
        raise ValueError("flag --output_dir=: is required without --workdir")
    updates = tuple(parse_update(text) for text in values.update)
    if not updates or len(set(updates)) < len(updates):
        raise ValueError(f"flag --update={','.join(values.update)}: must be one or more, each once")
    by_name = read_settings_files(values.settings)
    rankers = []
    for name in values.rankers:
        entry = entry_of(name, by_name)
        if not entry.is_ranker:
            raise ValueError(f"flag --rankers={name}: is no ranker; train it, and give --workdir")
        rankers.append(Ranker(name, entry.model, entry.own))
    return Settings(
        data_dir=Path(values.data_dir),
        workdir=None if values.workdir is None else Path(values.workdir),
        checkpoint=values.checkpoint,
        rankers=tuple(rankers),
        output_dir=Path(values.output_dir or Path(values.workdir) / "replay"),
        first=None if values["from"].value is None else _seconds(values["from"].value),
        every=parse_every(values.every),
        updates=updates,
        replay_share=values.replay_share,
    )


def _read_served() -> Settings:
    """The settings of a replay through the server.

    Raises:
      ValueError: A flag cannot be used with it.
    """
    values = flags.FLAGS
    for name in ("workdir", "rankers", "from", "settings"):
        if values[name].value:
            raise ValueError(f"flag --{name}: cannot be used with --export_dir")
    if values.output_dir is None:
        raise ValueError("flag --output_dir=: is required with --export_dir")
    export, output = Path(values.export_dir), Path(values.output_dir)
    return Settings(
        Path(values.data_dir), None, "best", (), output, None, 1, (), export_dir=export,
        url=values.url,
    )  # fmt: skip


def _seconds(text: str) -> int:
    """The time of --from.

    Raises:
      ValueError: It is none.
    """
    try:
        return parse_time(text) // 1000
    except ValueError as error:
        raise ValueError(f"flag --from={text}: {error}, such as 2017-10-13") from error


def main(settings: Settings) -> None:
    """Scores all rows, and reports them."""
    require_kind("output_dir", settings.output_dir, Kind.REPLAY)
    check_directory("output_dir", settings.output_dir)
    if settings.export_dir is not None:
        _play(settings, Export(settings.export_dir))
        return
    data, model = _open(settings)
    first = _first(settings, data)
    if model is not None:
        _require_earlier_fit(model, data, first)
    periods = periods_of(data, first, settings.every)
    subjects: list[Ranker | Model] = [*settings.rankers, *([] if model is None else [model])]
    with kept_if_used(settings.output_dir, SETTINGS_FILE):
        _require_same(settings, data, periods)
        _report(settings, data, periods, _score(settings, data, subjects, periods))


def _play(settings: Settings, export: Export) -> None:
    """Plays the log through the server, and writes ranks and figures."""
    # These import packages of the extra.
    from experiments.replaying.served import InProcess, OverHttp, events_from, figures, play

    data = open_data(settings.data_dir, "fitted")
    if data.vocabulary.size != export.manifest["rows"]:
        raise DataError(
            f"export_dir={export.directory}: has another catalogue than {data.directory}; give the "
            "log that the run was trained on"
        )
    events = events_from(data, export.newest, Split.TEST)
    if not any(event.is_scored for event in events):
        raise DataError(
            f"export_dir={export.directory}: no event of test comes after the export's last one; "
            "export the run again, with --until= the time at which test begins"
        )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="hiertcn_replay_") as folder:
        client = (
            InProcess(export, Path(folder) / "replay.db")
            if settings.url is None
            else OverHttp(settings.url)
        )
        played = play(client, events, len(export.items.ids))
        client.close()
    seconds = time.perf_counter() - began
    found = {
        "model": export.model_id,
        "data_hash": data.content_hash,
        "counts": "live",
        "played": len(events),
        "events_per_s": round(len(events) / seconds, 1),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        **figures(played),
    }
    settings.output_dir.mkdir(parents=True, exist_ok=True)
    write_table(settings.output_dir / "served_ranks.parquet", played)
    write_json(settings.output_dir / "served.json", found)
    for group in ("all", "first", "next"):
        print(f"{group}: {found[group]['events']:,} events, recall@20 / mrr {_cell(found[group])}")
    print(f"results: {settings.output_dir / 'served.json'}, served_ranks.parquet")


def _score(
    settings: Settings, data: Data, subjects: Sequence[Ranker | Model], periods: Periods
) -> dict[str, dict[str, Any]]:
    """The figures of every row, by its name."""
    rows: dict[str, dict[str, Any]] = {}
    for subject in subjects:
        for update in settings.updates:
            if not _differs(subject, update, settings.updates):
                continue
            row = f"{subject.name} ({update.name})"
            directory = settings.output_dir / "ranks" / row.replace(" ", "_")
            ranks = score_row(subject, update, data, periods, directory)
            rows[row] = {"update": update.name, **summarize(ranks, data, periods)}
            print(f"{row}: done", flush=True)
    return rows


def _open(settings: Settings) -> tuple[Data, Model | None]:
    if settings.workdir is None:
        return open_data(settings.data_dir, "live"), None
    require_kind("workdir", settings.workdir, Kind.RUN, Kind.CELL)
    restored = restore_run(settings.workdir, settings.checkpoint)
    place = DataLocation(data_dir=str(settings.data_dir))
    model = Model(restored.config.name, restored, settings.workdir, settings.replay_share)
    return open_run_data(restored, place, "live"), model


def _first(settings: Settings, data: Data) -> int:
    if settings.first is not None:
        return settings.first
    if "cuts" not in data.manifest:
        raise DataError(
            f"{data.directory}: was not split by time, so --from is needed: a time such as "
            "2017-10-13"
        )
    return int(data.manifest["cuts"]["test_after"])


def _require_earlier_fit(model: Model, data: Data, first: int) -> None:
    """Checks that a model was fitted on nothing that is scored."""
    cut = fitted_until(model.restored, model.workdir, data)
    if cut > first:
        raise DataError(
            f"from={to_iso(1000 * first)}: the model was fitted on events until "
            f"{to_iso(1000 * cut)}; set --from to that time or later"
        )


def _differs(subject: Ranker | Model, update: Update, updates: tuple[Update, ...]) -> bool:
    """Whether a row is one of its own: without counts all updates but training are the same."""
    counts = (
        subject.kind in AT_LEVELS
        if isinstance(subject, Ranker)
        else has_level(subject.restored.config)
    )
    same = [one for one in updates if not one.refits]
    return counts or update.refits or update == same[0]


def _require_same(settings: Settings, data: Data, periods: Periods) -> None:
    """Checks that finished rows were made with these settings; writes them down at first."""
    path = settings.output_dir / SETTINGS_FILE
    wanted = {
        "data_hash": data.content_hash,
        "starts": list(periods.starts),
        "end": periods.end,
        "checkpoint": settings.checkpoint,
        "replay_share": settings.replay_share,
        "rankers": {one.name: [one.kind, one.arguments] for one in settings.rankers},
    }
    wanted = json.loads(json.dumps(wanted))
    if not path.exists():
        write_json(path, wanted)
        return
    saved = read_json(path)
    if not isinstance(saved, dict):
        raise DataError(f"{path}: is not what a replay writes; remove {settings.output_dir}")
    differing = [name for name in wanted if saved.get(name) != wanted[name]]
    if differing:
        raise DataError(
            f"{path}: made with other settings: {', '.join(differing)}; give another --output_dir, "
            f"or remove {settings.output_dir}"
        )


def _report(
    settings: Settings, data: Data, periods: Periods, rows: dict[str, dict[str, Any]]
) -> None:
    hashes = {row["events_hash"] for row in rows.values()}
    if len(hashes) > 1:
        raise DataError(
            f"{settings.output_dir}: rows scored other events: {', '.join(sorted(hashes))}; remove "
            "it, and start again"
        )
    values = {
        "data_hash": data.content_hash,
        "catalogue": "live",
        "from": to_iso(1000 * periods.starts[0]),
        "every_seconds": settings.every,
        "events_hash": hashes.pop(),
        "models": rows,
    }
    write_json(settings.output_dir / "replay.json", values)
    table = Table(title=f"{data.directory.name}, recall@20 / mrr of sessions by their start, UTC")
    table.add_column("period")
    for row in rows:
        table.add_column(row, justify="right")
    slices = [row["slices"]["time"]["bins"] for row in rows.values()]
    for bins in zip(*slices, strict=True):
        table.add_row(bins[0]["bin"], *(_cell(one) for one in bins))
    for group in ("all", "first", "next"):
        table.add_row(group, *(_cell(row[group]) for row in rows.values()))
    print_table(table)
    prefix = settings.output_dir / "replay"
    plot_slices({name: [row["slices"]] for name, row in rows.items()}, prefix, data.directory.name)
    print(f"\nresults: {prefix}.json, {prefix}_*.png")
    # The report of a run shows the replay that is inside.
    if settings.workdir is not None and settings.output_dir == settings.workdir / "replay":
        print(report_line(settings.workdir))


def _cell(figures: dict[str, Any]) -> str:
    if not figures["events"]:
        return "-"
    return f"{figures['recall@20']:.3f} / {figures['mrr']:.3f}"


if __name__ == "__main__":
    define_flags()
    run_command(
        read_settings, main, (DataError, CheckpointError, ExportError, OSError), resumes=True
    )
