"""Finding the cuts of a log in time without sorting it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.beam.cuts import value_at

STARTS = st.lists(st.integers(0, 40), min_size=1, max_size=30)


@given(STARTS, st.data())
def test_value_at_equals_indexing_the_sorted_values(starts, data):
    place = data.draw(st.integers(0, len(starts) - 1))
    values, counts = np.unique(starts, return_counts=True)
    value, within = value_at(place, values, counts)
    assert value == sorted(starts)[place]
    assert within == place - sorted(starts).index(value)


@given(STARTS, st.integers(1, 50), st.data())
def test_spans_and_then_starts_find_the_exact_cuts(starts, width, data):
    """However wide the spans are, even if both cuts are in one."""
    place = data.draw(st.integers(0, len(starts) - 1))
    all_starts = np.array(starts)
    span, left = value_at(place, *np.unique(all_starts // width, return_counts=True))
    inside = all_starts[all_starts // width == span]
    assert value_at(left, *np.unique(inside, return_counts=True))[0] == sorted(starts)[place]
