"""Makes the Recommender of an exported model: the same as that of the run."""

from pathlib import Path

import jax.numpy as jnp
import polars as pl

from hiertcn_jax.exported.reading import Export, ExportError
from hiertcn_jax.exporting.functions import nested_weights
from hiertcn_jax.models import build
from hiertcn_jax.models.earlier_configs import read_model_config
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.serving.frames import Names
from hiertcn_jax.serving.recommender import Recommender
from hiertcn_jax.serving.scorer import ModelScorer
from hiertcn_jax.serving.stream import Stream


def load_export(directory: str | Path) -> Recommender:
    """The Recommender of an export; see `hiertcn_jax.load`.

    Raises:
      ExportError: It is no export, or damaged.
    """
    export = Export(directory)
    try:
        config = read_model_config(export.manifest["config"])
        names = Names(**export.manifest["columns"])
    except (KeyError, ValueError, TypeError) as error:
        raise ExportError(f"{export.directory}: config cannot be used: {error}") from error
    arrays = {name: jnp.asarray(array) for name, array in export.weights().items()}
    items = ItemTable(arrays["items/input"], arrays.get("items/output"), arrays.get("items/bias"))
    params = {"model": nested_weights(arrays), "items": items}
    stream = Stream(build(config), params, export.gap_seconds)
    known_of_items = None
    if export.columns:
        known_of_items = pl.DataFrame(
            {"item_id": export.items.ids, **export.columns},
            schema_overrides={"title": pl.String},
            strict=False,
        )
    return Recommender(
        ModelScorer(stream, item_keys(items, config), config.memory),
        export.items,
        export.users,
        export.model_id,
        export.memory(),
        names,
        known_of_items,
    )
