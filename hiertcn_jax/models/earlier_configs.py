"""Converts configs of models that earlier versions saved.

0.1.0    every config had the settings of all models, those of 98b32ca, whatever its model
"""

from collections.abc import Iterable, Mapping
from typing import Any

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.models import MODELS
from hiertcn_jax.settings import fields_of, one_of

SETTINGS_OF_ALL = frozenset(
    {
        "gru_dim",
        "gru_layers",
        "pooling",
        "gap_decay",
        "gap_decay_hours",
        "tcn_channels",
        "kernel_size",
        "dilation_base",
        "convs_per_block",
        "residual",
        "hiergru_feed",
        "attention_dim",
        "attention_window",
        "attention_blocks",
        "attention_heads",
    }
)
"""Settings in a config of 0.1.0 besides those that all models share."""


_SINCE_0_1_0 = {"hiergru": frozenset({"gap_decay", "gap_decay_hours"})}
"""Settings that models got later: 0.1.0 saved them for all, and these models ignored them."""


def settings_of_others(name: str, saved: Iterable[str]) -> frozenset[str]:
    """The saved settings to leave out, because they belonged to other models when they were saved.

    Args:
      name: The model's name.
      saved: The names of the saved settings.
    """
    own = {field.name for field in fields_of(MODELS[name].config)}
    if set(saved) >= SETTINGS_OF_ALL:
        own -= _SINCE_0_1_0.get(name, frozenset())
    return SETTINGS_OF_ALL - own


def without_other_models(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved config without the settings that 0.1.0 saved for other models.

    Args:
      saved: JSON values; unchanged if there is no model of their name.
    """
    name = saved.get("name")
    if not isinstance(name, str) or name not in MODELS:
        return dict(saved)
    others = settings_of_others(name, saved)
    return {setting: value for setting, value in saved.items() if setting not in others}


def read_model_config(saved: Any) -> ModelConfig:
    """The config of JSON values that this version or an earlier one saved.

    Raises:
      ValueError: There is no such model, a setting is unknown, or a value cannot be used.
    """
    if not isinstance(saved, Mapping):
        return ModelConfig.from_dict(saved)
    name = saved.get("name")
    one_of(MODELS, name=str(name))
    return MODELS[str(name)].config.from_dict(without_other_models(saved))
