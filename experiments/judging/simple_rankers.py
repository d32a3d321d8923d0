"""What stands beside a trained model: rankers that learn no weights, on the same events."""

from typing import Any, NamedTuple

from data_pipelines.histories.record import Split
from experiments.judging.rankers import evaluate_ranker, fitted_histories, ranker_for
from experiments.runs.data import Data

SIMPLE = ("item_knn", "popularity")

_MOST_SCORES = 2_000_000_000
"""Events times items. A ranker scores every item at every event: some 30 M a second on one core."""

_MOST_EVENTS = 20_000_000
"""Fitted events: item-kNN counts the pairs of items in a session."""


class Beside(NamedTuple):
    """What simple rankers scored.

    Attributes:
      metrics: The JSON of their evaluations, by name; empty where they were left out.
      why_not: One line that says why they were left out; None: they were not.
    """

    metrics: dict[str, dict[str, Any]]
    why_not: str | None = None


def score_simple(data: Data, fit_on: str, split: Split, mask_seen: str) -> Beside:
    """Fits and scores item-kNN and popularity, unless the log is so large that it takes minutes.

    Args:
      data: The data.
      fit_on: What they are fitted on, `train` or `train_valid`.
      split: VALID or TEST.
      mask_seen: Which seen items the ranking leaves out, see `EvalConfig`.
    """
    events, items = data.known_events(split), data.vocabulary.size
    fitted = data.fitted_events(fit_on)
    if events * items > _MOST_SCORES or fitted > _MOST_EVENTS:
        return Beside(
            {},
            f"{' and '.join(SIMPLE)} are left out: {fitted:,} events to fit on, or {events:,} to "
            f"score over {items:,} items, take them minutes or hours; "
            f"hiertcn compare --models={','.join(SIMPLE)} scores them",
        )
    metrics = {}
    for name in SIMPLE:
        ranker = ranker_for(name, data, {})
        ranker.fit(fitted_histories(data, fit_on))
        metrics[name] = evaluate_ranker(ranker, data, split, mask_seen, name).metrics
    return Beside(metrics)


def losing_lines(
    name: str, metrics: dict[str, Any], beside: dict[str, dict[str, Any]], monitor: str
) -> list[str]:
    """A line for each simple ranker that is better than the model, and what to do about it.

    Args:
      name: The model's.
      metrics: The JSON of its evaluation.
      beside: The same of the rankers.
      monitor: What is compared, as group/metric; of all of these, more is better.
    """
    group, metric = monitor.split("/")
    own = metrics[group][metric]
    lines = [
        f"{name} loses to {other}: {monitor} {own:.4f} against {values[group][metric]:.4f}"
        for other, values in beside.items()
        if own is not None and values[group][metric] > own
    ]
    return [*lines, "hiertcn sweep searches better settings"] if lines else []
