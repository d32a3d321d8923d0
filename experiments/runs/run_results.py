"""Scores a trained run on a split, and names the file of the result.

W/<split>.json holds the result with the run's own settings: its best checkpoint, its data, its
masking, counts and catalogue of the fitted part. A result with other settings has them in its name,
test.mask_user.counts_live.step_40.json, so that it never replaces the one that others rely on.
"""

from pathlib import Path
from typing import Any

import jax

from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from data_pipelines.progress import Progress
from experiments.judging.collector import Evaluation
from experiments.judging.evaluation import Evaluator
from experiments.judging.results import write_json
from experiments.runs.data import Data
from experiments.runs.recall import has_level, recall_of
from experiments.runs.restore import Restored
from hiertcn_jax.devices import processes
from hiertcn_jax.devices.mesh import MODEL
from hiertcn_jax.memory.levels import FITTED, Level

_HASH_DIGITS = 8
"""Characters of a content hash in a name, to tell two apart."""


def score(restored: Restored, data: Data, split: Split, level: Level = FITTED) -> Evaluation:
    """Scores a restored model by the evaluation contract.

    Args:
      restored: The run, with the evaluation's settings as they are used.
      data: What is scored.
      split: The part that is scored.
      level: Of the counts of its memory.

    Raises:
      DataError: It has no memory, so its scores have no level.
    """
    if level != FITTED and not has_level(restored.config):
        raise DataError(
            f"counts={level}: {restored.config.name} has no counts of what others do "
            "(--memory=world,followers), so its scores are the same at every level; leave --counts "
            "out"
        )
    if data.catalogue == "live" and restored.layout and restored.layout.mesh.shape[MODEL] > 1:
        raise DataError("catalogue=live: not with a divided item table; set --model_parallelism=1")
    evaluator = Evaluator(
        restored.model,
        restored.config,
        restored.evaluation,
        data,
        split,
        restored.layout,
        recall_of(data, restored.config, restored.configs["train"]["fit_on"], level),
    )
    total = -(-data.known_events(split) // jax.process_count())
    what = f"scoring {split.name.lower()}"
    with Progress(what, "events", total, shown=processes.is_first()) as progress:
        return evaluator(restored.params, progress.add)


def result_stem(restored: Restored, data: Data, split: Split, level: Level = FITTED) -> str:
    """The stem of a result's files: the split, and settings that are not the run's.

    Args:
      restored: The run, with the evaluation settings in use.
      data: The scored data.
      split: The scored part.
      level: The level of counts; a run's own is `fitted`.
    """
    trained, mask_seen = restored.configs["data"], restored.evaluation.mask_seen
    words = [split.name.lower()]
    if mask_seen != restored.configs["evaluation"].get("mask_seen", "none"):
        words.append(f"mask_{mask_seen}")
    if level != FITTED:
        words.append(f"counts_{level.file_name}")
    if data.catalogue != "fitted":
        words.append(f"catalogue_{data.catalogue}")
    if not restored.is_best:
        words.append(f"step_{restored.step}")
    if data.content_hash != trained["content_hash"]:
        words.append(f"data_{_short(data.content_hash)}")
    if data.embeddings is not None:
        found = data.embeddings.content_hash
        if found != trained.get("embeddings_hash"):
            words.append(f"embeddings_{_short(found)}")
    return ".".join(words)


def write_result(
    workdir: Path,
    restored: Restored,
    data: Data,
    split: Split,
    evaluation: Evaluation,
    level: Level = FITTED,
) -> Path:
    """Writes W/<stem>.json; returns its path.

    Raises:
      OSError: It cannot be written.
    """
    values = result_values(restored, split, evaluation, level)
    path = workdir / f"{result_stem(restored, data, split, level)}.json"
    write_json(path, values)
    return path


def result_values(
    restored: Restored, split: Split, evaluation: Evaluation, level: Level = FITTED
) -> dict[str, Any]:
    """What a result's file holds."""
    return {
        "split": split.name.lower(),
        "checkpoint_step": restored.step,
        "mask_seen": restored.evaluation.mask_seen,
        **({"counts": str(level)} if has_level(restored.config) else {}),
        **evaluation.metrics,
    }


def _short(content_hash: str) -> str:
    return content_hash.rpartition(":")[2][:_HASH_DIGITS]
