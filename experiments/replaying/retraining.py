"""A model that is trained on in every period, on what happened until then."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipelines.histories.events import blocks_of
from data_pipelines.histories.fitted_items import FittedItems
from data_pipelines.sessions.vocabulary import Vocabulary
from experiments.replaying.walk import seen_from
from experiments.runs.continuing import config_of, continue_since
from experiments.runs.data import Data
from experiments.runs.files import make_workdir, write_text
from experiments.runs.locking import lock_workdir
from experiments.runs.resolve import resolve
from experiments.runs.restore import Restored, restore_run
from experiments.runs.train_loop import train
from hiertcn_jax.batch import FIRST_ITEM_ID

_UNTIL = "until.txt"
"""In a model's folder, once it is trained: until when, seconds."""


class Trained(NamedTuple):
    """A model as of a moment.

    Attributes:
      restored: The model.
      workdir: Its directory.
      until: Seconds. It was fitted on events before this time.
    """

    restored: Restored
    workdir: Path
    until: int


def trained_at(
    first: Trained, data: Data, starts: Sequence[int], share: float, directory: Path
) -> Trained:
    """The model that is trained on at each of some times, as it is at the last of them.

    The models of the last two times stay in `directory`, so that a stopped replay resumes.

    Args:
      first: The model to start from.
      data: The log, with the live catalogue.
      starts: Seconds, increasing. It learns what happened before each.
      share: Share of older events among those to learn.
      directory: For the models in between.
    """
    folders = [directory / f"{number:05d}" for number in range(len(starts))]
    kept = [number for number, folder in enumerate(folders[:-1]) if (folder / _UNTIL).exists()]
    model = _read(folders[kept[-1]]) if kept else first
    for number in range(kept[-1] + 1 if kept else 0, len(starts)):
        restored = _train_on(model, data, starts[number], share, folders[number])
        if restored is not None:
            write_text(folders[number] / _UNTIL, f"{starts[number]}\n")
            model = Trained(restored, folders[number], starts[number])
            for earlier in folders[: max(number - 1, 0)]:
                shutil.rmtree(earlier, ignore_errors=True)
    return model


def _read(workdir: Path) -> Trained:
    return Trained(restore_run(workdir, "last"), workdir, int((workdir / "until.txt").read_text()))


def _train_on(
    model: Trained, data: Data, until: int, share: float, workdir: Path
) -> Restored | None:
    """The model trained on what happened since, or None if nothing did."""
    view = fitted_until(data, until)
    config = config_of(model.restored)
    # All that a view holds is fitted, so there is nothing to validate on.
    settings = {"fit_on": "train_valid", "checkpoint_every_steps": 0}
    config = config.override(settings)
    continued = continue_since(
        model.restored, model.workdir, view, config.train, share, model.until
    )
    if continued is None:
        return None
    make_workdir(workdir)
    with lock_workdir(workdir):
        train(resolve(config, view, continued), workdir)
    return restore_run(workdir, "last")


def fitted_until(data: Data, until: int) -> Data:
    """The log as it was known at a time, to train on: items and events before it.

    Args:
      data: The log, with the live catalogue.
      until: Seconds.
    """
    seen = seen_from(data, until, until)
    known = items_known(data.vocabulary, until)
    rows = FIRST_ITEM_ID + known
    counts_v = np.zeros(data.vocabulary.size, np.int64)
    for _, block in blocks_of(seen.histories):
        for history in block:
            np.add.at(counts_v, history.item_ids[history.times < until], 1)
    everything = data.vocabulary
    assert everything.known_from is not None
    vocabulary = Vocabulary(
        everything.item_ids[:known],
        counts_v[FIRST_ITEM_ID:rows],
        np.zeros(known, np.int64),
        everything.id_type,
        known_from=everything.known_from[:known],
    )
    text = f"{data.content_hash} until {until}"
    content_hash = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return seen._replace(
        histories=FittedItems(seen.histories, vocabulary),
        vocabulary=vocabulary,
        manifest={**seen.manifest, "content_hash": content_hash},
        catalogue="fitted",
    )


def items_known(vocabulary: Vocabulary, until: int) -> int:
    """How many of the items, in order, the fitted ones and those that follow, are known by then."""
    assert vocabulary.known_from is not None
    fitted = vocabulary.fitted_size - FIRST_ITEM_ID
    later = np.maximum.accumulate(vocabulary.known_from[fitted:])
    return fitted + int(np.searchsorted(later, until))
