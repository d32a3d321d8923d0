"""The part of the comparison with PyTorch that needs no PyTorch."""

import itertools

import jax
import numpy as np
import pytest

from benchmarks.peers import parity
from benchmarks.peers.grid import cut_sessions, grid_batches


@pytest.fixture(scope="module")
def batches():
    sessions = cut_sessions(parity.synthetic_events(seed=0), parity.GRID.events)
    return list(itertools.islice(grid_batches(sessions, parity.GRID, seed=0), parity.BATCHES))


def test_chunks_hold_the_grid_in_order(batches):
    for grid in batches:
        batch = parity.as_chunks(grid)
        for lane, sessions in enumerate(grid.item_ids_bst):
            expected = [
                (item, place, session)
                for session, items in enumerate(sessions)
                for place, item in enumerate(items)
                if item
            ]
            rows = (batch.item_ids_bl, batch.position_bl, batch.session_bl, batch.loss_weight_bl)
            got = list(zip(*(row[lane] for row in rows), strict=True))
            assert [event[:3] for event in got[: len(expected)]] == expected
            assert all(event[3] for event in got[: len(expected)])
            assert not np.any(got[len(expected) :])


def test_the_batches_put_everything_to_the_test(batches):
    """Users start within batches, sessions go over them, and some were cut."""
    starts_bs = np.stack([batch.starts_user_bs for batch in batches])
    assert starts_bs[..., 1:].any()
    assert not starts_bs.all(axis=-1).any()
    items_bst = np.stack([batch.item_ids_bst for batch in batches])
    assert (items_bst[..., -1] > 0).any()
    assert (items_bst[..., 1] == 0).any()
    assert max(batch.gap_hours_bs.max() for batch in batches) > 100


@pytest.mark.thorough
def test_every_parameter_has_a_name_and_a_gradient(batches):
    candidate_k = np.arange(2, 2 + parity.SETTINGS.negatives) % parity.ROWS
    candidate_k = np.maximum(candidate_k, 2)
    parameters, *steps = parity.jax_side(batches, candidate_k)
    assert len(steps) == parity.BATCHES
    d, h, c = parity.SETTINGS.item_dim, parity.SETTINGS.gru_dim, parity.SETTINGS.tcn_channels[0]
    blocks, kernel = len(parity.SETTINGS.tcn_channels), parity.SETTINGS.kernel_size
    model = d + h + 1 + 3 * h * (d + h + 1) + h + c * (d + 1) + h * c + d * (c + 1)
    total = parity.ROWS * (d + 1) + model + blocks * c * (kernel * c + 1)
    assert sum(value.size for value in parameters.values()) == total
    for batch, step in zip(batches, steps, strict=True):
        assert step["u"].shape == (np.count_nonzero(batch.item_ids_bst), d)
        assert {name: value.shape for name, value in parameters.items()} == {
            name: step[name].shape for name in parameters
        }
        assert all(np.any(step[name]) for name in parameters)
    assert jax.tree.all(jax.tree.map(lambda x: bool(np.all(np.isfinite(x))), steps))
