"""What the directories of runs and comparisons hold for the report."""

from pathlib import Path
from typing import Any, NamedTuple

from data_pipelines.directories import Kind, kind_of, require_kind
from data_pipelines.errors import DataError
from data_pipelines.histories.prepared_files import read_json
from experiments.comparison.summary import Figure
from experiments.runs.learning_curve import read_journal
from hiertcn_jax.scoring.metric_sums import GROUPS

COLUMNS = ("recall@1", "recall@5", "recall@10", "recall@20", "mrr", "ndcg@10")
"""Metrics of the table of results."""


class Result(NamedTuple):
    """The scores of a model.

    Attributes:
      name: Of the model.
      figures: By group (all, first, next) and metric.
      events: By group; None where a comparison does not say.
      split: The scored part.
      events_hash: Names the scored events.
      counts: The level of counts; None: the model has none.
    """

    name: str
    figures: dict[str, dict[str, Figure]]
    events: dict[str, int | None]
    split: str
    events_hash: str
    counts: str | None = None


class Files(NamedTuple):
    """What a directory holds.

    Attributes:
      name: In the report: the directory's name.
      directory: Its path.
      journal: The lines of metrics.jsonl.
      results: Its scores; none before it was scored.
      differences: Of a comparison, the best model less each other one, with 95 % intervals.
      slices: By model: {slice: {"title", "bins"}}.
      replay: replay.json; None without one.
      log: Of a comparison, the prepared log and its content hash; None for a run, which says it
        itself: there is a model to load.
    """

    name: str
    directory: Path
    journal: list[dict[str, Any]]
    results: list[Result]
    differences: list[dict[str, Any]]
    slices: dict[str, Any]
    replay: dict[str, Any] | None
    log: tuple[str, str] | None


def read_files(directory: Path, name: str) -> Files:
    """Reads the directory of a run, of a cell, or of a comparison.

    Raises:
      DataError: It is something else, or a file is damaged.
    """
    require_kind("workdir", directory, Kind.RUN, Kind.CELL, Kind.COMPARISON)
    if not directory.is_dir():
        raise DataError(f"workdir={directory}: no such directory; name the workdir of a run")
    try:
        if kind_of(directory) == Kind.COMPARISON:
            return _comparison(directory, name)
        return _run(directory, name)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(
            f"{directory}: its results are not as this version writes them ({error!r}); run "
            "evaluate or compare again"
        ) from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{directory}/metrics.jsonl: has a line that is no JSON ({error}); remove it"
        ) from error


def _run(directory: Path, name: str) -> Files:
    values, cell = _optional(directory / "test.json"), _optional(directory / "cell.json")
    if values is None and cell is not None:
        values = {**cell["metrics"], "split": cell["made_with"]["split"]}
    results = [] if values is None else [_result(name, values)]
    journal, slices = directory / "metrics.jsonl", _slices(directory, name, "test")
    lines = read_journal(journal) if journal.exists() else []
    replay = _optional(directory / "replay" / "replay.json")
    return Files(name, directory, lines, results, [], slices, replay, None)


def _comparison(directory: Path, name: str) -> Files:
    path = directory / "compare.json"
    values = _optional(path)
    if values is None:
        raise DataError(f"{path}: no such file; let the comparison finish first")
    results = [
        Result(
            model,
            {
                group: {
                    metric: Figure(row[group][metric]["mean"], row[group][metric]["std"])
                    for metric in COLUMNS
                }
                for group in GROUPS
            },
            dict.fromkeys(GROUPS),
            values["split"],
            values["events_hash"],
            row["counts"],
        )
        for model, row in values["summary"].items()
    ]
    slices = _slices(directory, None, values["split"])
    log = values["data"], values["data_hash"]
    return Files(name, directory, [], results, values["differences"], slices, None, log)


def _result(name: str, values: dict[str, Any]) -> Result:
    return Result(
        name,
        {g: {metric: Figure(values[g].get(metric), None) for metric in COLUMNS} for g in GROUPS},
        {group: values[group]["events"] for group in GROUPS},
        values["split"],
        values["events_hash"],
        values.get("counts"),
    )


def _slices(directory: Path, name: str | None, split: str) -> dict[str, Any]:
    """Slices by model; of several seeds the first."""
    values = _optional(directory / f"{split}_slices.json")
    models = {} if values is None else values["models"]
    return {name or model: seeds[0]["slices"] for model, seeds in models.items()}


def _optional(path: Path) -> Any:
    return read_json(path) if path.exists() else None
