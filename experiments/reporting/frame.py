"""What all charts have: a frame with a grid, the names of the axes, and a text alternative."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from experiments.reporting.markup import Markup, folded, joined, tag

COLORS = 6
"""Classes of colours of the page's style, c0 to c5."""

WIDTH, HEIGHT = 420.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 412.0, 14.0, 194.0
"""Of the inside of a chart."""

_LETTER = 6.2
"""Width of a letter of a tick, about."""


class Axis(NamedTuple):
    """What an axis shows, and how its numbers are written."""

    title: str
    text: Callable[[float], str]


class Tick(NamedTuple):
    """A place on an axis, and its text."""

    at: float
    text: str


def whole(value: float) -> str:
    """A count in a few characters: 12,000 is 12k."""
    if value >= 1_000_000:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.3g}k" if value >= 10_000 else f"{value:,.0f}"


def short(value: float) -> str:
    """A number with three digits."""
    return f"{value:.3g}"


_RESOLUTION = 1e-9
"""Values that differ by less, relative to the larger of them and 1, are one value."""


def color(number: int) -> str:
    """The class of the colour of a series."""
    return f"c{number % COLORS}"


def ticks_of(low: float, high: float) -> list[float]:
    """About four round numbers that span at least from low to high.

    >>> ticks_of(0, 0.34)
    [0.0, 0.1, 0.2, 0.3, 0.4]
    """
    span, largest = high - low, max(abs(low), abs(high))
    if span <= _RESOLUTION * max(largest, 1):
        span = largest if largest > _RESOLUTION else 1.0
    power = 10.0 ** math.floor(math.log10(span / 3))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


def height_of(value: float, low: float, high: float) -> float:
    """Where a value is, from the top."""
    return BOTTOM - (value - low) / ((high - low) or 1) * (BOTTOM - TOP)


def bin_at(number: int, bins: int) -> float:
    """Where the middle of a bin is, from the left."""
    return LEFT + (number + 0.5) * (RIGHT - LEFT) / bins


def under_bins(labels: Sequence[str]) -> list[Tick]:
    """The bins' names, as many as have room."""
    widest = _LETTER * max(map(len, labels)) + 8
    every = math.ceil(len(labels) * widest / (RIGHT - LEFT))
    return [Tick(bin_at(at, len(labels)), labels[at]) for at in range(0, len(labels), every)]


def figure(
    title: str,
    said: str,
    drawn: Iterable[Markup],
    y_ticks: Sequence[Tick],
    x_ticks: Sequence[Tick],
    axes: tuple[str, str],
    names: Sequence[str],
    figures: Markup,
) -> Markup:
    """A chart with its frame.

    Args:
      title: Above it.
      said: What it shows, for those who do not see it.
      drawn: Lines and columns.
      y_ticks: On the left.
      x_ticks: Below.
      axes: What they show, below and on the left.
      names: Of the series, by colour; one alone needs no legend.
      figures: All numbers as a table.
    """
    grid = [
        joined(
            [
                tag("line", x1=LEFT, x2=RIGHT, y1=tick.at, y2=tick.at, class_="grid"),
                tag("text", tick.text, x=LEFT - 6, y=tick.at + 4, class_="end"),
            ]
        )
        for tick in y_ticks
    ]
    below = [tag("text", tick.text, x=tick.at, y=BOTTOM + 16, class_="middle") for tick in x_ticks]
    middle = (LEFT + RIGHT) / 2
    below.append(tag("text", axes[0], x=middle, y=BOTTOM + 36, class_="middle axis"))
    picture = tag(
        "svg",
        *grid,
        *below,
        *drawn,
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        role="img",
        aria_label=f"{title}. {said}",
    )
    return tag(
        "figure",
        tag("figcaption", tag("b", title), tag("span", axes[1], class_="unit")),
        legend(names) if len(names) > 1 else None,
        picture,
        folded("figures", figures),
        class_="chart",
    )


def legend(names: Sequence[str]) -> Markup:
    """The colours of series."""
    return tag(
        "ul",
        *(
            tag("li", tag("span", class_=f"key {color(number)}"), name)
            for number, name in enumerate(names)
        ),
        class_="legend",
    )
