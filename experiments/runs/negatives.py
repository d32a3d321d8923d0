"""Decides which negatives of a run the loader draws, and which the step."""

import dataclasses

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.lanes.distinct_items import ItemRows
from experiments.runs.config import RunConfig
from experiments.runs.data import Data
from hiertcn_jax.learning.loss_config import LossConfig


def require_impressions(run: RunConfig, data: Data) -> None:
    """Checks that the data has the impressions that the loss asks for.

    Raises:
      DataError: It has none, or fewer per event.
    """
    asked, kept = run.loss.impressions, data.manifest.get("impressions", {}).get("cap", 0)
    if asked and not kept:
        raise DataError(
            f"{data.directory}: has no impressions for negatives=impressions:{asked}; prepare it "
            "with --impressions"
        )
    if asked > kept:
        raise DataError(
            f"{data.directory}: keeps {kept} impressions of an event at most (--impression_cap), "
            f"not the {asked} of negatives=impressions:{asked}; ask for fewer, or prepare with a "
            "higher --impression_cap"
        )


def item_rows(run: RunConfig, data: Data) -> ItemRows | None:
    """Settings of the loader in `rows` and `given` mode; None in `dense` mode: the step draws."""
    if run.model.item_mode == "dense":
        return None
    counts_v = data.counts_v(run.train.fit_on)
    sources, own = run.loss.drawn_negatives, run.loss.impressions
    drawn = [pair for pair in sources if pair[0] != "in_batch"]
    rows = ItemRows(len(counts_v), impressions=own)
    if drawn:
        total = sum(count for _, count in drawn)
        # Drawing from the mixture has the same expectation as drawing from each by its share.
        weight_v = np.zeros(len(counts_v))
        for source, count in drawn:
            weight_v += count / total * _source_share(run.loss, source, counts_v)
        rows = ItemRows(len(counts_v), total, not run.loss.own_negatives, weight_v, own)
    if data.embeddings is None:
        return rows
    with np.errstate(divide="ignore"):
        log_q_mv = tuple(
            np.log(_source_share(run.loss, source, counts_v)).astype(np.float32)
            for source, _ in sources
        )
    return dataclasses.replace(rows, given=data.embeddings, log_q_mv=log_q_mv)


def _source_share(loss: LossConfig, source: str, counts_v: np.ndarray) -> np.ndarray:
    """float64 [v]. The probability of each item table row under a source of negatives."""
    alpha = {"uniform": 0.0, "in_batch": 1.0}.get(source, loss.popularity_alpha)
    share_v = (counts_v > 0) * counts_v**alpha
    return share_v / share_v.sum()
