"""Makes the Recommender of a run."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from data_pipelines.histories.record import Split
from data_pipelines.lanes.memory_lists import remember
from experiments.flags.data_flags import DataLocation
from experiments.runs.data import Data
from experiments.runs.restore import Restored, open_run_data, restore_run
from experiments.service.known_users import LoggedUsers
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.memory.memory import Memory
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


class Parts(NamedTuple):
    """What a Recommender is made of.

    Attributes:
      items: The rows of all items, also where they are given.
      known: The users of the log.
      gap_seconds: A pause longer than this ends a session.
      memory: What everybody did so far, for a model with terms of it.
      names: Columns of the log.
    """

    items: ItemTable
    known: LoggedUsers
    gap_seconds: float
    memory: Memory | None
    names: Names


def parts_of(restored: Restored, data: Data, counted: Split = Split.TEST) -> Parts:
    """What a Recommender over a restored model and its log is made of; see `recommender_of`."""
    known = LoggedUsers(data.histories)
    flags = data.manifest["flags"]
    minutes = flags.get("gap_minutes")
    memory = None
    if restored.config.memory:
        memory = remember(data.histories, data.vocabulary.size, counted).memory
    names = (flags.get(f"{role}_column", name) for role, name in Names()._asdict().items())
    return Parts(
        _whole_table(restored, data),
        known,
        known.pause if minutes is None else 60 * minutes,
        memory,
        Names(*names),
    )


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
    parts = parts_of(restored, data, counted)
    params = {**restored.params, "items": parts.items}
    scorer = ModelScorer(
        Stream(restored.model, params, parts.gap_seconds), item_keys(parts.items, restored.config)
    )
    return Recommender(scorer, data.vocabulary, parts.known, model_id, parts.memory, parts.names)


def _whole_table(restored: Restored, data: Data) -> ItemTable:
    """The rows of all items, also where they are given."""
    items = restored.params["items"]
    if data.embeddings is None:
        return items
    rows = data.embeddings.rows(np.arange(FIRST_ITEM_ID, data.vocabulary.size))
    return items._replace(
        input_vd=jnp.concatenate([items.input_vd, jnp.asarray(rows, jnp.float32)])
    )
