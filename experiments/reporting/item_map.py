"""A map of the items: their vectors in two dimensions, and a user's path through them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.reporting.markup import Markup, tag
from experiments.reporting.walking import Moment, by_session
from hiertcn_jax.batch import FIRST_ITEM_ID

_ITEMS = 2000
"""The most frequent items, which are drawn."""

_SIDE, _MARGIN = 400.0, 16.0


class ItemMap(NamedTuple):
    """Where items are.

    Attributes:
      place_v2: float32 [v, 2]. Of each row of the item table, in the drawing.
      share: Of the spread of the drawn items that two dimensions hold.
      drawn: How many of the first items are drawn.
    """

    place_v2: np.ndarray
    share: float
    drawn: int


def map_items(vectors_vd: np.ndarray) -> ItemMap | None:
    """Places the directions of items by their two principal components.

    Args:
      vectors_vd: float32. With what items are scored, most frequent items first.

    Returns:
      None where vectors have fewer than two values, or there are fewer than three items.
    """
    rows, width = vectors_vd.shape
    drawn = min(rows - FIRST_ITEM_ID, _ITEMS)
    if width < 2 or drawn < 3:
        return None
    unit_vd = vectors_vd / np.maximum(np.linalg.norm(vectors_vd, axis=1, keepdims=True), 1e-12)
    some = unit_vd[FIRST_ITEM_ID : FIRST_ITEM_ID + drawn]
    middle = some.mean(0)
    _, spread, axes = np.linalg.svd(some - middle, full_matrices=False)
    if not spread[1]:
        return None
    # The sign of an axis is arbitrary; with its largest value positive the map is always the same.
    axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])[:, None]
    place_v2 = (unit_vd - middle) @ axes.T
    low, high = place_v2[FIRST_ITEM_ID:].min(0), place_v2[FIRST_ITEM_ID:].max(0)
    scale = (_SIDE - 2 * _MARGIN) / np.maximum(high - low, 1e-12)
    share = float((spread[:2] ** 2).sum() / (spread**2).sum())
    return ItemMap(_MARGIN + (place_v2 - low) * scale, share, drawn)


def background(items: ItemMap) -> Markup:
    """The drawn items, to be used by each map."""
    places = items.place_v2[FIRST_ITEM_ID : FIRST_ITEM_ID + items.drawn]
    dots = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in places)
    path = tag("path", d=dots, id="all-items", class_="items")
    return tag("svg", tag("defs", path), class_="hidden", width=0, height=0, aria_hidden="true")


def path_of(items: ItemMap, moments: Sequence[Moment]) -> Markup:
    """A user's items, and the path of the sessions' means.

    Args:
      items: The map.
      moments: All events of one user; those of unknown items have no place.
    """
    known = [one for one in moments if one.row >= FIRST_ITEM_ID]
    sessions = list(by_session(known))
    middles, drawn = [], [tag("use", href="#all-items")]
    for number, (session, events) in enumerate(sessions):
        rows = [known[at].row for at in events]
        age = f"{0.35 + 0.65 * (number + 1) / len(sessions):.2f}"
        drawn += [
            tag("circle", cx=x, cy=y, r=3.5, class_="picked", opacity=age)
            for x, y in items.place_v2[rows].tolist()
        ]
        middles.append((session + 1, age, items.place_v2[rows].mean(0).tolist()))
    points = " ".join(f"{x:.0f},{y:.0f}" for _, _, (x, y) in middles)
    drawn.append(tag("polyline", points=points, class_="line path"))
    for session, age, (x, y) in middles:
        drawn.append(
            tag(
                "g",
                tag("title", f"session {session}"),
                tag("circle", cx=x, cy=y, r=8.0, class_="stop", fill_opacity=age),
                tag("text", session, x=x, y=y + 3.5, class_="middle stop"),
            )
        )
    said = f"The user's path over {len(sessions)} sessions among {items.drawn:,} items"
    side = f"{_SIDE:.0f}"
    picture = tag("svg", *drawn, viewBox=f"0 0 {side} {side}", role="img", aria_label=said)
    return tag(
        "figure",
        tag("figcaption", tag("b", "Path through the items")),
        picture,
        class_="chart map",
    )
