"""The padded grid: where events are, and that models compute the same on it as on rows."""

import itertools

import jax
import numpy as np
import pytest

from benchmarks.grid import TIGHT_STEP, grid_batches, with_grid_rows
from benchmarks.hiergru_grid import HierGRUGrid
from benchmarks.users import Users
from data_pipelines.histories.record import History
from data_pipelines.lanes.dealing import Shuffled
from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import train_loader
from hiertcn_jax.batch import FIRST_ITEM_ID, Bucket
from hiertcn_jax.models import build, model_config
from tests.volume import mostly_thorough

LANES, SESSIONS, EVENTS = 3, 4, 6


def log_of_unique_items(users=11, longest=EVENTS):
    """Users with a different item at every event, so that an item identifies its event."""
    generator, items = np.random.default_rng(5), itertools.count(FIRST_ITEM_ID)
    histories = Users()
    for user in range(users):
        lengths = generator.integers(1, longest + 1, generator.integers(1, 8)).astype(np.int32)
        events = int(lengths.sum())
        histories.append(
            History(
                user_id=str(user),
                item_ids=np.asarray(list(itertools.islice(items, events)), np.int32),
                times=np.cumsum(generator.integers(60, 400_000, events)),
                session_lengths=lengths,
                session_splits=np.zeros(len(lengths), np.uint8),
            )
        )
    return histories, next(items)


def epoch(users, batches, per_lane):
    """The batches of a grid until every user has occurred once."""
    deal = Shuffled(len(users), LANES, 0)
    turns = -(-len(users) // LANES)
    sessions = [
        sum(
            len(users[u].session_lengths)
            for u in deal.users(np.full(turns, lane), np.arange(turns))
        )
        for lane in range(LANES)
    ]
    return list(itertools.islice(batches, -(-max(sessions) // per_lane)))


def predictions(model, params, batches, table_vd, lanes):
    """The prediction at each event, by its item, from its first occurrence."""
    apply, carry = jax.jit(model.apply), model.init_carry(lanes)
    found = {}
    for batch, _ in batches:
        u_bld, carry = apply(params, batch.with_embeddings(table_vd), carry)
        for lane, place in zip(*np.nonzero(batch.item_ids_bl), strict=True):
            found.setdefault(int(batch.item_ids_bl[lane, place]), np.asarray(u_bld)[lane, place])
    return found


@pytest.mark.parametrize(
    ("name", "tight"),
    mostly_thorough([("hiertcn", False), ("hiertcn", True), ("hiergru", False)], ("hiertcn", True)),
)
def test_a_model_computes_the_same_on_a_grid_as_on_rows(name, tight):
    users, rows = log_of_unique_items()
    # The grid of the hierarchical GRU has no decay over gaps.
    gap_decay = "learned" if name == "hiertcn" else "none"
    config = model_config(
        name=name, item_dim=5, gru_dim=6, tcn_channels=(7, 4), gap_decay=gap_decay, unknown_rate=0
    )
    packed, on_grid = build(config), build(config)
    if name == "hiergru":
        on_grid = HierGRUGrid(config)
    table_vd = jax.random.normal(jax.random.key(1), (rows, config.item_dim))
    loader = train_loader(users, Bucket(2, 8, 3), seed=0, prefetch=0)
    chunks = list(itertools.islice(loader, 40))
    params = jax.jit(packed.init)(
        jax.random.key(0), chunks[0].batch.with_embeddings(table_vd), packed.init_carry(2)
    )
    # Start states and tokens begin at 0, which would hide where they are used.
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(2), x.shape), params)
    grid = grid_batches(users, LANES, SESSIONS, EVENTS, seed=0, tight=tight)
    expected = predictions(packed, params, chunks, table_vd, 2)
    got = predictions(on_grid, params, epoch(users, grid, SESSIONS), table_vd, LANES)
    assert set(got) == set(range(FIRST_ITEM_ID, rows)) == set(expected)
    for item, u_d in got.items():
        np.testing.assert_allclose(u_d, expected[item], atol=2e-5)


@pytest.mark.parametrize("tight", [False, True])
def test_every_session_has_a_slot_and_is_cut(tight):
    users, _rows = log_of_unique_items(longest=2 * EVENTS)
    kept, lengths = set(), {}
    for user in users:
        ends = np.cumsum(user.session_lengths)
        for end, length in zip(ends, user.session_lengths, strict=True):
            first = int(user.item_ids[end - length])
            lengths[first] = min(int(length), EVENTS)
            kept |= set(range(first, first + lengths[first]))
    seen = set()
    grid = grid_batches(users, LANES, SESSIONS, EVENTS, seed=0, tight=tight)
    for batch, _info in epoch(users, grid, SESSIONS):
        ids_bl, slots = batch.item_ids_bl, []
        for lane, slot in itertools.product(range(LANES), range(SESSIONS)):
            places = np.flatnonzero((ids_bl[lane] > 0) & (batch.session_bl[lane] == slot))
            first = int(ids_bl[lane, places[0]])
            assert ids_bl[lane, places].tolist() == list(range(first, first + lengths[first]))
            assert batch.position_bl[lane, places].tolist() == list(range(len(places)))
            assert np.diff(places).tolist() == [1] * (len(places) - 1)
            slots.append((slot, places[0], len(places)))
            user = next(user for user in users if first in user.item_ids)
            place = int(first - user.item_ids[0])
            assert batch.user_position_bl[lane, places[0]] == place
            assert batch.starts_user_bs[lane, slot] == (place == 0)
            gap = 0 if place == 0 else (user.times[place] - user.times[place - 1]) / 3600
            np.testing.assert_allclose(batch.gap_hours_bs[lane, slot], gap, rtol=1e-6)
        for slot in range(SESSIONS):
            # All lanes start a slot at one index, after the longest session of the slot before.
            starts = {start for at, start, _ in slots if at == slot}
            widest = [max(n for at, _, n in slots if at == before) for before in range(slot)]
            assert starts == {sum(widest) if tight else slot * EVENTS}
        total = sum(max(n for at, _, n in slots if at == slot) for slot in range(SESSIONS))
        width = -(-total // TIGHT_STEP) * TIGHT_STEP if tight else SESSIONS * EVENTS
        assert ids_bl.shape == (LANES, width)
        assert batch.loss_weight_bl.tolist() == (ids_bl > 0).tolist()
        seen |= set(ids_bl[ids_bl > 0].tolist())
    assert seen == kept


def test_rows_mode_points_to_the_same_items():
    users, rows = log_of_unique_items()
    batches = list(itertools.islice(grid_batches(users, LANES, SESSIONS, EVENTS, seed=0), 3))
    local = with_grid_rows(batches, ItemRows(rows, 7), LANES, seed=0)
    assert len(local) == 3
    for (batch, _), (in_rows, _info) in zip(batches, local, strict=True):
        distinct_u = in_rows.items.distinct_u
        np.testing.assert_array_equal(distinct_u[in_rows.item_ids_bl], batch.item_ids_bl)
        assert in_rows.negatives_k.shape == (7,)
        assert (distinct_u[in_rows.negatives_k] >= FIRST_ITEM_ID).all()
