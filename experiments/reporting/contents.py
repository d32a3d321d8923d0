"""What the report says, section by section."""

from collections.abc import Sequence

import numpy as np

from data_pipelines.histories.record import History
from experiments.reporting.data_section import data_section
from experiments.reporting.frame import legend
from experiments.reporting.item_map import ItemMap, background, map_items
from experiments.reporting.item_names import ItemNames
from experiments.reporting.loaded import Loaded
from experiments.reporting.markup import Markup, tag
from experiments.reporting.model_section import model_section
from experiments.reporting.page import Section
from experiments.reporting.results_section import (
    differences_table,
    learning_charts,
    replay_charts,
    results_table,
    slice_charts,
    tiles,
)
from experiments.reporting.run_files import Files
from experiments.reporting.users_section import PARTS, ModelShown, detailed, user_section
from experiments.reporting.walking import moments_of, shown_before
from experiments.reporting.why_section import why_section
from experiments.runs.data import Data

_MOST_TILES = 4

_READ_USERS = (
    "What the model would have shown before each event, knowing what everybody had done until "
    "then, and what the user picked next. Unless they were named, users are chosen by a hash of "
    "their ids. A cell of the overview is an event: its number is the rank of what came next among "
    "all items."
)
_READ_BARS = (
    " A bar says what lifts an item above the other good ones (to the right) and what holds it "
    "back (to the left)."
)


def sections_of(
    files: Sequence[Files], loaded: Sequence[Loaded], data: Data, users: Sequence[History]
) -> list[Section]:
    """All sections; some may be empty.

    Args:
      files: What the directories hold.
      loaded: The models of those that are runs, in their order.
      data: Their log.
      users: Whom to show.
    """
    runs = [one for one in files if one.log is None]
    return [
        Section("result", "Result", _results(files, data)),
        Section("users", "Users", _users(loaded, data, users) if loaded else []),
        Section("why", "Why these items", _why(loaded)),
        Section("slices", "Where it does well, and where not", _slices(files)),
        Section("time", "Through time", _grid([c for one in runs for c in replay_charts(one)])),
        Section("learning", "Learning", _grid(learning_charts(runs, loaded))),
        Section("data", "The log", data_section(data)),
        Section("models", "The models", [model_section(run) for run in loaded]),
    ]


def _grid(charts: Sequence[Markup]) -> list[Markup]:
    return [tag("div", *charts, class_="charts")] if charts else []


def _results(files: Sequence[Files], data: Data) -> list[Markup]:
    results = [result for one in files for result in one.results]
    if not results:
        return []
    whole = [tag("div", tiles(results, data.manifest["counts"]["items"]), class_="tiles")]
    if len(results) > _MOST_TILES:
        whole = []
    leads = [lead for one in files if (lead := differences_table(one))]
    return [*whole, results_table(results), *leads]


def _slices(files: Sequence[Files]) -> list[Markup]:
    slices = {name: values for one in files for name, values in one.slices.items()}
    if not slices:
        advice = "hiertcn evaluate --workdir=W --slices adds charts by position, gap, popularity."
        return [tag("p", advice, class_="note")]
    return _grid(slice_charts(slices))


def _users(loaded: Sequence[Loaded], data: Data, users: Sequence[History]) -> list[Markup]:
    moments = moments_of(users)
    some = detailed(moments)
    place = {(one.user, one.event): at for at, one in enumerate(some)}
    models = [
        ModelShown(run.name, shown_before(run.scorer, run.memory, users, some), place)
        for run in loaded
    ]
    names, items = ItemNames(data), map_items(np.asarray(loaded[0].scorer.item_vectors()))
    sections = [
        user_section(user, one, [m for m in moments if m.user == user], models, names, items)
        for user, one in enumerate(users)
    ]
    has_bars = any(run.memory for run in loaded)
    return [
        tag("p", _READ_USERS, _READ_BARS if has_bars else None),
        *([] if items is None else [tag("p", _map_note(items, loaded[0]), class_="note")]),
        *([legend(list(PARTS.values()))] if has_bars else []),
        *([] if items is None else [background(items)]),
        *sections,
    ]


def _map_note(items: ItemMap, run: Loaded) -> str:
    return (
        f"The map places the {items.drawn:,} most frequent items by the direction of their "
        f"embeddings in {run.name}: two principal components, which hold {items.share:.0%} of "
        "their spread. Numbers are the means of sessions."
    )


def _why(loaded: Sequence[Loaded]) -> list[Markup]:
    found = []
    for run in loaded:
        if charts := why_section(run):
            found += [tag("h3", run.name), *charts] if len(loaded) > 1 else charts
    return found
