import re

import numpy as np
import polars as pl
import pytest

from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories.manifest import load_manifest
from data_pipelines.histories.store import open_histories
from data_pipelines.prepare import Asked, main, prepare
from data_pipelines.sessions.vocabulary import Vocabulary
from data_pipelines.synthetic import SyntheticConfig, synthetic_log
from tests.data_pipelines.logs import write_csv
from tests.data_pipelines.prepare_logs import INTEGERS, ROWS, config_of, rows_of, seconds
from tests.volume import mostly_thorough


def test_the_whole_way(tmp_path):
    manifest = prepare(config_of(tmp_path))
    output = tmp_path / "D"
    assert load_manifest(output) == manifest
    assert sorted(path.name for path in output.iterdir()) == [
        "histories",
        "log",
        "manifest.json",
        "vocabulary.parquet",
    ]
    assert manifest["counts"]["events"] == 30
    for part in manifest["counts"]["splits"].values():
        assert part["events"] == {"all": 10, "first": 5, "next": 5}
    source, vocabulary = open_histories(output), Vocabulary.load(output)
    assert [history.user_id for history in source] == [f"user {k}" for k in range(5)]
    assert vocabulary.decode(source[1].item_ids) == ["item 1"] * 2 + ["item 2"] * 2 + ["item 3"] * 2
    assert source[1].times.tolist() == [day * 86_400 + 1 + k for day in range(3) for k in (0, 10)]
    assert source[1].session_splits.tolist() == [0, 1, 2]


def test_the_hash_is_of_the_content(tmp_path):
    path = write_csv(tmp_path / "log.csv", *ROWS)
    pl.read_csv(path).write_parquet(tmp_path / "log.parquet")
    other = write_csv(tmp_path / "other.csv", *ROWS[:-1], ROWS[-1] + "0")
    hashes = [
        prepare(config_of(tmp_path, output_dir=str(tmp_path / str(k)), input=(source,)))[
            "content_hash"
        ]
        for k, source in enumerate((path, path, str(tmp_path / "log.parquet"), other))
    ]
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]


def test_the_parts_of_the_manifest_sum_up(tmp_path):
    manifest = prepare(config_of(tmp_path, synthetic="planted", synthetic_users=200, split="time"))
    counts = manifest["counts"]
    frame = synthetic_log(SyntheticConfig(users=200))
    assert counts["events"] == len(frame)
    assert counts["sessions"] == frame["session_id"].n_unique()
    parts = counts["splits"].values()
    assert sum(part["events"]["all"] for part in parts) == counts["events"]
    assert sum(part["sessions"] for part in parts) == counts["sessions"]
    histories = list(open_histories(tmp_path / "D"))
    items = np.concatenate([history.item_ids for history in histories])
    is_later = items >= 2 + counts["items"]
    assert np.sum(is_later) == sum(part["unknown_items"]["all"] for part in parts) > 0
    assert items.min() == 2
    assert items.max() == 1 + counts["items"] + counts["later_items"]


def test_users_of_one_event_are_kept_and_counted(tmp_path):
    path = write_csv(tmp_path / "log.csv", *ROWS, "lonely,item 0,7")
    manifest = prepare(config_of(tmp_path, input=(path,)))
    assert manifest["counts"]["users_too_short"] == 1
    assert manifest["counts"]["users"] == 6
    assert open_histories(tmp_path / "D")[0].user_id == "lonely"


def test_a_user_with_100_000_events(tmp_path):
    events = np.arange(100_000)
    pl.DataFrame(
        {"user_id": "all", "item_id": events % 10, "timestamp": events // 100 * 3600}
    ).write_parquet(tmp_path / "log.parquet")
    manifest = prepare(config_of(tmp_path, input=(str(tmp_path / "log.parquet"),)))
    assert manifest["counts"]["sessions"] == 1000
    (history,) = open_histories(tmp_path / "D")
    # A hundred events at each moment keep the order of the input.
    np.testing.assert_array_equal(
        Vocabulary.load(tmp_path / "D").encode([str(k % 10) for k in events]), history.item_ids
    )


def test_drops_are_counted_by_reason(tmp_path):
    path = write_csv(tmp_path / "log.csv", *ROWS, ROWS[-1] + "9", "a,b", "rare,rare,5")
    manifest = prepare(
        config_of(
            tmp_path,
            input=(path,),
            on_bad_row="skip",
            collapse_repeats=True,
            min_item_events=2,
            drop_where="user_id=user 0",
        )
    )
    assert manifest["drops"] == [
        {"reason": "drop_where user_id=user 0", "events": 6, "users": 0, "items": 0},
        {"reason": "too few fields", "events": 1, "users": 0, "items": 0},
        {"reason": "collapse_repeats", "events": 12, "users": 0, "items": 0},
        {"reason": "min_item_events=2", "events": 1, "users": 1, "items": 1},
    ]


def test_the_summary_fits_80_columns_and_says_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    directory = tmp_path / "my [red]log"
    main(Asked(PrepareConfig(synthetic="planted", synthetic_users=30, output_dir=str(directory))))
    lines = capsys.readouterr().out.splitlines()
    *summary, command = filter(None, lines)
    assert max(len(line) for line in summary if str(directory) not in line) <= 80
    assert command == f"to train on it: hiertcn train --data_dir='{directory}' --workdir=RUN"
    counts = load_manifest(directory)["counts"]["splits"]
    for name, part in counts.items():
        numbers = [part["users"], part["sessions"], *part["events"].values()]
        row = [name, *(f"{n:,}" for n in (*numbers, part["unknown_items"]["all"]))]
        assert row in [line.split() for line in summary]


@pytest.mark.parametrize("runner", mostly_thorough([None, "DirectRunner"], None))
def test_a_log_given_twice_is_reported(tmp_path, runner, capsys):
    """As CSV and as Parquet, with floats."""
    path = write_csv(tmp_path / "a.csv", *rows_of(INTEGERS))
    other = pl.read_csv(path).with_columns(pl.col("user_id").cast(pl.Float64))
    other.write_parquet(tmp_path / "a.parquet")
    output = tmp_path / "D"
    inputs = (path, str(tmp_path / "a.parquet"))
    main(Asked(PrepareConfig(input=inputs, output_dir=str(output), runner=runner)))
    said = " ".join(capsys.readouterr().out.split())
    assert "identical rows: 30 of 60 are the same as an earlier one in user, item and time" in said
    assert "50%: is a file, or the whole log, in --input twice?" in said
    manifest = load_manifest(output)
    assert manifest["ids"] == {"user": "int64", "item": "int64"}
    assert manifest["counts"]["users"] == 5
    assert (manifest["log"]["rows"], manifest["log"]["identical_rows"]) == (60, 30)


@pytest.mark.parametrize("runner", mostly_thorough([None, "DirectRunner"], None))
def test_null_users_are_no_users(tmp_path, runner):
    """A public log has 7,681 of its 12,391 events by a user NA, all of valid and test."""
    nobody = [("NA", 10, seconds(7, day)) for day in range(90)]
    path = write_csv(tmp_path / "log.csv", *rows_of(INTEGERS + nobody))
    common = {"input": (path,), "runner": runner}
    with pytest.raises(
        DataError, match=r"row 31 .* got 'NA', which means a missing value; --on_bad"
    ):
        prepare(PrepareConfig(output_dir=str(tmp_path / "D"), **common))
    manifest = prepare(PrepareConfig(output_dir=str(tmp_path / "D"), on_bad_row="skip", **common))
    assert manifest["drops"] == [{"reason": "null user_id", "events": 90, "users": 0, "items": 0}]
    assert manifest["ids"] == {"user": "int64", "item": "int64"}
    assert manifest["counts"]["users"] == 5
    manifest = prepare(PrepareConfig(output_dir=str(tmp_path / "E"), null_values=(), **common))
    assert manifest["ids"] == {"user": "string", "item": "int64"}
    assert manifest["log"]["frequent_users"] == [{"id": "NA", "events": 90}]
    assert manifest["log"]["frequent_items"][0] == {"id": 10, "events": 102}


@pytest.mark.parametrize("runner", mostly_thorough([None, "DirectRunner"], None))
def test_ids_keep_their_type_from_file_to_file(tmp_path, runner):
    """One file has integers, one floats, one text: all of them decide the type together."""
    whole = write_csv(tmp_path / "a.csv", *rows_of(INTEGERS[:20]))
    floats = [(float(user), item, time) for user, item, time in INTEGERS[20:]]
    gap = write_csv(tmp_path / "b.csv", *rows_of(floats))
    listed = tmp_path / "ids.txt"
    listed.write_text("99\n10.0\n")
    made = {}
    for name, changes in {
        "integers": {"input": (whole, gap)},
        "listed": {"input": (whole, gap), "catalogue": str(listed)},
        "one of text": {"input": (whole, gap, write_csv(tmp_path / "c.csv", "x,10,1600000000"))},
    }.items():
        output = str(tmp_path / f"{name} {runner}")
        manifest = prepare(PrepareConfig(output_dir=output, runner=runner, **changes))
        users = [history.user_id for history in open_histories(output)]
        item_ids = pl.read_parquet(f"{output}/vocabulary.parquet")["item_id"]
        made[name] = manifest["ids"], users, item_ids.to_list()
    five = ["0", "1", "2", "3", "4"]
    assert made == {
        "integers": ({"user": "int64", "item": "int64"}, five, [10, 11, 12]),
        "listed": ({"user": "int64", "item": "int64"}, five, [10, 11, 12, 99]),
        "one of text": ({"user": "string", "item": "int64"}, [*five, "x"], [10, 11, 12]),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_item_events": 99}, "the filters leave nothing: min_item_events=99 dropped 30"),
        ({"split": "time", "valid_after": "1", "test_after": "2030-01-01"}, "test part is left"),
        ({"user_column": "nobody"}, "column 'nobody' is missing"),
        ({"input": ("missing.csv",)}, "missing.csv: no such file"),
    ],
)
def test_unusable_input_leaves_nothing(tmp_path, changes, message):
    config = config_of(tmp_path, **changes)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match=re.escape(message)):
        prepare(config)
    assert sorted(tmp_path.iterdir()) == before


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("data_pipelines.prepare.save_manifest", fail)
    config = config_of(tmp_path)
    with pytest.raises(OSError, match="disk full"):
        prepare(config)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_an_existing_output_is_kept(tmp_path):
    config = config_of(tmp_path)
    prepare(config)
    with pytest.raises(DataError, match="is not empty"):
        prepare(config)
