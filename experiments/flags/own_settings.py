"""Decides which flags a single model of a comparison, or a single trial of a sweep, may change.

Flags that decide which events are scored and how, what may be fitted on, and where the work runs
must be equal for all. Otherwise figures side by side would not compare the models.
"""

from collections.abc import Mapping
from typing import Any

from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig
from hiertcn_jax.settings import fields_of

SHARED_FLAGS = frozenset(
    {
        # The identity of a row of the table.
        "model",
        "seed",
        "parameter_budget",
        # The fitted part, and the checkpoint to use.
        "fit_on",
        "monitor",
        "eval_every_epochs",
        # The scored part, and how it is scored.
        "split",
        *(field.flag for field in fields_of(EvalConfig)),
        # Locations.
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
"""Flags that must be equal for all models of a comparison and all trials of a sweep."""


def override_own(run: RunConfig, values: Mapping[str, Any], **row: Any) -> RunConfig:
    """The run with the flags of one model or trial, see `RunConfig.override`.

    Args:
      run: The settings that all share.
      values: The flags of this one.
      **row: Identity of the row, such as its model; set together with the flags, because one may
        need the other.

    Raises:
      ValueError: A flag is one of SHARED_FLAGS or does not exist, or a value cannot be used.
    """
    for name, value in values.items():
        if name in SHARED_FLAGS:
            raise ValueError(f"{name}={value}: must be equal for all, so only the command sets it")
    return run.override({**row, **values})
