"""Users followed event by event: what training and evaluation see in batches, for every model."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.histories.record import Split
from data_pipelines.lanes.loaders import eval_loader
from data_pipelines.lanes.memory_lists import remember
from hiertcn_jax.batch import Bucket, padding_batch
from hiertcn_jax.devices.mesh import Layout, make_mesh, replicated
from hiertcn_jax.models import MODELS, build
from hiertcn_jax.models.eval_step import make_eval_step
from hiertcn_jax.scoring.item_table import init_item_table
from hiertcn_jax.serving.stream import Stream
from hiertcn_jax.serving.user_states import Events, from_bytes
from tests.data_pipelines.lanes.walking import ListSource, history
from tests.models.options import ITEMS, OPTIONS, config_of
from tests.volume import few

GAP = 1800.0
BUCKET = Bucket(lanes=3, events=7, sessions=3)
MEMORY = ("world", "followers", "own")
TRAIN, VALID, TEST = Split.TRAIN, Split.VALID, Split.TEST


def source_of():
    """Users of 1 to 4 sessions, the last of each scored; time never goes back."""
    rng, source = np.random.default_rng(3), ListSource()
    for user, parts in enumerate([1, 2, 3, 4, 4]):
        lengths, splits = rng.integers(1, 6, parts).tolist(), [TRAIN] * (parts - 1) + [VALID]
        record = history(lengths, splits, seed=user)
        source.append(dataclasses.replace(record, times=np.maximum.accumulate(record.times)))
    return source


def records(source):
    return [list.__getitem__(source, user) for user in range(len(source))]


def trained(option, **changes):
    """A model with random parameters, all away from their initial zeros, and its item table."""
    config = dataclasses.replace(config_of(option), **changes)
    model, rng = build(config), np.random.default_rng(0)
    items = init_item_table(jax.random.key(1), ITEMS, config)
    batch = padding_batch(Bucket(1, 1, 1)).with_embeddings(items.input_vd)
    shapes = jax.eval_shape(
        lambda key: model.init(key, batch, model.init_carry(1)), jax.random.key(0)
    )
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(leaf.dtype), shapes["params"]
    )
    return model, {"model": params, "items": items}


def batched(model, params, source, recall):
    """{(user, place in its history): queries} of all scored events, as an evaluation makes them."""
    found, carry, step = {}, model.init_carry(BUCKET.lanes), make_eval_step(model)
    for batch, info in eval_loader(source, BUCKET, split=VALID, recall=recall, prefetch=0):
        queries, carry = step(params, batch, carry)
        for lane, place in np.argwhere(batch.scored_bl):
            user = int(info.user_bs[lane, batch.session_bl[lane, place]])
            key = user, int(batch.user_position_bl[lane, place])
            found[key] = jax.tree.map(lambda x, at=(lane, place): np.asarray(x)[at], queries)
    return found


def starts_of(record):
    starts_n = np.zeros(len(record.times), bool)
    starts_n[np.cumsum(record.session_lengths) - record.session_lengths] = True
    return starts_n


def events_of(record, start, end):
    part = slice(start, end)
    return Events(record.item_ids[part], record.times[part], starts_of(record)[part])


@pytest.mark.parametrize("option", [*MODELS, "hiertcn with memory"])
def test_each_event_alone_is_asked_for_as_an_evaluation_does(option):
    remembers = option in ("hiertcn with memory", "memory")
    model, params = (
        trained("hiertcn", memory=MEMORY, memory_units=2)
        if option == "hiertcn with memory"
        else trained(option)
    )
    assert_streamed_is_evaluated(model, params, remembers)


@settings(max_examples=few(2, of=40), deadline=None)
@given(
    option=st.sampled_from(sorted(OPTIONS)),
    kinds=st.sets(st.sampled_from(MEMORY)),
    units=st.sampled_from([0, 3]),
    width=st.integers(2, 9),
)
def test_any_options_are_streamed_as_they_are_evaluated(option, kinds, units, width):
    """Event by event as in an evaluation; one by one, in parts or as a history: one state."""
    needed = OPTIONS[option].get("memory", ())
    kinds = tuple(kind for kind in MEMORY if kind in {*kinds, *needed})
    model, params = trained(option, memory=kinds, memory_units=units if kinds else 0)
    assert_streamed_is_evaluated(model, params, bool(kinds))
    assert_one_state(Stream(model, params, GAP), (1, width, 100))


def assert_streamed_is_evaluated(model, params, remembers):
    source = source_of()
    recall = remember(source, ITEMS, TRAIN) if remembers else None
    expected = batched(model, params, source, recall)
    assert len(expected) > 8
    stream = Stream(model, params, GAP)
    states = stream.start(len(source))
    longest = max(len(record.times) for record in records(source))
    for place in range(longest):
        at = [min(place, len(record.times) - 1) for record in records(source)]
        ends = zip(records(source), at, strict=True)
        time_n, starts_n = (
            np.asarray(values)
            for values in zip(*((r.times[n], starts_of(r)[n]) for r, n in ends), strict=True)
        )
        queries = stream.ask(states, time_n, recall.memory if recall else None, starts_n)
        for user in range(len(source)):
            if (user, place) in expected:
                one = jax.tree.map(lambda x, user=user: np.asarray(x)[user], queries)
                assert_close(one, expected.pop((user, place)))
        states = stream.observe(
            states, [events_of(record, place, place + 1) for record in records(source)]
        )
    assert not expected


def test_one_by_one_in_parts_or_as_a_history_gives_one_state():
    model, params = trained("hiertcn", gap_decay="learned")
    assert_one_state(Stream(model, params, GAP), (1, 3, 100))


def assert_one_state(stream, widths):
    source, states = records(source_of()), []
    for width in widths:
        state = stream.start(len(source))
        for start in range(0, max(len(record.times) for record in source), width):
            state = stream.observe(
                state,
                [
                    events_of(record, start, start + width)._replace(starts=None)
                    for record in source
                ],
            )
        states.append(state)
    for other in states[1:]:
        assert_close(states[0], other)


def test_devices_share_the_users():
    """Three simulated devices: batches are filled up so that they divide evenly."""
    model, params = trained("hiertcn", gap_decay="learned")
    source = records(source_of())
    events = [events_of(record, 0, 99) for record in source]
    layout = Layout(make_mesh(3, 1), ITEMS)
    placed = jax.device_put(params, replicated(layout.mesh))
    one, three = Stream(model, params, GAP), Stream(model, placed, GAP, layout)
    states = [stream.observe(stream.start(len(events)), events) for stream in (one, three)]
    assert_close(*states)
    time_n = states[0].last_time_n + 60
    asked = [stream.ask(state, time_n) for stream, state in zip((one, three), states, strict=True)]
    assert_close(*asked)


def test_many_users_are_as_each_alone(monkeypatch):
    """More than a batch holds; others in it change nothing."""
    monkeypatch.setattr("hiertcn_jax.serving.stream.USERS", (1, 2))
    model, params = trained("hiergru")
    source = records(source_of())
    stream = Stream(model, params, GAP)
    events = [events_of(record, 0, 99) for record in source]
    together = stream.observe(stream.start(len(source)), events)
    for user in range(len(source)):
        alone = stream.observe(stream.start(), events[user : user + 1])
        assert_close(together.take(np.array([user])), alone)


def test_a_pause_longer_than_the_gap_starts_a_session():
    model, params = trained("hiertcn")
    stream = Stream(model, params, GAP)
    times = np.asarray([100, 200, 200 + 1800, 200 + 1800 + 1801])
    items = np.asarray([2, 3, 4, 5], np.int32)
    state = stream.observe(stream.start(), [Events(items, times)])
    said = stream.observe(stream.start(), [Events(items, times, np.array([1, 0, 0, 1], bool))])
    assert_close(state, said)
    assert state.position_n.tolist() == [1]
    assert state.events_n.tolist() == [4]
    assert state.own_nm[0, :5].tolist() == [5, 4, 3, 2, 0]
    assert (state.first_time_n[0], state.last_time_n[0]) == (100, 3801)


def test_time_that_goes_back_counts_as_the_newest():
    model, params = trained("hiertcn", gap_decay="learned")
    stream = Stream(model, params, GAP)
    items = np.asarray([2, 3, 4], np.int32)
    back = stream.observe(stream.start(), [Events(items, np.asarray([9000, 50, 9100]))])
    level = stream.observe(stream.start(), [Events(items, np.asarray([9000, 9000, 9100]))])
    assert_close(back, level)


def test_a_state_survives_as_bytes():
    model, params = trained("hiertcn")
    stream = Stream(model, params, GAP)
    state = stream.observe(stream.start(), [Events(np.array([2, 3], np.int32), np.array([5, 6]))])
    data = state.to_bytes("m")
    same = from_bytes(data, stream.start(), "m", ITEMS)
    jax.tree.map(np.testing.assert_array_equal, same, state)
    for broken, message in {
        b"": "no state of a user",
        data[:-1]: r"bytes, must be \d+",
        data + b"x": r"bytes, must be \d+",
        data[:-1] + bytes([data[-1] ^ 1]): "its bytes have changed",
        data[:8] + b"}" + data[9:]: "header is damaged",
    }.items():
        with pytest.raises(ValueError, match=message):
            from_bytes(broken, stream.start(), "m", ITEMS)
    with pytest.raises(ValueError, match="of model m, not other"):
        from_bytes(data, stream.start(), "other", ITEMS)
    with pytest.raises(ValueError, match="2 users, must be 1"):
        stream.start(2).to_bytes("m")


def test_what_cannot_be_observed():
    model, params = trained("hiertcn")
    stream = Stream(model, params, GAP)
    one = Events(np.array([2], np.int32), np.array([5]))
    with pytest.raises(ValueError, match="of 1 users, but there are 2 states"):
        stream.observe(stream.start(2), [one])
    with pytest.raises(ValueError, match="either all or none"):
        stream.observe(stream.start(2), [one, one._replace(starts=np.array([True]))])
    with pytest.raises(ValueError, match="must be 1 to 256"):
        stream.ask(stream.start(0), np.zeros(0, np.int64))


def assert_close(one, other):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), one, other)
