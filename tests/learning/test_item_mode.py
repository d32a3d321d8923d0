"""Which rows of the item table a step uses, and which losses that allows."""

import pytest

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.learning.item_mode import DENSE_ITEMS, choose_item_mode, require_compatible
from hiertcn_jax.learning.loss_config import LossConfig


def test_a_loss_over_all_items_needs_the_whole_table():
    loss = LossConfig(name="cross_entropy")
    with pytest.raises(ValueError, match=r"^item_mode=rows: .* cross_entropy needs all"):
        require_compatible(ModelConfig(item_mode="rows"), loss)
    require_compatible(ModelConfig(item_mode="dense"), loss)
    require_compatible(ModelConfig(item_mode="rows"), LossConfig(name="sampled_softmax"))


def test_auto_is_rows_for_a_large_catalogue_where_the_loss_can():
    auto, sampled = ModelConfig(item_dim=3), LossConfig()
    assert auto.item_mode == "auto"

    def chosen(model, loss, rows):
        return choose_item_mode(model, loss, rows).item_mode

    assert chosen(auto, sampled, DENSE_ITEMS) == "dense"
    assert chosen(auto, sampled, DENSE_ITEMS + 1) == "rows"
    assert chosen(auto, LossConfig(name="cross_entropy"), 10**9) == "dense"
    for mode in ("dense", "rows"):
        assert chosen(ModelConfig(item_mode=mode), sampled, 10**9) == mode
        assert chosen(ModelConfig(item_mode=mode), sampled, 10) == mode
    assert choose_item_mode(auto, sampled, 3) == ModelConfig(item_dim=3, item_mode="dense")
