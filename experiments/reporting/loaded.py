"""A trained run as the report asks it: which items it would have shown, and why."""

from pathlib import Path
from typing import NamedTuple

from experiments.flags.data_flags import DataLocation
from experiments.runs.data import Data
from experiments.runs.restore import Restored, open_run_data, restore_run
from experiments.service.loading import parts_of, scorer_of
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.serving.scorer import ModelScorer


class Loaded(NamedTuple):
    """A trained run.

    Attributes:
      name: In the report.
      restored: Its best checkpoint.
      data: Its log.
      scorer: The model over users' states.
      memory: What everybody did in the whole log, for a model with terms of it.
    """

    name: str
    restored: Restored
    data: Data
    scorer: ModelScorer
    memory: Memory | None


def load_run(workdir: Path, name: str, place: DataLocation) -> Loaded:
    """Loads the best checkpoint of a run.

    Raises:
      CheckpointError: There is none, or it cannot be read.
      DataError: Its log is missing, or cannot be used.
    """
    restored = restore_run(workdir, "best")
    data = open_run_data(restored, place)
    parts = parts_of(restored, data, name)
    return Loaded(name, restored, data, scorer_of(restored, parts), parts.memory)
