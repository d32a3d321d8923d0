"""Configs that 0.1.0 saved become configs of today's models, without other models' settings."""

import pytest

from hiertcn_jax.models import MODELS
from hiertcn_jax.models.earlier_configs import SETTINGS_OF_ALL, read_model_config
from hiertcn_jax.models.hiergru import HierGRUConfig
from hiertcn_jax.models.sasrec import SASRecConfig

SAVED = {
    "name": "hiertcn", "item_dim": 12, "projection_dim": 0, "gru_dim": 7, "gru_layers": 2,
    "pooling": "max", "gap_decay": "learned", "gap_decay_hours": 48.0, "tcn_channels": [5, 6],
    "kernel_size": 2, "dilation_base": 3, "convs_per_block": 2, "residual": False,
    "hiergru_feed": "all", "attention_dim": 16, "attention_window": 9, "attention_blocks": 1,
    "attention_heads": 4, "dropout": 0.25, "input_dropout": 0.5, "normalize": "both",
    "temperature": 0.5, "item_bias": False, "tied_output": False, "unknown_rate": 0.125,
    "item_mode": "rows", "dtype": "bfloat16",
}  # fmt: skip
"""As `ModelConfig.to_dict` of 0.1.0 wrote it: the settings of all models, none at its default."""


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_its_own_saved_settings(name):
    config = read_model_config(SAVED | {"name": name})
    assert type(config) is MODELS[name].config
    expected = {**SAVED, "name": name, "tcn_channels": tuple(SAVED["tcn_channels"])}
    if name == "hiergru":
        # 0.1.0 saved the flag, but this model had no decay.
        expected |= {"gap_decay": "none", "gap_decay_hours": 168.0}
    for setting, value in config.to_dict().items():
        assert value == expected.get(setting, value), setting
    # Later models may have none of what 0.1.0 saved for all.
    assert set(config.to_dict()) & SETTINGS_OF_ALL or not config.widths


def test_settings_of_other_models_saved_by_0_1_0_are_left_out():
    assert set(SAVED) > SETTINGS_OF_ALL
    assert read_model_config({"name": "hiergru", "pooling": "max"}) == HierGRUConfig()
    later = {"name": "hiergru", "gap_decay": "fixed"}
    assert read_model_config(later) == HierGRUConfig(gap_decay="fixed")
    assert read_model_config({"name": "sasrec", "attention_dim": 8}) == SASRecConfig(
        attention_dim=8
    )


@pytest.mark.parametrize(
    "saved, message",
    [
        ({"name": "hiergru", "memory_dim": 3}, "memory_dim=3: unknown to this version"),
        ({"name": "hiergru", "hiergru_feed": "no"}, "hiergru_feed=no: must be one of init, all"),
        ({"name": "gru4rec"}, "name=gru4rec: must be one of hiertcn, "),
        ({"name": ["hiertcn"]}, r"name=\['hiertcn'\]: must be one of hiertcn, "),
        ({}, "name=None: must be one of hiertcn, "),
        (3, "ModelConfig=3: must be fields with their values"),
    ],
)
def test_unreadable_settings_are_named(saved, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        read_model_config(saved)
