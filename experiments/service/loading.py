"""Makes the Recommender of a run."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from data_pipelines.histories.record import Split
from data_pipelines.lanes.memory_lists import remember
from experiments.flags.data_flags import DataLocation
from experiments.runs.data import Data
from experiments.runs.restore import Restored, open_run_data, restore_run
from experiments.service.known_users import LoggedUsers
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.serving.frames import Names
from hiertcn_jax.serving.recommender import Recommender
from hiertcn_jax.serving.scorer import ModelScorer
from hiertcn_jax.serving.stream import Stream


def load(
    workdir: str | Path, data_dir: str | Path | None = None, checkpoint: str = "best"
) -> Recommender:
    """The Recommender of a trained run; see `hiertcn_jax.load`."""
    workdir = Path(workdir)
    restored = restore_run(workdir, checkpoint)
    data = open_run_data(restored, DataLocation(None if data_dir is None else str(data_dir)))
    return recommender_of(restored, data, f"{workdir.name}@{restored.step}")


def recommender_of(
    restored: Restored, data: Data, model_id: str, counted: Split = Split.TEST
) -> Recommender:
    """A Recommender over a restored model and its log.

    Args:
      restored: The model.
      data: Its log.
      model_id: Names the weights.
      counted: What users did in this part and those before it counts for the terms of memory. By
        default all does, for recommendations go on where the log ends.
    """
    items = _whole_table(restored, data)
    known = LoggedUsers(data.histories)
    flags = data.manifest["flags"]
    minutes = flags.get("gap_minutes")
    gap_seconds = known.pause if minutes is None else 60 * minutes
    stream = Stream(restored.model, {**restored.params, "items": items}, gap_seconds)
    memory = None
    if restored.config.memory:
        memory = remember(data.histories, data.vocabulary.size, counted).memory
    names = Names(*(flags.get(f"{role}_column", name) for role, name in Names()._asdict().items()))
    keys = item_keys(items, restored.config)
    scorer = ModelScorer(stream, keys)
    return Recommender(scorer, data.vocabulary, known, model_id, memory, names)


def _whole_table(restored: Restored, data: Data) -> ItemTable:
    """The rows of all items, also where they are given."""
    items = restored.params["items"]
    if data.embeddings is None:
        return items
    rows = data.embeddings.rows(np.arange(FIRST_ITEM_ID, data.vocabulary.size))
    return items._replace(
        input_vd=jnp.concatenate([items.input_vd, jnp.asarray(rows, jnp.float32)])
    )
