"""Charts as inline SVG: curves over numbers, columns and dots over bins."""

from collections.abc import Mapping, Sequence

from experiments.reporting.frame import (
    LEFT,
    RIGHT,
    Axis,
    Tick,
    bin_at,
    color,
    figure,
    height_of,
    ticks_of,
    under_bins,
)
from experiments.reporting.markup import Markup, table, tag

Points = Sequence[tuple[float, float]]
Series = Mapping[str, Sequence[float | None]]
"""By name, a value for each bin; None is none."""

_COLUMN = 0.8
"""Share of a bin that its column takes."""


def curves(
    title: str, by_name: Mapping[str, Points], x: Axis, y: Axis, marked: Mapping[str, float]
) -> Markup:
    """Lines through points in order of x; at least one point in all.

    Args:
      title: What is shown.
      by_name: The points of each line.
      x: The axis of their first numbers.
      y: The axis of the second.
      marked: By name, the x of the point to mark.
    """
    points = [point for curve in by_name.values() for point in curve]
    x_low, x_high = min(one for one, _ in points), max(one for one, _ in points)
    y_ticks = ticks_of(min(one for _, one in points), max(one for _, one in points))
    low, high = y_ticks[0], y_ticks[-1]

    def across(value: float) -> float:
        return LEFT + (value - x_low) / ((x_high - x_low) or 1) * (RIGHT - LEFT - 6)

    drawn = []
    for number, (name, curve) in enumerate(by_name.items()):
        places = [(across(one), height_of(other, low, high)) for one, other in curve]
        drawn.append(_line(places, number))
        for (a, b), (one, _) in zip(places, curve, strict=True):
            if len(places) == 1 or one == marked.get(name):
                drawn.append(tag("circle", cx=a, cy=b, r=6, class_=f"dot {color(number)}"))
    said = [f"{name} goes from {_first_last(curve, y)}" for name, curve in by_name.items() if curve]
    rows = [
        [name, x.text(one), y.text(other)]
        for name, curve in by_name.items()
        for one, other in curve
    ]
    # By text: of a few steps several round numbers may read the same.
    inside = {x.text(one): one for one in ticks_of(x_low, x_high) if x_low <= one <= x_high}
    inside = inside or {x.text(x_low): x_low}
    return figure(
        title,
        "; ".join(said),
        drawn,
        [Tick(height_of(one, low, high), y.text(one)) for one in y_ticks],
        [Tick(across(one), text) for text, one in inside.items()],
        (x.title, y.title),
        list(by_name),
        table(title, ["line", x.title, y.title], rows),
    )


def columns(title: str, labels: Sequence[str], series: Series, x: str, y: Axis) -> Markup:
    """Columns over bins; several series are stacked.

    Args:
      title: What is shown.
      labels: The bins.
      series: Values >= 0.
      x: What the bins are.
      y: What the columns show.
    """
    total = [sum(values[at] or 0 for values in series.values()) for at in range(len(labels))]
    y_ticks = ticks_of(0, max(total))
    high, step = y_ticks[-1], (RIGHT - LEFT) / len(labels)
    drawn = []
    for at, label in enumerate(labels):
        base = 0.0
        for number, (name, values) in enumerate(series.items()):
            value = values[at]
            if not value:
                continue
            top, bottom = height_of(base + value, 0, high), height_of(base, 0, high)
            base += value
            column = tag(
                "rect",
                x=bin_at(at, len(labels)) - _COLUMN * step / 2,
                y=top,
                width=_COLUMN * step,
                height=bottom - top,
                class_=color(number),
            )
            drawn.append(tag("g", tag("title", f"{label}, {name}: {y.text(value)}"), column))
    most = max(range(len(labels)), key=total.__getitem__)
    said = f"Most at {labels[most]}: {y.text(total[most])}"
    return _binned(title, said, labels, series, drawn, (x, y), y_ticks)


def dots(title: str, labels: Sequence[str], series: Series, x: str, y: Axis) -> Markup:
    """Dots over bins, joined by lines; arguments as for `columns`, values of any sign."""
    known = [value for values in series.values() for value in values if value is not None]
    y_ticks, drawn, said = ticks_of(min([0, *known]), max(known, default=1)), [], []
    low, high = y_ticks[0], y_ticks[-1]
    for number, (name, values) in enumerate(series.items()):
        there = [(at, value) for at, value in enumerate(values) if value is not None]
        places = [(bin_at(at, len(labels)), height_of(value, low, high)) for at, value in there]
        drawn.append(_line(places, number))
        for (a, b), (at, value) in zip(places, there, strict=True):
            dot = tag("circle", cx=a, cy=b, r=3.5, class_=f"dot {color(number)}")
            drawn.append(tag("g", tag("title", f"{labels[at]}, {name}: {y.text(value)}"), dot))
        if there:
            best = max(there, key=lambda one: one[1])
            said.append(f"{name} is highest at {labels[best[0]]}: {y.text(best[1])}")
    return _binned(title, "; ".join(said), labels, series, drawn, (x, y), y_ticks)


def _binned(
    title: str,
    said: str,
    labels: Sequence[str],
    series: Series,
    drawn: Sequence[Markup],
    axes: tuple[str, Axis],
    y_ticks: Sequence[float],
) -> Markup:
    x, y = axes
    rows = [
        [label, *(_text(values[at], y) for values in series.values())]
        for at, label in enumerate(labels)
    ]
    return figure(
        title,
        said,
        drawn,
        [Tick(height_of(one, y_ticks[0], y_ticks[-1]), y.text(one)) for one in y_ticks],
        under_bins(labels),
        (x, y.title),
        list(series),
        table(title, [x, *series], rows),
    )


def _line(places: Sequence[tuple[float, float]], number: int) -> Markup:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    return tag("polyline", points=points, class_=f"line {color(number)}")


def _text(value: float | None, y: Axis) -> str:
    return "-" if value is None else y.text(value)


def _first_last(curve: Points, y: Axis) -> str:
    return f"{y.text(curve[0][1])} to {y.text(curve[-1][1])}"
