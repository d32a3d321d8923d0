"""Every model, and its options one by one: small configs for tests that hold for all of them."""

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.models import MODELS, model_config

ITEMS = 12
"""Rows of the item tables in these tests."""

SMALL = {
    "item_dim": 6,
    "gru_dim": 5,
    "tcn_channels": (4, 4),
    "kernel_size": 2,
    "attention_dim": 8,
    "attention_window": 4,
    "attention_heads": 2,
    "unknown_rate": 0.0,
}

NEEDED = {"memory": {"memory": ("world", "followers", "own")}}
"""Settings that some models require, by model."""

OPTIONS = {
    **{name: {"name": name, **NEEDED.get(name, {})} for name in MODELS},
    "hiertcn_layers": {"gru_layers": 2},
    "hiertcn_max": {"pooling": "max"},
    "hiertcn_last": {"pooling": "last"},
    "hiertcn_fixed_decay": {"gap_decay": "fixed", "gap_decay_hours": 50.0},
    "hiertcn_learned_decay": {"gap_decay": "learned", "gap_decay_hours": 50.0, "gru_layers": 2},
    "hiertcn_projection": {"projection_dim": 7, "pooling": "max"},
    "hiertcn_two_convs": {"convs_per_block": 2, "kernel_size": 3},
    "hiertcn_no_residual": {"residual": False},
    "hiertcn_gated": {"gated": True, "session_progress": True},
    "hiertcn_widening": {"tcn_channels": (3, 5, 4), "dilation_base": 3},
    "hiertcn_kernel_1": {"kernel_size": 1},
    "hiertcn_normalized": {"normalize": "prediction", "temperature": 0.5},
    "hiergru_layers": {"name": "hiergru", "gru_layers": 2},
    "hiergru_all": {"name": "hiergru", "hiergru_feed": "all", "gru_layers": 2},
    "hiergru_fixed_decay": {"name": "hiergru", "gap_decay": "fixed", "gap_decay_hours": 50.0},
    "hiergru_learned_decay": {
        "name": "hiergru",
        "gap_decay": "learned",
        "gap_decay_hours": 50.0,
        "gru_layers": 2,
    },
    "hiergru_projection": {"name": "hiergru", "projection_dim": 7, "normalize": "prediction"},
    "gru_layers": {"name": "gru_user", "gru_layers": 2, "normalize": "prediction"},
    "gru_projection": {"name": "gru_session", "projection_dim": 7, "temperature": 0.5},
    "tcn_two_convs": {"name": "tcn_user", "convs_per_block": 2, "residual": False},
    "tcn_projection": {"name": "tcn_session", "projection_dim": 7, "kernel_size": 3},
    # Reaches 2 events back in one block; with rows of 5 events, in blocks of 2.
    "sasrec_narrow": {"name": "sasrec", "attention_window": 3, "attention_blocks": 1},
    "sasrec_itself": {"name": "sasrec", "attention_window": 1, "attention_heads": 1},
    "hstu_narrow": {
        "name": "hstu",
        "attention_window": 3,
        "projection_dim": 7,
        "normalize": "both",
        "temperature": 0.5,
    },
    "hstu_itself": {"name": "hstu", "attention_window": 1, "attention_heads": 1},
    # Several options at once, for the tests that are not thorough.
    "hiertcn_many": {
        "gru_layers": 2,
        "pooling": "max",
        "gap_decay": "learned",
        "gap_decay_hours": 50.0,
        "projection_dim": 7,
        "convs_per_block": 2,
        "kernel_size": 3,
        "normalize": "prediction",
        "temperature": 0.5,
    },
    "hiertcn_others": {
        "pooling": "last",
        "gap_decay": "fixed",
        "gap_decay_hours": 50.0,
        "residual": False,
        "tcn_channels": (3, 5),
        "dilation_base": 3,
    },
    "hiergru_many": {
        "name": "hiergru",
        "hiergru_feed": "all",
        "gru_layers": 2,
        "gap_decay": "learned",
        "gap_decay_hours": 50.0,
        "projection_dim": 7,
        "normalize": "prediction",
    },
    "sasrec_projection": {"name": "sasrec", "projection_dim": 7, "normalize": "prediction"},
}


def config_of(option: str) -> ModelConfig:
    """The config of an option."""
    return model_config(**{**SMALL, **OPTIONS[option]})
