"""Counts of a log against plain loops."""

import numpy as np

from experiments.reporting.log_facts import COUNT_EDGES, GAP_EDGES, count_log
from hiertcn_jax.batch import FIRST_ITEM_ID


def binned(values, edges, bins):
    found = [0] * bins
    for value in values:
        found[sum(value >= edge for edge in edges)] += 1
    return found


def test_counts_are_those_of_a_plain_loop(data):
    counts = count_log(data.histories)
    sessions, lengths, gaps, repeats = [], [], [], 0
    for one in data.histories.__getitems__(list(range(len(data.histories)))):
        sessions.append(len(one.session_lengths))
        at, seen = 0, set()
        for length in one.session_lengths.tolist():
            lengths.append(length)
            if at:
                gaps.append((one.times[at] - one.times[at - 1]) / 3600)
            at += length
        for item in one.item_ids.tolist():
            repeats += item in seen
            seen |= {item} if item >= FIRST_ITEM_ID else set()
    above = COUNT_EDGES[1:]
    assert counts.sessions_b.tolist() == binned(sessions, above, len(COUNT_EDGES))
    assert counts.lengths_b.tolist() == binned(lengths, above, len(COUNT_EDGES))
    assert counts.gaps_b.tolist() == binned(gaps, GAP_EDGES, len(GAP_EDGES) + 1)
    assert counts.repeats == repeats
    splits = data.manifest["counts"]["splits"]
    events = [splits[part]["events"]["all"] for part in ("train", "valid", "test")]
    assert counts.events_pb.sum(1).tolist() == events
    assert counts.events == sum(events)
    assert np.all(np.diff(counts.starts) == counts.span * 86_400)
