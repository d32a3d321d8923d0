"""The section of reasons: what recommendations are made of, and which half-lives count when."""

from collections.abc import Callable, Mapping

import numpy as np

from data_pipelines.histories.record import Split
from experiments.reporting.charts import dots
from experiments.reporting.chosen_users import choose
from experiments.reporting.data_section import duration
from experiments.reporting.frame import Axis, short
from experiments.reporting.loaded import Loaded
from experiments.reporting.markup import Markup, tag
from experiments.reporting.users_section import PARTS
from experiments.reporting.walking import Moment, Shown, moments_of, shown_before
from hiertcn_jax.memory.config import WORLD_HALF_LIVES

_USERS, _EACH, _TOP = 64, 6, 5
"""Users, test events of each, and recommendations for each event."""

_WHEN: Mapping[str, Callable[[Moment], bool]] = {
    "1st, < 6 h": lambda one: not one.position and one.session > 0 and one.gap_hours < 6,
    "1st, < 2 d": lambda one: not one.position and 6 <= one.gap_hours < 48,
    "1st, 2 d +": lambda one: not one.position and one.gap_hours >= 48,
    "2nd": lambda one: one.position == 1,
    "3rd +": lambda one: one.position > 1,
}
"""When an event happens: at which position of its session, and after which gap."""


def why_section(run: Loaded) -> list[Markup]:
    """Charts over test events of many users; empty for a model whose scores have one part.

    Args:
      run: The model.
    """
    histories = choose(run.data.histories, _USERS)
    moments, counts = [], dict.fromkeys(range(len(histories)), 0)
    for one in moments_of(histories):
        is_test = histories[one.user].session_splits[one.session] == Split.TEST
        if is_test and one.session and counts[one.user] < _EACH:
            counts[one.user] += 1
            moments.append(one)
    if not moments or not run.restored.config.memory:
        return []
    shown = shown_before(run.scorer, run.memory, histories, moments)
    when = {name: np.array([test(one) for one in moments]) for name, test in _WHEN.items()}
    when = {name: chosen_n for name, chosen_n in when.items() if chosen_n.any()}
    events = f"{len(moments):,} test events of {len({one.user for one in moments}):,} users"
    charts = [_parts(shown, when)]
    if shown.half_life_hours_nk is not None:
        charts.append(_half_lives(shown.half_life_hours_nk, when))
    note = (
        f"{events}, the {_TOP} best items of each. A part counts less its mean over the 100 best "
        "items of the event: what is the same for all of them does not change their order."
    )
    return [tag("p", note, class_="note"), tag("div", *charts, class_="charts")]


def _parts(shown: Shown, when: Mapping[str, np.ndarray]) -> Markup:
    means = {
        PARTS[name]: [float(part[chosen_n, :_TOP].mean()) for chosen_n in when.values()]
        for name, part in shown.relative.items()
    }
    return dots(
        "What lifts the best items above the others",
        list(when),
        means,
        "position in the session, and gap before it",
        Axis("points of the score", short),
    )


def _half_lives(hours_nk: np.ndarray, when: Mapping[str, np.ndarray]) -> Markup:
    """For each group of events: how often each half-life counts most, in percent."""
    hours_h = np.asarray(WORLD_HALF_LIVES, np.float32) / 3600
    shares: dict[str, list[float | None]] = {}
    for name, chosen_n in when.items():
        found = hours_nk[chosen_n, :_TOP]
        known = found[~np.isnan(found)]
        shares[name] = [
            100 * float(np.isclose(known, hours).mean()) if len(known) else None
            for hours in hours_h
        ]
    return dots(
        "Half-life of everybody's picks that counts most",
        [_briefly(float(hours)) for hours in hours_h],
        shares,
        "half-life",
        Axis("% of the best items", short),
    )


def _briefly(hours: float) -> str:
    number, unit = duration(hours).split()
    return f"{number} {'min' if unit == 'minutes' else unit[0]}"
