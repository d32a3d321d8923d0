"""The settings that all trials of a sweep share, so that their results can be compared."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.flags.run_flags import run_lines
from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig
from experiments.runs.data import Data
from experiments.sweeping.space import Space
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models import fields_of_models, model_config
from hiertcn_jax.models.earlier_configs import settings_of_others
from hiertcn_jax.saving.checkpoint import config_differences, unknown_fields
from hiertcn_jax.settings import fields_of


def made_with(
    run: RunConfig, data: Data, space: Space, ranker: str | None, parameter_budget: int
) -> dict[str, Any]:
    """The settings that are saved with the trials, JSON values."""
    return {
        # As text, so that a removed entry counts as a difference too.
        "space": json.dumps(space.values),
        "ranker": ranker,
        "parameter_budget": parameter_budget,
        "data_hash": data.content_hash,
        **(_of_ranker(run, data) if ranker else {"flags": sorted(run_lines(run))}),
    }


def _of_ranker(run: RunConfig, data: Data) -> dict[str, Any]:
    mask_seen, embeddings_hash = run.evaluation.mask_seen, None
    if data.embeddings is not None:
        embeddings_hash = data.embeddings.content_hash
    return {
        "monitor": run.train.monitor,
        # None without masking or given embeddings, as in sweeps from before these were saved.
        "mask_seen": None if mask_seen == "none" else mask_seen,
        "embeddings_hash": embeddings_hash,
    }


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Lists settings that differ from a sweep's, one line each.

    Args:
      saved: From `made_with`, of this version or an earlier one: flags that it did not have are at
        their defaults, and those of other models are left out.
      wanted: From `made_with`.
    """
    if "flags" not in wanted or "flags" not in saved:
        return config_differences(saved, wanted)
    there, here = _by_name(saved["flags"]), _by_name(wanted["flags"])
    name = here["model"]
    default = RunConfig(
        model_config(name), LossConfig(), OptimizerConfig(), TrainConfig(), EvalConfig()
    )
    others = settings_of_others(name, there)
    there = {flag: text for flag, text in there.items() if flag not in others}
    defaults = _by_name(run_lines(default))
    unknown = unknown_fields({"flags": there}, {"flags": defaults | here})
    saved, wanted = {**saved, "flags": defaults | there}, {**wanted, "flags": here}
    return config_differences(saved, wanted) + unknown


def _by_name(lines: Sequence[str]) -> dict[str, str]:
    """The lines of a flagfile by the names of their flags."""
    kinds = (LossConfig, OptimizerConfig, TrainConfig, EvalConfig)
    fields = [*fields_of_models(), *(field for kind in kinds for field in fields_of(kind))]
    switched_off = {f"no{field.flag}": field.flag for field in fields if field.kind.type is bool}
    by_name = {}
    for line in lines:
        name, is_text, text = line.removeprefix("--").partition("=")
        if is_text:
            by_name[name] = text
        else:
            by_name[switched_off.get(name, name)] = str(name not in switched_off).lower()
    return by_name
