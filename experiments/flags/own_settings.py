"""Which flags one model of a comparison, or one trial of a sweep, may have otherwise than the rest.

What decides which events are scored and how, what may be fitted on and where the work is done has
to be equal, or figures that stand side by side say nothing of the models.
"""

from collections.abc import Mapping
from typing import Any

from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig
from hiertcn_jax.settings import fields_of

SHARED_FLAGS = frozenset(
    {
        # What stands in a row.
        "model",
        "seed",
        "parameter_budget",
        # What is fitted on, and which checkpoint is taken.
        "fit_on",
        "monitor",
        "eval_every_epochs",
        # What is scored, and how.
        "split",
        *(field.flag for field in fields_of(EvalConfig)),
        # Where things lie.
        "data_dir",
        "workdir",
        "synthetic",
        "item_embeddings",
        "item_embedding_ids",
        "embedding_cache_mb",
        "data_parallelism",
        "model_parallelism",
    }
)
"""Flags that are equal for all models of a comparison and for all trials of a sweep."""


def override_own(run: RunConfig, values: Mapping[str, Any], **row: Any) -> RunConfig:
    """The run with the flags of one model or trial, see `RunConfig.override`.

    Args:
      run: What all have.
      values: The flags of this one.
      **row: What stands in a row, such as its model: set at once with the flags, as one may need
        the other.

    Raises:
      ValueError: One is of SHARED_FLAGS, there is no such flag, or a value cannot be used.
    """
    for name, value in values.items():
        if name in SHARED_FLAGS:
            raise ValueError(f"{name}={value}: must be equal for all, so only the command sets it")
    return run.override({**row, **values})
