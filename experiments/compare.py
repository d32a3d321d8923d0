r"""Trains or fits several models, scores them on the very same events, and compares them.

    python -m experiments.compare --data_dir=D --workdir=W \
        --models=popularity,item_knn,hiertcn --seeds=0,1,2

Neural models take all flags of experiments.train. --settings=A.json,B.json sets flags (of a neural
model) or arguments (of a ranker) for one model, {"hiertcn": {"dropout": 0.3}}, as in the best.json
of experiments.sweep. It also defines variants, {"stan_causal": {"ranker": "stan", "causal": true}},
which --models then takes by name (experiments.comparison.entries). With several --counts, a model
whose counts have a level has a row for each; it is trained once.

Writes W/compare.json, W/compare.md, W/compare.csv and W/compare_differences.csv. --slices adds
W/<split>_slices.json and a plot of each slice, W/<split>_slices_<slice>.png. --audit adds
W/audit.json, see experiments.comparison.audit. Finished cells are kept: the same command resumes.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from data_pipelines.commands.command import run_command
from data_pipelines.directories import Kind, require_kind
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from data_pipelines.outputs import check_directory
from data_pipelines.synthetic import Variant
from experiments.comparison.audit import AuditError, audit
from experiments.comparison.cells import Cell, Comparison, finished_figures, run_cells
from experiments.comparison.differences import best_differences
from experiments.comparison.entries import SettingsByName, check_entries, read_settings_files
from experiments.comparison.summary import summarize, summary_json
from experiments.comparison.tables import (
    TextTable,
    comparison_frame,
    comparison_tables,
    differences_frame,
    header_texts,
    markdown,
    rich_table,
)
from experiments.flags import run_flags as flags_lib
from experiments.flags.levels import define_catalogue_flag, read_levels
from experiments.judging.result_tables import LEGEND, print_table, report_line, scored_line
from experiments.judging.results import write_json, write_table
from experiments.judging.slice_plots import require_matplotlib
from experiments.judging.slice_report import Scoring, report_comparison
from experiments.runs.bad_steps import NonFiniteError
from experiments.runs.commit import current_commit
from experiments.runs.config import RunConfig
from experiments.runs.data import Catalogue, Data, make_synthetic, open_data, with_embeddings
from experiments.runs.files import kept_if_used, write_text
from hiertcn_jax.memory.levels import FITTED, Level
from hiertcn_jax.saving.checkpoint import CheckpointError


class Settings(NamedTuple):
    """What the flags say."""

    run: RunConfig
    data_dir: Path
    workdir: Path
    models: list[str]
    seeds: list[int]
    split: Split
    parameter_budget: int
    settings: SettingsByName
    slices: bool = False
    audit: bool = False
    allow_older: bool = False
    synthetic: Variant | None = None
    levels: tuple[Level, ...] = (FITTED,)
    catalogue: Catalogue = "fitted"


def define_flags() -> None:
    """Defines the flags of this command: those of training, and its own."""
    flags_lib.define_train_flags()
    flags.DEFINE_list(
        "models", ["popularity", "hiertcn"], "Names of the models and rankers to compare."
    )
    flags.DEFINE_list("seeds", ["0"], "Seeds of the neural models; replaces --seed.")
    flags.DEFINE_enum("split", "test", ["test", "valid"], "The part to score.")
    flags.DEFINE_integer(
        "parameter_budget",
        0,
        "Scale each neural model's widths to this number of parameters, not counting item "
        "embeddings. 0: keep the widths.",
        lower_bound=0,
    )
    flags.DEFINE_list(
        "settings",
        [],
        "JSON files with flags or arguments for single models, and with variants of models.",
    )
    flags.DEFINE_list(
        "counts",
        ["fitted"],
        "Levels of counts, of fitted, live, delayed:15m and static: a row for each, of the models "
        "with --memory, rolling_popularity, stan and vsknn.",
    )
    define_catalogue_flag()
    flags.DEFINE_bool("slices", False, "Also write metrics by slice of the events, and plots.")
    flags.DEFINE_bool(
        "audit", False, "Also check that no score depends on data that the model must not know."
    )


def read_settings() -> Settings:
    """The settings that the parsed flags give.

    Raises:
      ValueError: A model, a seed or a setting is invalid, or plots cannot be made.
    """
    values = flags.FLAGS
    if not all(seed.isdecimal() for seed in values.seeds):
        raise ValueError(f"flag --seeds={','.join(values.seeds)}: must be whole numbers >= 0")
    by_name = read_settings_files(values.settings)
    if values.slices:
        require_matplotlib()
    seeds, run = [int(seed) for seed in values.seeds], flags_lib.read_run_config()
    levels = read_levels("counts", values.counts)
    if values.audit and values.catalogue == "live":
        raise ValueError(
            "flag --audit: not with --catalogue=live; leave one of them out (what a model learns, "
            "which the audit checks, is the same in both catalogues)"
        )
    check_entries(run, values.models, seeds, by_name, values.parameter_budget, levels)
    return Settings(
        run=run,
        data_dir=Path(values.data_dir),
        workdir=Path(values.workdir),
        models=values.models,
        seeds=seeds,
        split=Split[values.split.upper()],
        parameter_budget=values.parameter_budget,
        settings=by_name,
        slices=values.slices,
        audit=values.audit,
        allow_older=values.allow_older_checkpoint,
        synthetic=flags_lib.read_synthetic(sys.argv[1:]),
        levels=levels,
        catalogue=values.catalogue,
    )


def require_same_events(cells: list[Cell]) -> str:
    """The hash of the events that all cells scored.

    Raises:
      DataError: Two cells scored other events.
    """
    first = cells[0].values["metrics"]
    for cell in cells:
        metrics = cell.values["metrics"]
        if (metrics["events_hash"], metrics["events"]) != (first["events_hash"], first["events"]):
            raise DataError(
                f"{cell.directory}: scored {metrics['events']} events of hash "
                f"{metrics['events_hash']}, but {cells[0].directory} {first['events']} of "
                f"{first['events_hash']}; remove the directory whose events are not those of the "
                "log, and start again"
            )
    return first["events_hash"]


def main(settings: Settings) -> None:
    """Runs all cells, then compares them.

    Raises:
      AuditError: A leakage audit was asked for, and failed.
    """
    require_kind("workdir", settings.workdir, Kind.COMPARISON)
    check_directory("workdir", settings.workdir)
    make_synthetic(settings.data_dir, settings.synthetic)
    data = with_embeddings(open_data(settings.data_dir), settings.run.train)
    live = None
    if settings.catalogue == "live":
        live = with_embeddings(open_data(settings.data_dir, "live"), settings.run.train)
    comparison = Comparison(
        settings.run,
        data,
        settings.split,
        settings.workdir,
        settings.parameter_budget,
        settings.settings,
        settings.allow_older,
        current_commit(),
        settings.levels,
        live,
    )
    cells: list[Cell] = []
    with kept_if_used(settings.workdir, "flags.txt"):
        flags_lib.save_flags(settings.workdir / "flags.txt")
        for number, model in enumerate(settings.models, start=1):
            cells += run_cells(comparison, model, settings.seeds)
            print(f"{model}: done, model {number} of {len(settings.models)}", flush=True)
    events_hash = require_same_events(cells)
    if settings.slices:
        run = settings.run
        scoring = Scoring(settings.split, run.train.fit_on, run.evaluation.mask_seen)
        report_comparison(cells, comparison.scored, scoring, settings.workdir)
    _write_tables(settings, data, cells, events_hash)
    if settings.audit:
        audit(comparison, cells)


def _write_tables(settings: Settings, data: Data, cells: list[Cell], events_hash: str) -> None:
    """Writes the comparison as JSON, CSV and Markdown, and prints it."""
    rows, differences = summarize(cells), best_differences(cells)
    header = {
        "split": settings.split.name.lower(),
        "data": str(data.directory),
        "data_hash": data.content_hash,
        "events_hash": events_hash,
        "fit_on": settings.run.train.fit_on,
        "mask_seen": settings.run.evaluation.mask_seen,
        "counts": [str(level) for level in settings.levels],
        "catalogue": settings.catalogue,
        "seeds": settings.seeds,
        "parameter_budget": settings.parameter_budget,
        "commits": list(dict.fromkeys(cell.values.get("commit") or "unknown" for cell in cells)),
    }
    by_model = {
        row.model: [finished_figures(c) for c in cells if c.row == row.model] for row in rows
    }
    write_json(
        settings.workdir / "compare.json",
        {
            **header,
            "summary": summary_json(rows),
            "models": by_model,
            "differences": differences,
        },
    )
    write_table(settings.workdir / "compare.csv", comparison_frame(rows, events_hash))
    write_table(
        settings.workdir / "compare_differences.csv", differences_frame(differences, events_hash)
    )
    tables = comparison_tables(rows, differences)
    write_text(settings.workdir / "compare.md", markdown(tables, header))
    print(f"\n{scored_line(settings.split, cells[0].values['metrics'])}\n")
    _print(tables, header)
    print(f"\n{LEGEND}\n\nresults: {settings.workdir}/compare.md, .json, .csv")
    print(report_line(settings.workdir))


def _print(tables: list[TextTable], header: dict[str, Any]) -> None:
    for name, text in header_texts(header).items():
        print(f"{name}: {text}")
    for table in tables:
        print()
        print_table(rich_table(table))


if __name__ == "__main__":
    define_flags()
    errors = (DataError, CheckpointError, NonFiniteError, AuditError, OSError)
    run_command(read_settings, main, errors, resumes=True)
