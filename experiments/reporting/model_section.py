"""The section about the models: sizes, and the settings that are not the defaults."""

from typing import Any

from experiments.reporting.loaded import Loaded
from experiments.reporting.markup import Markup, facts, folded, joined, tag
from hiertcn_jax.models.budget import count_parameters


def model_section(run: Loaded) -> Markup:
    """Facts about a model."""
    config, configs = run.restored.config, run.restored.configs
    rows = run.data.vocabulary.size
    said = {
        "model": config.name,
        "reads": config.reads,
        "memory": ", ".join(config.memory) or "none",
        "parameters": f"{count_parameters(config):,}, and {rows:,} x {config.item_dim} of items",
        "checkpoint": f"step {run.restored.step:,}, the best on valid by "
        f"{configs['train']['monitor']}"
        if configs["train"]["fit_on"] == "train"
        else f"step {run.restored.step:,}, the last",
        "fitted on": configs["train"]["fit_on"].replace("_", " and "),
    }
    settings = {
        f"{part}.{name}": _text(value)
        for part in ("model", "loss", "optimizer", "train")
        for name, value in sorted(configs.get(part, {}).items())
    }
    return joined([tag("h3", run.name), facts(said), folded("all settings", facts(settings))])


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return "none" if value is None else str(value)
