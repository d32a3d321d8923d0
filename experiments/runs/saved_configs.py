"""A run's settings as its checkpoints keep them, and which of them may differ later.

Model and data decide what parameters mean; loss and optimizer decide what the optimizer's state
means. A run resumes only if these are equal, and some settings of the training too. The rest may
differ between starts. Settings that an earlier version saved keep their meaning: a setting that it
did not have is at its default, and settings that it saved for other models are left out.
"""

import json
from collections.abc import Mapping
from typing import Any

from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig
from experiments.runs.data import Data
from hiertcn_jax import __version__
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models import MODELS
from hiertcn_jax.models.earlier_configs import without_other_models
from hiertcn_jax.saving.checkpoint import config_differences, unknown_fields
from hiertcn_jax.settings import Settings, shortly

_VERSION = "version"


def saved_configs(run: RunConfig, data: Data) -> dict[str, Any]:
    """All settings of a run, as a checkpoint keeps them; JSON values."""
    return {
        _VERSION: __version__,
        "model": run.model.to_dict(),
        "loss": run.loss.to_dict(),
        "optimizer": run.optimizer.to_dict(),
        "train": run.train.to_dict(),
        "evaluation": run.evaluation.to_dict(),
        "data": {
            "content_hash": data.content_hash,
            "directory": str(data.directory.absolute()),
            "rows": data.vocabulary.size,
            "embeddings_hash": None if data.embeddings is None else data.embeddings.content_hash,
        },
    }


def as_now(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Converts saved settings to the form of this version.

    Args:
      saved: From `saved_configs` of this version or an earlier one, or a part of it.
    """
    kinds: dict[str, type[Settings]] = {
        "loss": LossConfig,
        "optimizer": OptimizerConfig,
        "train": TrainConfig,
        "evaluation": EvalConfig,
    }
    now = {name: values for name, values in saved.items() if name != _VERSION}
    model = now.get("model")
    if isinstance(model, Mapping):
        now["model"] = without_other_models(model)
        name = model.get("name")
        if isinstance(name, str) and name in MODELS:
            kinds["model"] = MODELS[name].config
    for name, kind in kinds.items():
        if isinstance(now.get(name), Mapping):
            # The same form as in JSON: lists, not tuples.
            defaults = json.loads(json.dumps(kind().to_dict()))
            now[name] = {**defaults, **now[name]}
    return now


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The differences that prevent a resume, one "field: checkpoint A, this run B" each.

    Args:
      saved: From a checkpoint.
      wanted: From `saved_configs`.
    """
    now = as_now(saved)
    binding = {
        **{name: wanted[name] for name in ("model", "loss", "optimizer")},
        "train": {name: wanted["train"][name] for name in ("lanes", "seed", "fit_on")},
    }
    if "continued" in wanted or "continued" in now:
        # A run that continues another one is not one that started from its seed.
        now.setdefault("continued", None)
        binding["continued"] = wanted.get("continued")
        wanted = {"continued": None, **wanted}
    unknown = unknown_fields(now, wanted)
    if unknown:
        unknown[-1] += who_can(saved)
    return _data_differences(now, wanted) + config_differences(now, binding) + unknown


def _data_differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The differences of log and embeddings, named by their paths; hashes tell nobody anything."""
    lines = []
    for flag, digest, part, path in (
        ("data_dir", "content_hash", "data", "directory"),
        ("item_embeddings", "embeddings_hash", "train", "item_embeddings"),
    ):
        if _at(saved, "data", digest) == _at(wanted, "data", digest):
            continue
        there, here = _at(saved, part, path) or "none", _at(wanted, part, path) or "none"
        changed = ", which has changed since" if there == here else ""
        lines.append(f"{flag}: checkpoint {shortly(there)}, this run {here}{changed}")
    return lines


def _at(configs: Mapping[str, Any], part: str, name: str) -> Any:
    """A saved setting; None where damage left none."""
    values = configs.get(part)
    return values.get(name) if isinstance(values, Mapping) else None


def who_can(saved: Mapping[str, Any]) -> str:
    """Part of a message about settings that this version does not know: which version does."""
    version = saved.get(_VERSION)
    if not isinstance(version, str) or version == __version__:
        return ""
    return f"; version {shortly(version)} wrote it, and can read it"
