"""The section of results: tables, differences, slices, the course of time, learning curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting.charts import Points, curves, dots
from experiments.reporting.frame import Axis, short, whole
from experiments.reporting.loaded import Loaded
from experiments.reporting.markup import Markup, joined, table, tag
from experiments.reporting.run_files import COLUMNS, Files, Result
from experiments.runs.learning_curve import points_of
from hiertcn_jax.scoring.metric_sums import GROUPS

_MRR = Axis("mrr", short)
_MOST_POINTS = 200


def tiles(results: Sequence[Result], items: int) -> Markup:
    """The main figures of each model, large."""
    return joined(
        tag(
            "div",
            tag("h3", result.name),
            tag(
                "dl",
                *(
                    tag("div", tag("dt", metric), tag("dd", str(result.figures["all"][metric])))
                    for metric in ("mrr", "recall@20")
                ),
            ),
            tag("p", _scored(result, items), class_="note"),
            class_="tile",
        )
        for result in results
    )


def _scored(result: Result, items: int) -> str:
    events = result.events["all"]
    number = "the" if events is None else f"{events:,}"
    return f"{number} events of {result.split}, each ranked against {items:,} items"


def results_table(results: Sequence[Result]) -> Markup:
    """All metrics of all models."""
    rows = [
        [
            result.name,
            group,
            "-" if result.events[group] is None else f"{result.events[group]:,}",
            *(str(result.figures[group][metric]) for metric in COLUMNS),
        ]
        for result in results
        for group in GROUPS
    ]
    heading = ["model", "of", "events", *COLUMNS]
    splits = " and ".join(dict.fromkeys(result.split for result in results))
    whole_table = table(f"Scores on {splits}", heading, rows, words=2)
    notes = ["first: a session's first event; next: every later one."]
    if len({result.events_hash for result in results}) > 1:
        notes.append("The models scored different events: their figures cannot be compared.")
    if any("±" in str(f) for r in results for group in r.figures.values() for f in group.values()):
        notes.append("±: standard deviation over seeds.")
    levels = {result.name: result.counts for result in results if result.counts}
    if levels:
        listed = ", ".join(f"{name}: {level}" for name, level in levels.items())
        notes.append(f"Level of the counts: {listed}.")
    return joined([whole_table, tag("p", " ".join(notes), class_="note")])


def differences_table(files: Files) -> Markup | None:
    """By how much the best model of a comparison leads, with intervals."""
    if not files.differences:
        return None
    rows = [
        [
            f"{one['first']} - {one['second']}",
            one["group"],
            one["metric"],
            f"{one['difference']:+.4f}",
            f"{one['low']:+.4f} to {one['high']:+.4f}",
        ]
        for one in files.differences
    ]
    heading = ["models", "of", "metric", "difference", "95 % interval"]
    return table(f"Lead of the best model in {files.name}", heading, rows, words=3)


def slice_charts(slices: Mapping[str, Any]) -> list[Markup]:
    """A chart of mrr for each slice that divides the events.

    Args:
      slices: By model: {slice: {"title", "bins": [{"bin", "events", "mrr"}]}}.
    """
    charts = []
    names = dict.fromkeys(name for of_model in slices.values() for name in of_model)
    for name in names:
        by_model = {model: of[name] for model, of in slices.items() if name in of}
        first = next(iter(by_model.values()))
        kept = [at for at, one in enumerate(first["bins"]) if one["events"]]
        if len(kept) < 2:
            continue
        labels = [first["bins"][at]["bin"] for at in kept]
        values = {model: [of["bins"][at]["mrr"] for at in kept] for model, of in by_model.items()}
        charts.append(dots(f"By {_TITLES.get(name, name)}", labels, values, first["title"], _MRR))
    return charts


_TITLES = {
    "position": "position in the session",
    "gap": "time since the session before",
    "sessions": "earlier sessions",
    "popularity": "popularity of the item",
    "user": "user",
    "time": "time",
    "item_age": "age of the item",
    "user_age": "earlier events of the user",
}


def replay_charts(files: Files) -> list[Markup]:
    """Mrr over time, and by age of the item and of the user, from replay.json."""
    if files.replay is None:
        return []
    return slice_charts({name: row["slices"] for name, row in files.replay["models"].items()})


def learning_charts(files: Sequence[Files], loaded: Sequence[Loaded]) -> list[Markup]:
    """The loss of each run, and its monitored metric on valid with the best step."""
    losses: dict[str, Points] = {}
    values: dict[str, Points] = {}
    best = {}
    monitors = [run.restored.configs["train"]["monitor"] for run in loaded]
    for one, run, monitor in zip(files, loaded, monitors, strict=True):
        losses[one.name] = _thinned(points_of(one.journal, "train", "loss"))
        values[one.name] = points_of(one.journal, "valid", monitor)
        best[one.name] = run.restored.step
    steps, charts = Axis("step", whole), []
    if any(losses.values()):
        charts.append(curves("Training loss", losses, steps, Axis("loss", short), {}))
    if any(values.values()):
        what = " and ".join(dict.fromkeys(monitors))
        title = f"{what} on valid, best step marked"
        charts.append(curves(title, values, steps, Axis(what, short), best))
    return charts


def _thinned(points: Points) -> Points:
    """At most so many points as can be seen, the last one with them."""
    step = -(-len(points) // _MOST_POINTS) or 1
    return [*points[:-1:step], *points[-1:]]
