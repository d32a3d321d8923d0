"""The section of users: their sessions in time, what models would have shown, what came next."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.histories.record import History, Split
from experiments.reporting.data_section import day, duration, moment
from experiments.reporting.frame import color
from experiments.reporting.item_map import ItemMap, path_of
from experiments.reporting.item_names import ItemNames
from experiments.reporting.markup import Markup, folded, joined, tag
from experiments.reporting.walking import AMONG, Moment, Shown, by_session
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID

PARTS = {
    "hierarchy": "the network",
    "world": "picked by many now",
    "followers": "follows",
    "own": "own picks",
    "memory_units": "all counts together",
}
"""The parts of a score in words, in the order of their colours."""

_SHOWN = 5
"""Recommendations that are shown for each event."""
_DETAILED, _EVENTS = 5, 8
"""Sessions of a user, and events of a session, that are shown with recommendations."""
_STRIP = 14
"""Events of a session in the overview."""

_BAR, _BAR_HEIGHT = 120.0, 8.0
_STEPS = (1, 5, 20, AMONG)
_CLASSES = ("rank1", "rank5", "rank20", "rank100")


class ModelShown(NamedTuple):
    """What one model would have shown before some events, by the event's place in the list."""

    name: str
    shown: Shown
    place: dict[tuple[int, int], int]


def detailed(moments: Sequence[Moment]) -> list[Moment]:
    """The events of users that are shown with recommendations, or with a rank."""
    last: dict[int, int] = {}
    for one in moments:
        last[one.user] = one.session
    return [
        one
        for one in moments
        if one.session > last[one.user] - 2 * _DETAILED and one.position < _STRIP
    ]


def user_section(
    user: int,
    history: History,
    moments: Sequence[Moment],
    models: Sequence[ModelShown],
    names: ItemNames,
    items: ItemMap | None,
) -> Markup:
    """One user.

    Args:
      user: Which of the users.
      history: The user's events.
      moments: The same, one by one.
      models: What each model would have shown before those that are detailed.
      names: Of the items.
      items: The map; None: there is none.
    """
    sessions = list(by_session(moments))
    span = f"{day(moments[0].time)} to {day(moments[-1].time)}"
    summary = joined(
        [
            tag("b", f"User {history.user_id}"),
            f" {len(sessions)} sessions, {len(moments)} events, {span}",
        ]
    )
    overview = tag(
        "div",
        tag("div", *(_strip(model, sessions, moments) for model in models)),
        None if items is None else path_of(items, moments),
        class_="overview",
    )
    last = [
        _session(number, history, [moments[at] for at in events], models, names, len(sessions))
        for number, events in sessions[-_DETAILED:]
    ]
    return folded(summary, overview, *last, is_open=user == 0, class_="user")


def _strip(
    model: ModelShown, sessions: Sequence[tuple[int, list[int]]], moments: Sequence[Moment]
) -> Markup:
    """A row for each session, a cell for each event with the rank of what came next."""
    rows = []
    for _, events in sessions[-2 * _DETAILED :]:
        some = [moments[at] for at in events]
        cells = [
            tag("td", text, class_=css, title=said)
            for one in some[:_STRIP]
            for text, css, said in [_rank_cell(model, one)]
        ]
        if len(some) > _STRIP:
            cells.append(tag("td", f"+{len(some) - _STRIP}", class_="more"))
        rows.append(tag("tr", tag("th", day(some[0].time), scope="row"), *cells))
    caption = f"Rank that {model.name} gave to what came next, session by session"
    whole = tag("table", tag("caption", caption), tag("tbody", *rows), class_="strip")
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _rank_cell(model: ModelShown, one: Moment) -> tuple[str, str, str]:
    """Text, class and explanation of the rank of an event's item."""
    if one.row < FIRST_ITEM_ID:
        return "?", "unknown", "cannot be ranked"
    rank = int(model.shown.rank_n[model.place[one.user, one.event]])
    if not rank:
        return "-", "beyond", f"beyond the first {AMONG}"
    css = next(css for step, css in zip(_STEPS, _CLASSES, strict=True) if rank <= step)
    return str(rank), css, f"rank {rank}"


def _session(
    number: int,
    history: History,
    moments: Sequence[Moment],
    models: Sequence[ModelShown],
    names: ItemNames,
    sessions: int,
) -> Markup:
    part = Split(int(history.session_splits[number])).name.lower()
    first = moments[0]
    since = "" if not number else f", {duration(first.gap_hours)} after the one before"
    summary = joined(
        [
            tag("b", f"Session {number + 1} of {sessions}"),
            f" {moment(first.time)} UTC{since} ",
            tag("span", part, class_=f"part {part}"),
        ]
    )
    events = [_event(one, models, names) for one in moments[:_EVENTS]]
    more = len(moments) - len(events)
    rest = tag("p", f"and {more} more events", class_="note") if more else None
    is_open = number >= sessions - 2
    return folded(summary, tag("ol", *events, class_="events"), rest, is_open=is_open)


def _event(one: Moment, models: Sequence[ModelShown], names: ItemNames) -> Markup:
    ranks = []
    for model in models:
        text, css, said = _rank_cell(model, one)
        label = f"{model.name}: {said}" if len(models) > 1 else said
        ranks.append(tag("span", label, class_=f"rank {css}", data_rank=text))
    picked = tag(
        "div",
        tag("span", "picked" if one.position else "first pick", class_="note"),
        tag("b", names(one.row)),
        *ranks,
        class_="picked",
    )
    return tag("li", picked, *(_recommended(one, model, names, len(models)) for model in models))


def _recommended(one: Moment, model: ModelShown, names: ItemNames, models: int) -> Markup:
    at = model.place[one.user, one.event]
    entries, relative = [], model.shown.relative
    of_event = np.stack([part[at, :_SHOWN] for part in relative.values()])
    longest = max(of_event.clip(min=0).sum(0).max(), -of_event.clip(max=0).sum(0).min(), 1e-6)
    for place in range(min(_SHOWN, model.shown.rows_nk.shape[1])):
        row = int(model.shown.rows_nk[at, place])
        if row == PADDING_ID:
            break
        hit = row == one.row
        entries.append(
            tag(
                "li",
                tag(
                    "div",
                    tag("span", names(row), class_="name", title=names(row)),
                    *_why(model.shown, at, place, names, longest),
                    tag("span", "✓ came next", class_="came") if hit else None,
                ),
                class_="hit" if hit else None,
            )
        )
    heading = tag("span", f"{model.name} would have shown", class_="note") if models > 1 else None
    css = "shown beside" if models > 1 else "shown"
    return tag("div", heading, tag("ol", *entries), class_=css)


def _why(shown: Shown, at: int, place: int, names: ItemNames, longest: float) -> list[Markup]:
    """The parts of a score as a bar, and the largest in words; nothing if there is only one."""
    if len(shown.parts) < 2:
        return []
    values = {name: float(part[at, place]) for name, part in shown.relative.items()}
    most = max(values, key=values.__getitem__)
    words = PARTS[most]
    if most == "world" and shown.half_life_hours_nk is not None:
        hours = float(shown.half_life_hours_nk[at, place])
        words += "" if np.isnan(hours) else f" (half-life {duration(hours)})"
    if most == "followers" and shown.followed_nk is not None:
        row = int(shown.followed_nk[at, place])
        words = f"{words} {names(row)}" if row >= FIRST_ITEM_ID else "follows the last picks"
    listed = ", ".join(f"{PARTS[name]} {value:+.1f}" for name, value in values.items())
    return [_bar(values, longest, listed), tag("span", words, class_="why", title=words)]


def _bar(values: dict[str, float], longest: float, said: str) -> Markup:
    """Parts above the mean to the right of the middle, those below it to the left.

    Args:
      values: The parts.
      longest: The sum of parts that half a bar stands for.
      said: The parts in words.
    """
    scale = _BAR / 2 / longest
    ends, drawn = {True: _BAR / 2, False: _BAR / 2}, []
    for name, value in values.items():
        width, up = abs(value) * scale, value > 0
        start = ends[up] if up else ends[up] - width
        ends[up] += width if up else -width
        if width >= 0.5:
            css = color(list(PARTS).index(name))
            drawn.append(tag("rect", x=start, y=0, width=width, height=_BAR_HEIGHT, class_=css))
    middle = tag("line", x1=_BAR / 2, x2=_BAR / 2, y1=-2, y2=_BAR_HEIGHT + 2, class_="zero")
    view = f"0 -2 {_BAR:.0f} {_BAR_HEIGHT + 4:.0f}"
    return tag(
        "svg",
        tag("title", said),
        *drawn,
        middle,
        viewBox=view,
        role="img",
        aria_label=said,
        class_="bar",
    )
