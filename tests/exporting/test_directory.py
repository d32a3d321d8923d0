"""An exported model is the model, in onnxruntime and as StableHLO, for every model."""

import datetime

import jax
import numpy as np
import onnx
import polars as pl
import pytest

from hiertcn_jax.exported.explaining import ExportedExplainer
from hiertcn_jax.exported.layout import WEIGHTS
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.exporting.directory import TrainedModel, UsersToExport, write_export
from hiertcn_jax.exporting.functions import best_function, observe_function, score_function
from hiertcn_jax.exporting.loading import load_export
from hiertcn_jax.item_ids import FIRST_ITEM_ID
from hiertcn_jax.memory.memory import Memory
from hiertcn_jax.scoring.keys import item_keys
from hiertcn_jax.serving.event_rows import counted_events
from hiertcn_jax.serving.frames import Names
from hiertcn_jax.serving.stream import Stream
from hiertcn_jax.serving.user_states import Events
from tests.models.options import ITEMS, OPTIONS
from tests.serving.test_stream import GAP, assert_close, trained

USERS, EVENTS, BEST = 3, 5, 4
WITH_MEMORY = "hiertcn with memory"
QUICK = ["hiergru", "esasrec", "hstu", WITH_MEMORY]


def model_of(option):
    if option == WITH_MEMORY:
        return trained("hiertcn", memory=("world", "followers", "own"), memory_units=2)
    return trained(option)


def clicks():
    """Events of each user with pauses shorter and longer than the gap, some of unknown items."""
    rng = np.random.default_rng(5)
    pauses = rng.choice([0, 60, 2_000, 10**5, 10**7], (USERS, EVENTS))
    items = rng.integers(1, ITEMS, (USERS, EVENTS)).astype(np.int32)
    return items, 1_700_000_000 + np.cumsum(pauses, axis=1)


def memory_of(model):
    if not model.config.memory:
        return None
    memory = Memory(ITEMS)
    items, _ = clicks()
    times = 1_699_000_000 + 700 * np.arange(EVENTS)
    events = Events(items[0], times, np.arange(EVENTS) % 2 == 0)
    memory.observe(*counted_events(events, 0))
    return memory


def exported(directory, option, users=None, titled=False):
    """An export; with titles of all items but the first."""
    model, params = model_of(option)
    ids = [f"i{row}" for row in range(FIRST_ITEM_ID, ITEMS)]
    write_export(
        directory,
        TrainedModel(
            config=model.config,
            params=params["model"],
            items=params["items"],
            item_ids=ids,
            gap_seconds=GAP,
            newest=1_700_000_000,
            model_id="m",
            names=Names(),
            memory=memory_of(model),
            configs={},
            version="0",
            known_of_items=pl.DataFrame(
                {
                    "item_id": ids,
                    "title": [None, *(f"title of {one}" for one in ids[1:])],
                    "since": [datetime.date(2026, 1, 1)] * len(ids),
                    "picture": [b"..."] * len(ids),
                }
            )
            if titled
            else None,
        ),
        users,
        k=BEST,
    )
    return model, params, Export(directory)


@pytest.mark.parametrize(
    "option",
    [
        *QUICK,
        *(
            pytest.param(option, marks=pytest.mark.thorough)
            for option in OPTIONS
            if option not in QUICK
        ),
    ],
)
def test_in_onnxruntime_it_is_the_model(option, tmp_path):
    """States after every event, best items with parts that sum to scores, and excluded items."""
    model, params, export = exported(tmp_path, option)
    stream, other = Stream(model, params, GAP), OnnxStream(export)
    keys, memory = item_keys(params["items"], model.config), memory_of(model)
    bias = np.zeros(ITEMS) if keys.bias is None else np.asarray(keys.bias)
    states, others = stream.start(USERS), other.start(USERS)
    items, times = clicks()
    allowed_v = np.arange(ITEMS) != 7
    excluded_ne = np.array([[0, 3], [2, 4], [5, 5]], np.int32)
    explain = ExportedExplainer(export)
    for place in range(EVENTS):
        now = times[:, place]
        queries = stream.ask(states, now, memory)
        expected = np.asarray(queries.vectors) @ np.asarray(keys.rows).T + bias
        if queries.listed is not None:
            for user, (ids, values) in enumerate(zip(*queries.listed, strict=True)):
                for item, value in zip(np.asarray(ids), np.asarray(values), strict=True):
                    if item >= FIRST_ITEM_ID:
                        expected[user, item] += value
        expected[:, :FIRST_ITEM_ID] = expected[:, 7] = -np.inf
        for user in range(USERS):
            expected[user, excluded_ne[user]] = -np.inf
        best = other.recommend(others, now, ITEMS, export.memory(), excluded_ne, allowed_v)
        order = np.argsort(-expected, axis=1, kind="stable")[:, : best.rows_nk.shape[1]]
        sorted_nk = np.take_along_axis(expected, order, 1)
        np.testing.assert_allclose(best.scores_nk, sorted_nk, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(best.rows_nk, np.where(sorted_nk > -np.inf, order, 0))
        parts = explain(others, now, export.memory(), best.rows_nk, best.vectors_nd)
        is_item_nk = best.rows_nk > 0
        sums_nk = sum(parts.values.values())
        np.testing.assert_allclose(
            sums_nk[is_item_nk], best.scores_nk[is_item_nk], rtol=1e-5, atol=1e-5
        )
        events = [Events(items[u, place : place + 1], now[u : u + 1]) for u in range(USERS)]
        states = stream.observe(states, events)
        others = other.observe(others, items[:, place], now)
        jax.tree.map(assert_close, states, others)


def test_one_user_or_many(tmp_path):
    _, _, export = exported(tmp_path, "hiertcn")
    stream = OnnxStream(export)
    items, times = clicks()
    together = stream.observe(stream.start(USERS), items[:, 0], times[:, 0])
    for user in range(USERS):
        alone = stream.observe(stream.start(), items[user, :1], times[user, :1])
        jax.tree.map(assert_close, together.take(np.array([user])), alone)
    nobody = stream.observe(stream.start(0), items[:0, 0], times[:0, 0])
    assert nobody.users == 0


@pytest.mark.parametrize("option", ["hiertcn", WITH_MEMORY])
def test_as_stablehlo_it_is_the_model(option, tmp_path):
    """For three platforms, with any number of users."""
    model, _, export = exported(tmp_path, option)
    arrays = export.weights()
    functions = export.manifest["functions"]
    rng = np.random.default_rng(0)
    for name, said in functions.items():
        weights = {one: arrays[file] for one, file in said["weights"].items()}
        specs = {n: jax.ShapeDtypeStruct(w.shape, w.dtype) for n, w in weights.items()}
        make = observe_function if name == "observe" else score_function
        function = make(model, specs)
        if name == "recommend":
            function = best_function(function, BEST)
        found = jax.export.deserialize(bytearray((tmp_path / f"{name}.stablehlo").read_bytes()))
        assert list(found.platforms) == ["cpu", "cuda", "tpu"]
        for users in (1, 3):
            inputs = [
                rng.integers(0, 3, sized(shape, users)).astype(kind)
                for kind, shape in said["inputs"].values()
            ]
            jax.tree.map(
                assert_close,
                found.call(weights, *inputs),
                jax.jit(function.function)(weights, *inputs),
            )


def sized(shape, users):
    return [users if one == "users" else 2 if one == "excluded" else one for one in shape]


def test_weights_are_once_on_disk(tmp_path):
    """Both ONNX models read the item table from one file, and are well-formed."""
    _, _, export = exported(tmp_path, "hiertcn")
    for name in ("observe", "recommend"):
        path = tmp_path / f"{name}.onnx"
        onnx.checker.check_model(str(path), full_check=True)
        assert not any(
            node.op_type in ("Loop", "Scan", "If") for node in onnx.load(path).graph.node
        )
    assert export.weights()["items/input"].shape == (ITEMS, 6)
    assert (tmp_path / WEIGHTS).exists()


def test_users_and_their_states(tmp_path):
    items, times = clicks()
    starts = np.diff(times, axis=1, prepend=0) > GAP
    events = [Events(items[u, : u + 2], times[u, : u + 2], starts[u, : u + 2]) for u in range(3)]
    blocks = [(["a", "b"], events[:2]), (["c"], events[2:])]
    model, params, export = exported(tmp_path, "hiertcn", UsersToExport(blocks, 3, 2 + 3 + 4))
    stream = Stream(model, params, GAP)
    for user, one in zip("abc", events, strict=True):
        (found,) = export.users.events_of([user])
        jax.tree.map(np.testing.assert_array_equal, found, one)
        state = export.users.state_of(user)
        jax.tree.map(assert_close, state, stream.observe(stream.start(), [one]))
        assert OnnxStream(export).from_bytes(state.to_bytes("m")).events_n == len(one.item_rows)
    assert export.users.events_of(["x"]) == [None]
    assert export.users.state_of("x") is None


def test_what_is_known_of_items(tmp_path):
    """Dates become text; bytes are left out."""
    _, _, export = exported(tmp_path, "hiertcn", titled=True)
    assert list(export.columns) == ["title", "since"]
    assert export.titles[:2] == [None, "title of i3"]
    assert set(export.columns["since"]) == {"2026-01-01"}
    rec = load_export(tmp_path)
    assert rec.items.columns == ["item_id", "title", "since"]
    shown = rec.recommend(rec.start(), k=ITEMS)
    assert dict(shown["item_id", "title"].iter_rows()) == dict(
        zip(export.items.ids, export.titles, strict=True)
    )


def test_bad_calls(tmp_path):
    _, _, export = exported(tmp_path, WITH_MEMORY)
    stream = OnnxStream(export)
    state, memory = stream.start(), export.memory()
    now = memory.last_time
    with pytest.raises(ValueError, match="1 items and 2 times for 1 users"):
        stream.observe(state, np.array([2]), [1, 2])
    with pytest.raises(ValueError, match="must be from 1 to 11"):
        stream.observe(state, np.array([ITEMS]), [1])
    with pytest.raises(ValueError, match="k=0: must be >= 1"):
        stream.recommend(state, [now], 0, memory)
    with pytest.raises(ValueError, match="2 times for 1 users"):
        stream.recommend(state, [now, now], 1, memory)
    with pytest.raises(ValueError, match="memory: must be given"):
        stream.recommend(state, [now], 1)
