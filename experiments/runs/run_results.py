"""Scores a trained run on a split, and names the file of the result.

W/<split>.json holds the result with the run's own settings: its best checkpoint, its data, its
masking. A result with other settings has them in its name, test.mask_user.step_40.json, so that it
never replaces the one that others rely on.
"""

from pathlib import Path
from typing import Any

import jax

from data_pipelines.histories.record import Split
from data_pipelines.progress import Progress
from experiments.judging.collector import Evaluation
from experiments.judging.evaluation import Evaluator
from experiments.judging.results import write_json
from experiments.runs.data import Data
from experiments.runs.recall import recall_of
from experiments.runs.restore import Restored
from hiertcn_jax.devices import processes

_HASH_DIGITS = 8
"""Characters of a content hash in a name, to tell two apart."""


def score(restored: Restored, data: Data, split: Split) -> Evaluation:
    """Scores a restored model by the evaluation contract."""
    evaluator = Evaluator(
        restored.model,
        restored.config,
        restored.evaluation,
        data,
        split,
        restored.layout,
        recall_of(data, restored.config, restored.configs["train"]["fit_on"]),
    )
    total = -(-data.known_events(split) // jax.process_count())
    what = f"scoring {split.name.lower()}"
    with Progress(what, "events", total, shown=processes.is_first()) as progress:
        return evaluator(restored.params, progress.add)


def result_stem(restored: Restored, data: Data, split: Split) -> str:
    """The stem of a result's files: the split, and settings that are not the run's.

    Args:
      restored: The run, with the evaluation settings in use.
      data: The scored data.
      split: The scored part.
    """
    trained, mask_seen = restored.configs["data"], restored.evaluation.mask_seen
    words = [split.name.lower()]
    if mask_seen != restored.configs["evaluation"].get("mask_seen", "none"):
        words.append(f"mask_{mask_seen}")
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
    workdir: Path, restored: Restored, data: Data, split: Split, evaluation: Evaluation
) -> Path:
    """Writes W/<stem>.json; returns its path.

    Raises:
      OSError: It cannot be written.
    """
    values: dict[str, Any] = {
        "split": split.name.lower(),
        "checkpoint_step": restored.step,
        "mask_seen": restored.evaluation.mask_seen,
        **evaluation.metrics,
    }
    path = workdir / f"{result_stem(restored, data, split)}.json"
    write_json(path, values)
    return path


def _short(content_hash: str) -> str:
    return content_hash.rpartition(":")[2][:_HASH_DIGITS]
