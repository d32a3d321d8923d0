"""Items that came after the fit are recommended, with the ranks of `evaluate --catalogue=live`."""

import numpy as np
import polars as pl
import pytest
from absl import flags
from absl.testing import flagsaver

import hiertcn_jax
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from experiments import recommend
from experiments.judging.evaluation import Evaluator
from experiments.replaying.cutting import cut_at
from experiments.runs.data import open_data
from experiments.runs.recall import recall_of
from experiments.runs.restore import restore_run
from experiments.service.loading import recommender_of
from hiertcn_jax.item_ids import FIRST_ITEM_ID
from hiertcn_jax.memory.levels import parse
from hiertcn_jax.serving import live_catalogue

ALL = 10**6


@pytest.fixture(scope="module")
def workdir(by_time_run):
    return by_time_run


@pytest.fixture(scope="module")
def restored(workdir):
    return restore_run(workdir, "best")


@pytest.fixture(scope="module")
def live(by_time):
    return open_data(by_time.directory, "live")


@pytest.fixture
def rec(workdir):
    return hiertcn_jax.load(workdir, catalogue="live")


def events_of(data):
    """All events as (time, user, session, position, starts a session, item, part), by time."""
    events = []
    for number, history in enumerate(data.histories.__getitems__(range(len(data.histories)))):
        session = np.repeat(np.arange(len(history.session_lengths)), history.session_lengths)
        ends = np.cumsum(history.session_lengths)
        position = np.arange(len(session)) - (ends - history.session_lengths)[session]
        ids = data.vocabulary.decode(history.item_ids)
        for place, item in enumerate(ids):
            time, at = int(history.times[place]), int(position[place])
            part = history.session_splits[session[place]]
            events.append((time, number, int(session[place]), at, at == 0, item, part))
    return sorted(events)


def evaluated(restored, data):
    """{(user, session, position): rank} of test, in the live catalogue, with live counts."""
    recall = recall_of(data, restored.config, "train", parse("live"))
    evaluator = Evaluator(
        restored.model, restored.config, restored.evaluation, data, Split.TEST, recall=recall
    )
    evaluation = evaluator(restored.params)
    events = evaluation.events
    places = zip(events.user_n, events.session_n, events.position_n, strict=True)
    return dict(zip(places, evaluation.rank_n.tolist(), strict=True))


def rank_of(table, item):
    """The rank of an item in a table of all items; None if it is not there."""
    scores, found = table["score"].to_numpy(), table["item_id"].to_numpy() == item
    if not found.any():
        return None
    score = scores[found][0]
    return 1 + (scores > score).sum() + ((scores == score).sum() - 1) / 2


@pytest.mark.parametrize("knows_the_log", [pytest.param(True, marks=pytest.mark.thorough), False])
def test_streamed_ranks_are_those_of_an_evaluation(restored, live, knows_the_log, monkeypatch):
    """Event by event: each is asked for, then observed; first appearances have no rank.

    Once with the rows of the log's later items, once with rows in the order in which they come.
    """
    monkeypatch.setattr(live_catalogue, "BLOCK", 16)
    cut = live.manifest["cuts"]["valid_after"]
    log = live if knows_the_log else open_data(live.directory)._replace(catalogue="live")
    rec = recommender_of(restored, cut_at(log, cut), "W")
    expected, states, asked = evaluated(restored, live), {}, 0
    for time, user, session, position, starts, item, part in events_of(live):
        state = states.get(user, rec.start())
        if part == Split.TEST:
            rank = rank_of(rec.recommend(state, k=ALL, at=time), item)
            assert (rank is None) == ((user, session, position) not in expected)
            if rank is not None:
                assert rank == pytest.approx(expected[user, session, position], abs=0.5)
                asked += 1
        states[user] = rec.observe(state, item, time, new_session=starts, count=time >= cut)
    assert asked == len(expected) > 20
    assert rec.catalogue.size == live.vocabulary.size


def test_an_item_is_recommended_from_its_first_event_on(rec, live):
    size = rec.catalogue.size
    state = rec.observe(rec.start(), 987654, time=2_000_000_000)
    other = rec.observe(rec.start(), 987654, time=2_000_000_010)
    assert 987654 not in rec.recommend(state, k=ALL, at=2_000_000_000)["item_id"]
    later = rec.recommend(other, k=ALL, at=2_000_000_060)
    assert len(later) == rec.catalogue.size - FIRST_ITEM_ID == size + 1 - FIRST_ITEM_ID
    assert later["item_id"].to_list().index(987654) < 5
    parts = rec.explain(other, 987654, at=2_000_000_060)
    assert parts["world"][0] != 0 and parts["own"][0] != 0
    assert not len(
        rec.recommend(other, k=ALL, at=2_000_000_060, candidates=[987654], exclude=[987654])
    )
    assert 987654 not in rec.recommend(other, k=ALL, exclude_seen=True, at=2_000_000_060)["item_id"]
    rec.add(pl.DataFrame({"user_id": [1], "item_id": [55555], "timestamp": [2_000_000_070]}))
    assert 55555 in rec.recommend(other, k=ALL, at=2_000_000_071)["item_id"]
    assert len(rec.item_embeddings()[0]) == live.vocabulary.fitted_size - FIRST_ITEM_ID
    with pytest.raises(ValueError, match="items=987654: came after training, and has no embedding"):
        rec.similar(987654)
    with pytest.raises(
        ValueError, match="items='x': must be a whole number, as the ids of the log"
    ):
        rec.observe(state, "x", time=2_000_000_080)


def test_what_is_refused_changes_nothing(rec):
    """One bad id among many events, or as many sessions as there are no users."""
    size, newest = rec.catalogue.size, rec._past.newest
    events = {"user_id": [-1, -2], "item_id": ["5050505", "x"], "timestamp": [2_000_000_090] * 2}
    with pytest.raises(ValueError, match="items='x': must be a whole number"):
        rec.add(pl.DataFrame(events))
    with pytest.raises(ValueError, match="new_session: 2 values for 1 users"):
        rec.observe(rec.start(), 5050505, time=2_000_000_090, new_session=[True, False])
    assert (rec.catalogue.size, rec._past.newest) == (size, newest)
    assert rec._past.events_of([-1, -2]) == [None, None]


def test_new_items_compile_nothing(rec):
    state = rec.observe(rec.start(), 10**6, time=2_000_000_000)
    rec.recommend(state, k=5, at=2_000_000_001)
    programs = rec._scorer._ask._cache_size()
    for number in range(20):
        state = rec.observe(state, 10**6 + number, time=2_000_000_001 + number)
        rec.recommend(state, k=5, at=2_000_000_030 + number)
    assert rec._scorer._ask._cache_size() == programs


def test_a_stored_state_names_its_later_items(workdir, rec):
    state = rec.observe(rec.start(), [777001], time=2_000_000_000)
    state = rec.observe(state, [777002], time=2_000_000_001)
    data = rec.to_bytes(state)
    other = hiertcn_jax.load(workdir, catalogue="live")
    other.observe(other.start(), 777002, time=2_000_000_002)
    same = other.from_bytes(data)
    assert other.catalogue.decode(same.own_nm[0, :2]) == [777002, 777001]
    # Nobody picked 777001 there.
    assert 777001 not in other.recommend(same, k=ALL, at=2_000_000_003)["item_id"]
    fitted = hiertcn_jax.load(workdir)
    assert fitted.from_bytes(data).own_nm[0, :3].tolist() == [1, 1, 0]


def test_the_command_and_rankers_know_later_items(workdir, live, tmp_path):
    (tmp_path / "new.csv").write_text("user_id,item_id,timestamp\n1,424242,1760000000\n")
    known = live.vocabulary.size - FIRST_ITEM_ID
    for place in (
        (f"--workdir={workdir}",),
        ("--ranker=popularity", f"--data_dir={live.directory}"),
    ):
        with flagsaver.flagsaver():
            recommend.define_flags()
            flags.FLAGS(
                [
                    "recommend", *place, f"--output={tmp_path / 'recs.csv'}", "--k=1000",
                    f"--events={tmp_path / 'new.csv'}", "--at=1760000001", "--catalogue=live",
                ]
            )  # fmt: skip
            recommend.main(recommend.read_settings())
        table = pl.read_csv(tmp_path / "recs.csv")
        new = "workdir" in place[0]
        assert (424242 in table["item_id"]) == new
        assert table["item_id"].n_unique() == known + new


def test_what_is_refused(workdir, live, tmp_path):
    with pytest.raises(ValueError, match="catalogue='all': must be fitted or live"):
        hiertcn_jax.load(workdir, catalogue="all")
    with pytest.raises(ValueError, match="index=True: holds the fitted items alone; leave it out"):
        hiertcn_jax.load(workdir, catalogue="live", index=True)
    with flagsaver.flagsaver():
        recommend.define_flags()
        names = f"--workdir={workdir}", f"--output={tmp_path / 'r.csv'}"
        flags.FLAGS(["recommend", *names, "--index", "--catalogue=live"])
        with pytest.raises(ValueError, match="flag --index: holds the fitted items alone"):
            recommend.read_settings()
    (tmp_path / "new.csv").write_text("user_id,item_id,timestamp\n1,abc,1760000000\n")
    settings = recommend.Settings(
        workdir, tmp_path / "r.csv", "best", None, None, (str(tmp_path / "new.csv"),), None, 3,
        False, None, catalogue="live",
    )  # fmt: skip
    rec = hiertcn_jax.load(workdir, catalogue="live")
    with pytest.raises(DataError, match=r"new\.csv: items='abc': must be a whole number"):
        recommend.recommend(settings, rec, live)
