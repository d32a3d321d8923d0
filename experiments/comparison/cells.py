"""One cell of a comparison: a model, trained or fitted with one seed, and scored."""

import contextlib
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from data_pipelines.directories import Kind, require_kind
from data_pipelines.errors import DataError
from data_pipelines.histories.prepared_files import read_json
from data_pipelines.histories.record import Split
from experiments.comparison.entries import SettingsByName, entry_config, entry_of
from experiments.judging.collector import Evaluation
from experiments.judging.evaluation import Evaluator
from experiments.judging.rankers import (
    evaluate_ranker,
    fit_ranker,
    fitted_histories,
    ranker_for,
    takes_embeddings,
)
from experiments.judging.results import write_json, write_ranks
from experiments.runs.config import RunConfig
from experiments.runs.data import Data
from experiments.runs.locking import lock_workdir
from experiments.runs.recall import has_level, recall_of
from experiments.runs.resolve import resolve, resolve_config
from experiments.runs.restore import restore_run
from experiments.runs.saved_configs import as_now, saved_configs
from experiments.runs.train_loop import train
from hiertcn_jax.baselines import Ranker
from hiertcn_jax.baselines.registry import AT_LEVELS
from hiertcn_jax.memory.levels import FITTED, Level
from hiertcn_jax.models.budget import count_parameters
from hiertcn_jax.saving.checkpoint import config_differences, unknown_fields

RANKS_FILE = "ranks.parquet"

_FIGURES = ("parameters", "train_events_per_s", "score_events_per_s", "causal", "metrics")
_VALUES = {"made_with", *_FIGURES}


_ANOTHER_LOG, _OTHER_EMBEDDINGS = "data_dir: another log", "item_embeddings: another file"
_IN_WORDS = {
    "data_hash": _ANOTHER_LOG,
    "data.content_hash": _ANOTHER_LOG,
    "data.rows": _ANOTHER_LOG,
    "embeddings_hash": _OTHER_EMBEDDINGS,
    "data.embeddings_hash": _OTHER_EMBEDDINGS,
}
"""What it means if one of these saved values is another one; a hash tells nobody anything."""


class Comparison(NamedTuple):
    """What all cells of a comparison share.

    Attributes:
      run: Settings of the neural models, except those that a cell changes.
      data: The data.
      split: The part to score.
      workdir: Cells are in W/<name>/seed_<seed>, or W/<name> if no seed matters.
      parameter_budget: Parameters, not counting item embeddings, to which neural models are scaled;
        0: they are not.
      settings: The settings of each name, see `experiments.comparison.entries`.
      allow_older: Whether to use an older checkpoint if a cell's newest is damaged.
      commit: Commit of the code that makes cells; None: unknown.
      levels: Levels of counts. A model whose scores have a level has a row for each.
      live: The same log with the live catalogue, to score on; None: the fitted one is scored.
    """

    run: RunConfig
    data: Data
    split: Split
    workdir: Path
    parameter_budget: int
    settings: SettingsByName
    allow_older: bool = False
    commit: str | None = None
    levels: tuple[Level, ...] = (FITTED,)
    live: Data | None = None

    @property
    def scored(self) -> Data:
        """The data whose items are ranked."""
        return self.data if self.live is None else self.live


class Cell(NamedTuple):
    """A scored model.

    Attributes:
      model: Its name in the comparison; for a variant the variant's name.
      seed: Its seed; None for a ranker, which needs none.
      directory: Its directory, which contains ranks.parquet.
      values: {"metrics": the evaluation JSON, "parameters", "train_events_per_s",
        "score_events_per_s", "causal", "commit", "made_with"}; None for a figure without meaning;
        no commit in cells from before it was recorded.
      level: The level of its counts; None if its scores have none.
    """

    model: str
    seed: int | None
    directory: Path
    values: dict[str, Any]
    level: Level | None = None

    @property
    def row(self) -> str:
        """The name of its row: the model's, with a level other than `fitted`."""
        return self.model if self.level in (None, FITTED) else f"{self.model} ({self.level})"


def run_cells(comparison: Comparison, name: str, seeds: list[int]) -> list[Cell]:
    """The cells of one model or variant; finished ones are read.

    A model is trained once for all levels of counts: at each, only its scores differ.

    Raises:
      DataError: A cell was made with other settings.
    """
    is_ranker = entry_of(name, comparison.settings).is_ranker
    levels = comparison.levels if _has_level(comparison, name) else (None,)
    return [
        _cell(comparison, name, seed, level)
        for level in levels
        for seed in ([None] if is_ranker else seeds)
    ]


def _has_level(comparison: Comparison, name: str) -> bool:
    """Whether a model's scores depend on how up to date counts are."""
    entry = entry_of(name, comparison.settings)
    if entry.is_ranker:
        return entry.model in AT_LEVELS
    return has_level(cell_config(comparison, name, 0).model)


def run_directory(comparison: Comparison, name: str, seed: int) -> Path:
    """Where a neural model is trained."""
    return comparison.workdir / name / f"seed_{seed}"


def _cell(comparison: Comparison, name: str, seed: int | None, level: Level | None) -> Cell:
    own = "" if level in (None, FITTED) else f".counts_{level.file_name}"
    own += "" if comparison.live is None else ".catalogue_live"
    directory = comparison.workdir / f"{name}{own}"
    if seed is not None:
        directory /= f"seed_{seed}"
    path = directory / "cell.json"
    # A stopped cell is a run without cell.json.
    require_kind("workdir", directory, Kind.CELL, *([] if seed is None else [Kind.RUN]))
    run = None if seed is None else cell_config(comparison, name, seed)
    made_with = _made_with(comparison, run, name, level or FITTED)
    if path.exists():
        values = read_json(path)
        if not _is_cell(values):
            raise DataError(f"{path}: is not what a comparison writes; remove it to make it again")
        differing = _differences(values["made_with"], made_with)
        if differing:
            raise DataError(
                f"{path}: made with other settings: {'; '.join(differing)}; give another workdir, "
                f"or remove {directory} to make it again"
            )
        return Cell(name, seed, directory, values, level)
    with lock_workdir(directory):
        if run is None:
            evaluation, figures = _fit_and_score(comparison, name, level or FITTED)
        else:
            trained = run_directory(comparison, name, run.train.seed)
            with contextlib.nullcontext() if trained == directory else _kept(trained):
                evaluation, figures = _train_and_score(comparison, run, trained, level or FITTED)
        write_ranks(directory / RANKS_FILE, evaluation, comparison.scored)
        values = {
            "metrics": evaluation.metrics,
            **figures,
            "commit": comparison.commit,
            "made_with": made_with,
        }
        write_json(path, values)
    return Cell(name, seed, directory, values, level)


@contextlib.contextmanager
def _kept(trained: Path) -> Iterator[None]:
    """Where a run lies that a cell of another place scores, locked."""
    require_kind("workdir", trained, Kind.CELL, Kind.RUN)
    with lock_workdir(trained):
        yield


def _is_cell(values: Any) -> bool:
    known = isinstance(values, dict) and values.keys() >= _VALUES
    return known and isinstance(values["made_with"], dict)


def _differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Settings with which a cell was made differently; a missing ranker argument counts too."""
    if "settings" in wanted:
        absent = dict.fromkeys(saved.get("settings", {}))
        wanted = {**wanted, "settings": absent | wanted["settings"]}
    saved = as_now(saved)
    lines = config_differences(saved, wanted) + unknown_fields(saved, as_now(wanted))
    # Each once: another log has another hash, and another number of rows.
    return list(dict.fromkeys(_IN_WORDS.get(line.partition(":")[0], line) for line in lines))


def cell_config(comparison: Comparison, name: str, seed: int) -> RunConfig:
    """The settings of a neural model's cell."""
    entry = entry_of(name, comparison.settings)
    return entry_config(comparison.run, entry, comparison.parameter_budget, seed)


def cell_ranker(comparison: Comparison, name: str, level: Level = FITTED) -> Ranker:
    """The ranker of a cell, not fitted yet."""
    entry = entry_of(name, comparison.settings)
    return ranker_for(entry.model, comparison.scored, entry.own, level)


def _made_with(
    comparison: Comparison, run: RunConfig | None, name: str, level: Level
) -> dict[str, Any]:
    """The settings that decide a cell's result, as JSON values."""
    decided: dict[str, Any] = {"split": comparison.split.name.lower()}
    # Earlier versions did not save the level; their cells were made at `fitted`.
    decided |= {} if level == FITTED else {"counts": str(level)}
    decided |= {} if comparison.live is None else {"catalogue": "live"}
    if run is None:
        decided |= _ranker_made_with(comparison, name)
    else:
        decided |= as_now(saved_configs(resolve_config(run, comparison.data), comparison.data))
        # Paths and the size of the cache do not matter; hashes of the files do.
        del decided["data"]["directory"]
        for place in ("item_embeddings", "item_embedding_ids", "embedding_cache_mb"):
            del decided["train"][place]
    return json.loads(json.dumps(decided))


def _ranker_made_with(comparison: Comparison, name: str) -> dict[str, Any]:
    data, model = comparison.data, entry_of(name, comparison.settings).model
    mask_seen, embeddings_hash = comparison.run.evaluation.mask_seen, None
    if data.embeddings is not None and takes_embeddings(model):
        embeddings_hash = data.embeddings.content_hash
    return {
        "data_hash": data.content_hash,
        "fit_on": comparison.run.train.fit_on,
        "settings": comparison.settings.get(name, {}),
        # None without masking or given embeddings, as in cells from before these were saved.
        "mask_seen": None if mask_seen == "none" else mask_seen,
        "embeddings_hash": embeddings_hash,
    }


def _fit_and_score(
    comparison: Comparison, name: str, level: Level
) -> tuple[Evaluation, dict[str, Any]]:
    data, run = comparison.scored, comparison.run
    ranker = cell_ranker(comparison, name, level)
    # Read histories before the clock starts; otherwise the first ranker would pay for all.
    counted = list(fitted_histories(data, run.train.fit_on, level))
    histories = iter(counted)
    started = time.perf_counter()
    fit_ranker(name, ranker, histories)
    fitted = time.perf_counter()
    learns = next(histories, None) is None
    evaluation = evaluate_ranker(ranker, data, comparison.split, run.evaluation.mask_seen, name)
    scored = time.perf_counter()
    speed = sum(len(history.item_ids_n) for history in counted) / (fitted - started)
    return evaluation, {
        "parameters": None,
        "train_events_per_s": speed if learns else None,
        "score_events_per_s": evaluation.metrics["events"] / (scored - fitted),
        "causal": ranker.causal,
    }


def _train_and_score(
    comparison: Comparison, run: RunConfig, directory: Path, level: Level
) -> tuple[Evaluation, dict[str, Any]]:
    data = comparison.scored
    train(resolve(run, comparison.data), directory, allow_older=comparison.allow_older)
    restored = restore_run(directory, "best")
    evaluator = Evaluator(
        restored.model,
        restored.config,
        restored.evaluation,
        data,
        comparison.split,
        recall=recall_of(data, restored.config, run.train.fit_on, level),
    )
    evaluator(restored.params)
    # The first pass compiled; the second gives the time of scoring.
    started = time.perf_counter()
    evaluation = evaluator(restored.params)
    seconds = time.perf_counter() - started
    jax.clear_caches()
    return evaluation, {
        "parameters": count_parameters(run.model),
        "train_events_per_s": _train_speed(directory),
        "score_events_per_s": evaluation.metrics["events"] / seconds,
        # It trains on other users' later sessions too.
        "causal": False,
    }


def _train_speed(directory: Path) -> float:
    """Median events/s over the lines of the journal, without the first, which compiled."""
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    speeds = [
        values["events_per_s"] for values in map(json.loads, lines) if values["kind"] == "train"
    ]
    return statistics.median(speeds[1:] or speeds)


def finished_figures(cell: Cell) -> dict[str, Any]:
    """A finished cell in the form of the comparison's JSON."""
    figures = {name: cell.values[name] for name in _FIGURES}
    counts = None if cell.level is None else str(cell.level)
    return {"seed": cell.seed, "commit": cell.values.get("commit"), "counts": counts, **figures}
