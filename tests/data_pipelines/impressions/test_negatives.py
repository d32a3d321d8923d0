"""Impressions from files to negatives of events."""

import itertools
import json

import numpy as np
import polars as pl
import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories.manifest import load_manifest
from data_pipelines.histories.store import open_histories
from data_pipelines.prepare import prepare
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.batch import FIRST_ITEM_ID
from tests.data_pipelines.logs import small_times_config, write_csv

HEADER = "user_id,timestamp,shown,clicked"
DAY = 86_400
EVENTS = [
    (f"u{user}", f"i{(user + session + event) % 5}", DAY * session + 100 * event)
    for user, session, event in itertools.product(range(4), range(3), range(2))
]
"""Four users with a session of two events on each of three days; all items occur in training."""


def prepared(directory, *impressions, header=HEADER, **changes):
    """The manifest and, by user, the items shown with each event: sets of ids."""
    log = write_csv(directory / "log.csv", *(",".join(map(str, event)) for event in EVENTS))
    shown = write_csv(directory / "shown.csv", *impressions, header=header)
    config = {"output_dir": str(directory / "D"), "input": (log,), "impressions": (shown,)}
    manifest = prepare(small_times_config(**{**config, **changes}))
    return manifest, shown_by_user(config["output_dir"])


def shown_by_user(directory):
    vocabulary = Vocabulary.load(directory)
    by_user = {}
    for history in open_histories(directory, vocabulary.size):
        ends = np.cumsum(history.shown_counts)
        parts = np.split(history.shown_items, ends[:-1])
        by_user[history.user_id] = [set(vocabulary.decode(part)) for part in parts]
    return by_user


def test_clicks_are_joined_and_counted(tmp_path):
    manifest, shown = prepared(
        tmp_path,
        # u0 clicks i0 at 0 s and i1 at 100 s.
        f"u0,{30},i0 i2 i3,i0",
        "u0,161,i1 i2,i1",  # a second too late
        # u1 clicks i1 at 0 s, then i2 at 100 s: one list, two clicks, one item never clicked on.
        "u1,50,\"['i1', 'i2', 'i4', 'other']\",\"i2,i1\"",
        f"u2,{2 * DAY + 100},i0 i1,i0",
        "nobody,0,i0 i1,i1",
        "u3,0,i0 i1,",
    )
    nothing = [set()] * 6
    assert shown == {
        "u0": [{"i2", "i3"}, *nothing[1:]],
        "u1": [{"i4"}, {"i4"}, *nothing[2:]],
        "u2": [*nothing[:5], {"i1"}],
        "u3": nothing,
    }
    assert manifest["impressions"] == {
        "rows": 6,
        "rows_of_other_users": 1,
        "rows_used": 3,
        "drops": {},
        "unknown_items": 2,
        "cap": 100,
        "capped_events": 0,
        "splits": {
            "train": {"matched": 3, "unmatched": 5, "with_negatives": 3, "negatives": 4},
            "valid": {"matched": 0, "unmatched": 8, "with_negatives": 0, "negatives": 0},
            "test": {"matched": 1, "unmatched": 7, "with_negatives": 1, "negatives": 1},
        },
    }


def test_listed_items_are_known_even_if_nobody_clicked_them(tmp_path):
    listed = tmp_path / "ids.txt"
    listed.write_text("new\n")
    lists = ["u0,30,i0 i2 new other,i0"]
    manifest, shown = prepared(tmp_path, *lists, catalogue=str(listed))
    assert shown["u0"][0] == {"i2", "new"}
    assert manifest["impressions"]["unknown_items"] == 1


def test_sessions_get_all_that_was_shown_in_them(tmp_path):
    _, shown = prepared(
        tmp_path,
        "u0,0,i0 i2,i0",
        "u0,160,i3 i4,i3",
        f"u0,{DAY + 161},i0,",
        impression_join="session",
    )
    # Not i3, which was clicked in a list. Nothing on the second day: its list comes too late.
    assert shown["u0"] == [{"i2", "i4"}, {"i2", "i4"}, set(), set(), set(), set()]


@pytest.mark.parametrize("form", ["lists of integers", "lists of text", "categories", "single"])
def test_parquet_gives_the_same_as_text(tmp_path, form):
    events = [(user[1:], item[1:], time) for user, item, time in EVENTS]
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.cast(pl.Int64).write_parquet(tmp_path / "log.parquet")
    shown = [[0, 2, 3], [4, 1]] if form != "single" else [[2], [4]]
    clicked: list = [[0], []] if form != "single" else [[2], []]
    lists = pl.DataFrame({"user_id": [0, 1], "timestamp": [0, 0]}).with_columns(
        shown=pl.Series(shown, dtype=pl.List(pl.Int32)),
        clicked=pl.Series(clicked, dtype=pl.List(pl.Int32)),
    )
    text = lists.with_columns(pl.col("shown", "clicked").cast(pl.List(pl.String)).list.join(" "))
    text.write_csv(tmp_path / "lists.csv")
    if form == "lists of text":
        lists = lists.with_columns(pl.col("shown", "clicked").cast(pl.List(pl.String)))
    elif form == "categories":
        lists = text.with_columns(pl.col("shown", "clicked").cast(pl.Categorical))
    elif form == "single":
        lists = lists.with_columns(pl.col("shown", "clicked").list.first())
    lists.write_parquet(tmp_path / "lists.parquet")
    found = []
    for name in ("lists.parquet", "lists.csv"):
        manifest = prepare(
            small_times_config(
                output_dir=str(tmp_path / f"from {name}"),
                input=(str(tmp_path / "log.parquet"),),
                impressions=(str(tmp_path / name),),
                impression_join="session",
            )
        )
        found.append((manifest["content_hash"], shown_by_user(tmp_path / f"from {name}")))
    assert found[0] == found[1]
    assert found[0][1]["1"][0] == {4}


def long_lists(directory, **changes):
    """20 users with 200 events each; each event comes with 8 of the 9 other items."""
    rows = [
        (f"u{user}", f"i{event % 10}", 10_000 * event)
        for user, event in itertools.product(range(20), range(200))
    ]
    log = write_csv(directory / "log.csv", *(",".join(map(str, row)) for row in rows))
    lists = [
        f"{user},{time},{' '.join(f'i{i}' for i in range(10) if i != (time // 10_000 + 1) % 10)},"
        f"{item}"
        for user, item, time in rows
    ]
    shown = write_csv(directory / "shown.csv", *lists, header=HEADER)
    config = {"output_dir": str(directory / "D"), "input": (log,), "impressions": (shown,)}
    manifest = prepare(small_times_config(**{**config, **changes}))
    return manifest, list(open_histories(config["output_dir"]))


def test_a_cap_keeps_the_first_of_a_fixed_order_that_is_uniform(tmp_path):
    folders = [tmp_path / name for name in ("whole", "capped", "again", "reseeded")]
    for folder in folders:
        folder.mkdir()
    whole, all_items = long_lists(folders[0])
    capped, some_items = long_lists(folders[1], impression_cap=3)
    again, _ = long_lists(folders[2], impression_cap=3)
    reseeded, _ = long_lists(folders[3], impression_cap=3, seed=1)
    assert whole["impressions"]["capped_events"] == 0
    assert capped["impressions"]["capped_events"] == 4000
    assert capped["content_hash"] == again["content_hash"] != reseeded["content_hash"]
    counts = np.zeros(10)
    for everything, some in zip(all_items, some_items, strict=True):
        np.testing.assert_array_equal(everything.shown_counts, np.full(200, 8))
        kept = everything.shown_items.reshape(200, 8)[:, :3]
        np.testing.assert_array_equal(some.shown_items.reshape(200, 3), kept)
        counts += np.bincount(kept.ravel() - FIRST_ITEM_ID, minlength=10)
    # Each item is among the 8 of 3,200 events, and kept in 3/8 of them: 1,200, with a standard
    # deviation below sqrt(3200 * 3/8 * 5/8) = 27; the bound is six of them.
    np.testing.assert_allclose(counts, 1200, atol=162)


def test_without_impressions_the_hash_is_unchanged(tmp_path):
    log = write_csv(tmp_path / "log.csv", *(",".join(map(str, event)) for event in EVENTS))
    manifest = prepare(small_times_config(output_dir=str(tmp_path / "D"), input=(log,)))
    assert "impressions" not in manifest
    # The hash from before histories had impressions: runs on such data resume.
    digest = "a67ce6b5e3f9aa9db9c5358da7d3fae6348bd67c2dca5b991011c9ae33303143"
    assert manifest["content_hash"] == f"sha256:{digest}"
    for history in open_histories(tmp_path / "D"):
        assert len(history.shown_items) == len(history.shown_counts) == 0


BAD = {
    "no column": (
        {"header": "user_id,timestamp,clicked", "impressions": ["u0,0,i0"]},
        "shown.csv: header: column 'shown' is missing; found user_id, timestamp, clicked",
    ),
    "no rows": ({"impressions": []}, "shown.csv: no rows after the header"),
    "no user": (
        {"impressions": ["u0,0,i0,i0", ",0,i0,i0"]},
        "shown.csv: row 2 (line 3), column 'user_id': expected a value, got nothing",
    ),
    "no time": (
        {"impressions": ["u0,noon,i0,i0"]},
        "column 'timestamp': expected a number (s) or ISO 8601, got 'noon'",
    ),
    "nothing shown": (
        {"impressions": ["u0,0,i0,i0", 'u0,0,"[]",']},
        "shown.csv: row 2 (line 3), column 'shown': expected items, got nothing",
    ),
    "a click that was not shown": (
        {"impressions": ["u0,0,i0 i2,i1"]},
        "shown.csv: row 1 (line 2), column 'clicked': expected items of 'shown', got 'i1'",
    ),
    "other times": (
        {"impressions": ["u0,1700000000,i0 i1,i0"]},
        "none of the 1 lists of the log's users matches an event by click within 60 s",
    ),
    "other users": (
        {"impressions": ["v0,0,i0 i1,i0"]},
        "none of the 0 lists of the log's users matches an event by click",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_impressions_are_one_line(tmp_path, name):
    arguments, message = BAD[name]
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, *arguments["impressions"], header=arguments.get("header", HEADER))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "D").exists()


@pytest.mark.parametrize(
    "shown, message",
    [
        ([[1, 2], [3]], "row 2, column 'clicked': expected items of 'shown', got '1 2'"),
        ([[1, 2], [None]], "row 2, column 'shown': expected items, got nothing"),
        ([[1, 2], None], "row 2, column 'shown': expected items, got nothing"),
    ],
)
def test_bad_lists_in_parquet_are_one_line(tmp_path, shown, message):
    log = write_csv(tmp_path / "log.csv", *(",".join(map(str, event)) for event in EVENTS))
    lists = {"user_id": [0, 0], "timestamp": [0, 0], "shown": shown, "clicked": [[1], [1, 2]]}
    path = tmp_path / "shown.parquet"
    pl.DataFrame(lists).write_parquet(path)
    config = small_times_config(
        output_dir=str(tmp_path / "D"), input=(log,), impressions=(str(path),)
    )
    with pytest.raises(DataError) as caught:
        prepare(config)
    assert str(caught.value) == f"{path}: {message}; --on_bad_row=skip leaves such rows out"


def test_lists_of_something_else_are_one_line(tmp_path):
    log = write_csv(tmp_path / "log.csv", *(",".join(map(str, event)) for event in EVENTS))
    for column, other in (("shown", [[0.5]]), ("clicked", [[[1]]])):
        frame = pl.DataFrame({"user_id": [0], "timestamp": [0], "shown": [[1]], "clicked": [[1]]})
        path = tmp_path / f"{column}.parquet"
        frame.with_columns(pl.Series(column, other)).write_parquet(path)
        with pytest.raises(DataError, match=rf"{column}.parquet: column '{column}': expected "):
            prepare(
                small_times_config(
                    output_dir=str(tmp_path / "D"), input=(log,), impressions=(str(path),)
                )
            )


def test_bad_rows_can_be_skipped_and_are_counted(tmp_path):
    manifest, shown = prepared(
        tmp_path, "u0,0,i0 i2,i0", "u0,0,,", "u0,0,i3,i4", "u0,never,i3,", on_bad_row="skip"
    )
    assert manifest["impressions"]["rows"] == 1
    assert manifest["impressions"]["drops"] == {
        "unparsable time": 1,
        "nothing was shown": 1,
        "clicked but not shown": 1,
    }
    assert shown["u0"][0] == {"i2"}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"impression_cap": 0}, "impression_cap=0: must be >= 1"),
        ({"impression_tolerance": -1.0}, r"impression_tolerance=-1.0: must be in \[0"),
        ({"impression_tolerance": float("nan")}, r"impression_tolerance=nan: must be in \[0"),
        ({"impression_join": "user"}, "impression_join=user: must be one of click, session"),
    ],
)
def test_flags_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PrepareConfig(output_dir="D", input=("log.csv",), **changes)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda i: i.pop("cap"), "impressions.cap is missing"),
        (lambda i: i.update(rows=-1), "impressions.rows: expected a whole number >= 0, got -1"),
        (lambda i: i["splits"]["test"].update(matched=9), "impressions.splits.test: matched"),
        (lambda i: i["splits"].pop("test"), "impressions.splits.test is missing"),
    ],
)
def test_a_contradictory_manifest_is_refused(tmp_path, change, message):
    prepared(tmp_path, "u0,0,i0 i1,i0")
    path = tmp_path / "D" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest["impressions"])
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=message):
        load_manifest(tmp_path / "D")
