"""Configs of models as earlier versions saved them, and how one of them becomes a config of now.

0.1.0    every config had the settings of all models, those of 98b32ca, whichever model it was of
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
"""What a config of 0.1.0 had of models besides what all of them share."""


_SINCE_0_1_0 = {"hiergru": frozenset({"gap_decay", "gap_decay_hours"})}
"""Settings that models have got since: 0.1.0 saved them of all, and these models ignored them."""


def settings_of_others(name: str, saved: Iterable[str]) -> frozenset[str]:
    """What is left out of a saved config, because it was of other models when it was saved.

    Args:
      name: The model's.
      saved: The names of the settings that were saved.
    """
    own = {field.name for field in fields_of(MODELS[name].config)}
    if set(saved) >= SETTINGS_OF_ALL:
        own -= _SINCE_0_1_0.get(name, frozenset())
    return SETTINGS_OF_ALL - own


def without_other_models(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A saved config without the settings that 0.1.0 saved of other models.

    Args:
      saved: JSON values. Where there is no model of their name they stay as they are.
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
