"""A trained run with titles as a Recommender: parts of scores, titles, metrics, bad input."""

import json

import numpy as np
import polars as pl
import pytest

import hiertcn_jax
from data_pipelines.synthetic import SyntheticConfig, synthetic_log
from experiments.runs.data import open_data

PARTS = ("hierarchy", "world", "followers", "own", "memory_units")


@pytest.fixture(scope="module")
def rec(titled_run):
    return hiertcn_jax.load(titled_run)


def ids_of(data):
    histories = data.histories.__getitems__(list(range(len(data.histories))))
    return [int(history.user_id) for history in histories]


def title_of(item):
    return None if item % 10 == 0 else f"title {item}"


def test_the_parts_of_a_score_sum_to_it(rec, titled):
    table = rec.recommend(ids_of(titled), k=5, explain=True)
    assert [name for name in table.columns if name in PARTS] == list(PARTS)
    total = sum(table[name].to_numpy() for name in PARTS)
    np.testing.assert_allclose(total, table["score"], atol=1e-5)
    assert (table["world"] != 0).any()
    hours = table["world_half_life_hours"]
    assert (hours.is_null() == (table["world"] == 0)).all()
    known = np.asarray([300 * 4**k / 3600 for k in range(9)], np.float32)
    assert np.isin(hours.drop_nulls().to_numpy(), known).all()


def test_followers_are_of_an_item_that_the_user_picked(rec, titled):
    histories = titled.histories.__getitems__(range(len(titled.histories)))
    picked = {
        int(history.user_id): set(titled.vocabulary.decode(history.item_ids[history.item_ids > 1]))
        for history in histories
    }
    table = rec.recommend(list(picked), k=5, explain=True)
    followed = table.filter(pl.col("followers_of").is_not_null())
    assert len(followed)
    assert all(
        item in picked[user] for user, item in followed["user_id", "followers_of"].iter_rows()
    )
    assert (table["followers_of"].is_null() == (table["followers"] == 0)).all()


def test_explain_is_what_recommend_says(rec, titled):
    user = ids_of(titled)[0]
    table = rec.recommend([user], k=4, explain=True)
    same = rec.explain([user], table["item_id"].to_list())
    for name in same.columns:
        if same[name].dtype.is_float():
            np.testing.assert_allclose(same[name], table[name], rtol=1e-4, atol=1e-5)
        else:
            assert same[name].to_list() == table[name].to_list()
    worst = rec.recommend([user], k=10**6)["item_id"][-1]
    assert rec.explain([user], worst)["item_id"].to_list() == [worst]


def test_titles_wherever_items_are(rec, titled):
    table = rec.recommend(ids_of(titled)[:4], k=30, explain=True)
    assert table["title"].to_list() == [title_of(item) for item in table["item_id"]]
    assert table["title"].null_count()
    shown = [None if item is None else title_of(item) for item in table["followers_of"]]
    assert table["followers_of_title"].to_list() == shown
    similar = rec.similar(table["item_id"][0], k=3)
    assert similar.columns == [
        *("item_id", "title", "rank", "similar_id", "similar_title", "cosine"),
    ]
    assert similar["similar_title"].to_list() == [title_of(item) for item in similar["similar_id"]]
    assert rec.items["item_id"].to_list() == titled.vocabulary.decode(
        np.arange(2, titled.vocabulary.size)
    )


def test_evaluate_gives_the_numbers_of_the_command(rec, titled_run):
    assert rec.evaluate("valid") == json.loads((titled_run / "valid.json").read_text())


def test_times_of_tables_are_numbers_or_dates(rec):
    frame = synthetic_log(SyntheticConfig(users=40)).head(5)
    dates = frame.with_columns(pl.from_epoch("timestamp"))
    assert rec.recommend(frame, k=3).equals(rec.recommend(dates, k=3))


def test_few_users_of_many_kinds(rec):
    empty = pl.DataFrame({name: [] for name in rec.names[:3]})
    assert rec.recommend(empty).is_empty()
    assert rec.recommend([]).columns[:4] == ["user_id", "rank", "item_id", "title"]
    assert rec.embed([]).shape[0] == 0


BAD = {
    "k": (lambda rec, user: rec.recommend([user], k=0), "k=0: must be >= 1"),
    "user": (lambda rec, user: rec.recommend([-5]), r"users=-5: is not in the log"),
    "candidate": (
        lambda rec, user: rec.recommend([user], candidates=[-7]),
        r"candidates=-7: is not in the catalogue",
    ),
    "exclude": (
        lambda rec, user: rec.recommend([user], exclude="abc"),
        r"exclude='abc': must be several ids",
    ),
    "at": (lambda rec, user: rec.recommend([user], at="now"), r"at='now': must be seconds"),
    "ats": (lambda rec, user: rec.recommend([user], at=[1, 2]), r"at: 2 values for 1 users"),
    "item": (lambda rec, user: rec.explain([user], [-7]), r"items=-7: is not in the catalogue"),
    "no item": (lambda rec, user: rec.explain([user], []), r"items: are none"),
    "nobody": (lambda rec, user: rec.explain([], [1]), r"users: are none"),
    "similar": (lambda rec, user: rec.similar(-7), r"items=-7: is not in the catalogue"),
    "split": (lambda rec, user: rec.evaluate("train"), r"split='train': must be test or valid"),
    "bytes": (lambda rec, user: rec.from_bytes(b"HTCN????"), r"state: "),
    "observed": (
        lambda rec, user: rec.observe(rec.start(2), [1, 2, 3], 5),
        r"items: 3 values for 2 users",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(rec, titled, case):
    ask, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        ask(rec, ids_of(titled)[0])


def test_what_is_allowed(rec, titled):
    """Repeated candidates, k above the catalogue, a time before the state's, unknown items."""
    user, items = ids_of(titled)[0], rec.items["item_id"].to_list()
    some = rec.recommend([user], k=10**6, candidates=items[:3] * 2)
    assert sorted(some["item_id"]) == sorted(items[:3])
    assert len(rec.recommend([user], k=10**6)) == len(items)
    before, now = rec.recommend([user], at=0), rec.recommend([user], at=None)
    assert before["score"].is_finite().all() and len(before) == len(now)
    state = rec.observe(rec.start(), -99, time=5, count=False)
    assert len(rec.recommend(state, k=3, exclude_seen=True)) == 3


def test_ids_of_the_manifest_are_those_of_the_titles(titled):
    report = open_data(titled.directory).manifest["items"]
    prepared = len(pl.read_parquet(titled.directory / "vocabulary.parquet"))
    assert report["titled"] + report["untitled"] == prepared > titled.vocabulary.size - 2
    assert report["untitled"] > 0
