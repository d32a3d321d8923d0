"""Charts show their numbers: heights in proportion, text for those who do not see."""

import itertools
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from experiments.reporting.charts import columns, curves, dots
from experiments.reporting.frame import BOTTOM, LEFT, RIGHT, TOP, Axis, short, ticks_of, whole

NUMBERS = st.floats(-1e6, 1e6)


@example(0.0, 5e-324)
@example(0.0, 1e-12)
@example(1e6, 1e6 - 1e-10)
@given(NUMBERS, NUMBERS)
def test_ticks_are_few_round_numbers_around_the_values(one, other):
    low, high = sorted((one, other))
    ticks = ticks_of(low, high)
    steps = [after - before for before, after in itertools.pairwise(ticks)]
    slack = 1e-6 * max(abs(low), abs(high), 1)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert len(ticks) <= 8
    assert max(steps, default=0) - min(steps, default=0) <= slack


def test_columns_are_stacked_in_proportion():
    series = {"train": [1, 0, 2], "test": [3, None, 2]}
    chart = ET.fromstring(columns("Events", ["a", "b", "c"], series, "bin", Axis("events", whole)))
    heights = [float(one.get("height")) for one in chart.iter("rect")]
    unit = (BOTTOM - TOP) / ticks_of(0, 4)[-1]
    assert heights == pytest.approx([unit, 3 * unit, 2 * unit, 2 * unit], abs=0.2)
    assert next(one.text for one in chart.iter("title")) == "a, train: 1"
    cells = [one.text for one in chart.iter("td")]
    assert cells == ["1", "3", "0", "-", "2", "2"]


@pytest.mark.parametrize("kind", [curves, dots])
def test_lines_stay_inside_and_are_told(kind):
    if kind is curves:
        points = {"a": [(0, 0.5), (10, 0.25)], "b": [(5, 0.75)]}
        text = curves("mrr", points, Axis("step", whole), Axis("mrr", short), {"a": 10})
    else:
        values = {"a": [0.5, None, -0.25], "b": [None, 0.75, None]}
        text = dots("mrr", ["x", "y", "z"], values, "bin", Axis("mrr", short))
    chart = ET.fromstring(text)
    for line in chart.iter("polyline"):
        for place in line.get("points").split():
            x, y = map(float, place.split(","))
            assert LEFT <= x <= RIGHT
            assert TOP <= y <= BOTTOM
    (picture,) = chart.iter("svg")
    assert picture.get("role") == "img"
    assert "0.5" in picture.get("aria-label")
    assert {"a", "b"} <= {"".join(one.itertext()) for one in chart.iter("li")}
