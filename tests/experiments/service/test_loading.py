"""A trained run recommends: raw ids in and out, from the log, from tables, click by click."""

import numpy as np
import polars as pl
import pytest

import hiertcn_jax
from data_pipelines.histories.record import Split
from experiments.judging.evaluation import Evaluator
from experiments.runs.recall import recall_of
from experiments.runs.restore import restore_run
from experiments.service.known_users import LoggedUsers
from experiments.service.loading import recommender_of
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.serving.user_states import Events
from tests.experiments.small_runs import run_train


@pytest.fixture(scope="module")
def workdir(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("serving") / "run"
    run_train(data, workdir, "--memory=world,followers,own", "--loss=cross_entropy", "--steps=4")
    return workdir


@pytest.fixture(scope="module")
def rec(workdir):
    return hiertcn_jax.load(workdir)


def histories_of(data):
    return data.histories.__getitems__(list(range(len(data.histories))))


def known_events(data, user=0):
    """Raw ids and times of a user's events on items of the catalogue."""
    history = histories_of(data)[user]
    known_n = history.item_ids >= FIRST_ITEM_ID
    return data.vocabulary.decode(history.item_ids[known_n]), history.times[known_n].tolist()


def catalogue(data):
    return data.vocabulary.decode(np.arange(FIRST_ITEM_ID, data.vocabulary.size))


def test_all_users_of_the_log(rec, data):
    users = [history.user_id for history in histories_of(data)]
    table = rec.recommend(users, k=5)
    assert table.columns == ["user_id", "rank", "item_id", "score"]
    assert table["user_id"].to_list() == [user for user in users for _ in range(5)]
    assert table["rank"].to_list() == [1, 2, 3, 4, 5] * len(users)
    for _, one in table.group_by("user_id"):
        assert one["item_id"].n_unique() == 5
        assert one["score"].is_sorted(descending=True)


def test_ranks_are_those_of_an_evaluation(workdir, data):
    """The users as they were before their events of test, and their targets in the whole list."""
    restored = restore_run(workdir, "best")
    recall = recall_of(data, restored.config, "train")
    evaluator = Evaluator(
        restored.model, restored.config, restored.evaluation, data, Split.TEST, recall=recall
    )
    found = evaluator(restored.params)
    rec = recommender_of(restored, data, "run", counted=Split.TRAIN)
    logged = LoggedUsers(data.histories)
    for n in range(0, len(found.rank_n), 7):
        user, place = int(found.events.user_n[n]), int(found.events.user_position_n[n])
        events = logged.events_of([histories_of(data)[user].user_id])[0]
        state = rec._stream.observe(rec.start(), [Events(*(field[:place] for field in events))])
        # Sessions of this log end where its pauses say so: then streaming needs no other word.
        rec._stream.gap_seconds = gap_of(events, place)
        table = rec.recommend(state, k=10**6, at=int(events.times[place]))
        target = data.vocabulary.decode(np.asarray([found.events.item_n[n]]))[0]
        rank = table.filter(pl.col("item_id") == target)["rank"][0]
        ties = table.filter(pl.col("score") == table["score"][rank - 1]).height
        assert abs(rank - found.rank_n[n]) <= ties / 2


def gap_of(events, place):
    """A gap by which the event starts a session, or does not, as in the log."""
    return -1 if events.starts[place] else 10**9


def test_a_table_of_events_is_as_its_clicks(rec, data):
    ids, times = known_events(data)
    frame = pl.DataFrame({"user_id": "x", "item_id": ids, "timestamp": times}).sample(
        fraction=1, shuffle=True, seed=0
    )
    state = rec.start()
    for item, time in zip(ids, times, strict=True):
        state = rec.observe(state, item, time, count=False)
    by_frame, by_click = (rec.recommend(one, k=9, at=times[-1] + 60) for one in (frame, state))
    assert set(by_frame["user_id"]) == {"x"}
    assert by_frame["item_id"].to_list() == by_click["item_id"].to_list()
    np.testing.assert_allclose(by_frame["score"], by_click["score"], rtol=1e-5)


def test_a_click_changes_what_all_are_recommended(workdir, data):
    """What everybody picks now counts for a user who did nothing."""
    rec = hiertcn_jax.load(workdir)
    ids, _ = known_events(data)
    now, other = LoggedUsers(data.histories).newest + 60, rec.start()
    before = rec.recommend(other, k=3, at=now + 600)
    state = rec.start()
    for click in range(8):
        state = rec.observe(state, ids[0], now + click)
    after = rec.recommend(other, k=3, at=now + 600)
    assert before["score"].to_list() != after["score"].to_list()
    uncounted = rec.observe(state, ids[1], now + 9, count=False)
    assert uncounted.events_n.tolist() == [9]
    assert rec.recommend(other, k=3, at=now + 600).equals(after)


def test_later_events_are_as_clicks(workdir, data):
    """A table of what happened since, or click by click: the same recommendations."""
    added, clicked = hiertcn_jax.load(workdir), hiertcn_jax.load(workdir)
    ids, now = catalogue(data)[:4], LoggedUsers(data.histories).newest
    user = histories_of(data)[2].user_id
    clicks = [(user, ids[0], now + 5), ("new", ids[1], now + 6), (user, ids[2], now + 10**6)]
    added.add(pl.DataFrame(clicks, schema=["user_id", "item_id", "timestamp"], orient="row"))
    events = LoggedUsers(data.histories).events_of([user])
    states = {
        user: clicked._stream.observe(clicked.start(), events),
        "new": clicked.start(),
    }
    for who, item, time in clicks:
        states[who] = clicked.observe(states[who], item, time)
    for who, state in states.items():
        one, other = added.recommend([who], k=9), clicked.recommend(state, k=9)
        assert one["item_id"].to_list() == other["item_id"].to_list()
        np.testing.assert_allclose(one["score"], other["score"], rtol=1e-4)
    added.add(pl.DataFrame(clicks[:0], schema=["user_id", "item_id", "timestamp"]))


def test_what_is_left_out(rec, data):
    ids, times = known_events(data)
    user = histories_of(data)[0].user_id
    everything = rec.recommend(user, k=10**6)
    assert set(everything["item_id"]) == set(catalogue(data))
    unseen = rec.recommend(user, k=10**6, exclude_seen=True)
    assert set(unseen["item_id"]) == set(everything["item_id"]) - set(ids)
    left = rec.recommend(user, k=10**6, exclude=ids[:2])
    assert set(left["item_id"]) == set(everything["item_id"]) - set(ids[:2])
    chosen = everything["item_id"].to_list()[3:9]
    some = rec.recommend(user, k=4, candidates=[*chosen[::-1], chosen[0]])
    assert some["item_id"].to_list() == chosen[:4]
    np.testing.assert_allclose(some["score"], everything["score"][3:7], rtol=1e-6)
    assert rec.recommend(user, candidates=chosen, exclude=chosen).is_empty()
    state = rec.observe(rec.start(), ids[0], times[0], count=False)
    assert ids[0] not in rec.recommend(state, k=10**6, exclude_seen=True)["item_id"]


def test_filters_keep_their_promise_of_k(rec, data):
    """k items come back as long as there are k."""
    user = histories_of(data)[1].user_id
    best = rec.recommend(user, k=5)["item_id"].to_list()
    left = rec.recommend(user, k=5, exclude=best[:3])["item_id"].to_list()
    assert left[:2] == best[3:]
    assert len(left) == 5


def test_embeddings_and_similar_items(rec, data):
    users = [history.user_id for history in histories_of(data)[:3]]
    assert rec.embed(users).shape == (3, 4)
    ids, rows_nd = rec.item_embeddings()
    assert list(ids) == catalogue(data)
    unit_nd = rows_nd / np.linalg.norm(rows_nd, axis=1, keepdims=True)
    similar = rec.similar(ids[4], k=3)
    cosine_n = unit_nd @ unit_nd[4]
    cosine_n[4] = -2
    assert similar["similar_id"].to_list() == [ids[n] for n in np.argsort(-cosine_n)[:3]]
    np.testing.assert_allclose(similar["cosine"], np.sort(cosine_n)[::-1][:3], rtol=1e-4)


def test_states_are_stored_as_bytes(rec, workdir):
    state = rec.observe(rec.start(), rec.item_embeddings()[0][0], 10**9, count=False)
    assert rec.recommend(rec.from_bytes(rec.to_bytes(state))).equals(rec.recommend(state))
    other = hiertcn_jax.load(workdir, checkpoint="last")
    other.model_id = "another"
    with pytest.raises(ValueError, match="not another"):
        other.from_bytes(rec.to_bytes(state))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"users": ["nobody"]}, "users='nobody': is not in the log"),
        ({"k": 0}, "k=0: must be >= 1"),
        ({"candidates": ["none"]}, "candidates='none': is not in the catalogue"),
        ({"exclude": "abc"}, "exclude='abc': must be several ids"),
        ({"exclude": ["none"]}, "exclude='none': is not in the catalogue"),
        ({"at": "now"}, "at='now': must be seconds"),
        ({"at": [1, 2]}, "at: 2 values for 1 users"),
    ],
)
def test_bad_questions(rec, arguments, message):
    with pytest.raises(ValueError, match=message):
        rec.recommend(**{"users": rec.start(), **arguments})


def test_an_unknown_item_is_an_event(rec):
    state = rec.observe(rec.start(), "never seen", 10**9, count=False)
    assert state.events_n.tolist() == [1]
    assert rec.recommend(state, k=2).height == 2


def test_nobody_is_recommended_nothing(rec):
    assert rec.recommend([]).is_empty()
    assert rec.recommend(rec.start(0)).is_empty()
