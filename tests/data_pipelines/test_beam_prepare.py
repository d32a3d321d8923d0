"""A preparation by Apache Beam is that of one machine; byte for byte, made in one process."""

import json
import re

import numpy as np
import polars as pl
import pytest

from data_pipelines.beam import records
from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories import store
from data_pipelines.prepare import prepare

USERS, ITEMS, EVENTS = 60, 25, 1500


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Three files; times with many ties, rare items, short users, bad rows."""
    random = np.random.default_rng(3)
    directory = tmp_path_factory.mktemp("log")
    frame = pl.DataFrame(
        {
            "user_id": [f"ü{user}" for user in random.geometric(0.05, EVENTS) % USERS],
            "item_id": random.geometric(0.15, EVENTS) % ITEMS,
            "timestamp": random.integers(0, 400, EVENTS) * 600 + 1_600_000_000,
            "session_id": random.integers(0, 9, EVENTS),
            "kind": random.integers(0, 5, EVENTS),
        }
    )
    (directory / "ids.txt").write_text("19\nnew\n24\n3\nbrand-new\n")
    for number, part in enumerate((frame[:700], frame[700:701], frame[701:])):
        part.write_csv(directory / f"{number}.csv")
    with (directory / "0.csv").open("a") as file:
        file.write("someone,,1600000000,1,1\nsomeone,3,never,1,1\n")
    return directory


CASES = {
    "gaps": {"gap_minutes": 90.0},
    "filters in rounds": {
        "min_item_events": 40, "min_user_events": 12, "max_user_events": 70, "min_sessions": 3,
        "collapse_repeats": True, "drop_where": "kind=4",
    },
    "session ids, users": {"session_column": "session_id", "split": "user"},
    "times": {
        "split": "time", "valid_after": "1600150000", "test_after": "1600190000",
        "min_item_events": 2, "catalogue": "ids.txt",
    },
}  # fmt: skip


def contents(directory):
    """Every file, and the manifest without the flags."""
    files = {
        path.relative_to(directory): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["flags"]
    manifest["drops"] = sorted(manifest["drops"], key=lambda drop: drop["reason"])
    return files, manifest


@pytest.mark.parametrize("case", CASES)
def test_a_pipeline_makes_what_one_machine_makes(log, tmp_path, monkeypatch, case):
    monkeypatch.chdir(log)
    for module in (store, records):
        monkeypatch.setattr(module, "RECORDS_PER_SHARD", 17)
    made = {}
    for runner in (None, "DirectRunner"):
        config = PrepareConfig(
            input=(str(log / "*.csv"),), output_dir=str(tmp_path / str(runner)), runner=runner,
            on_bad_row="skip", **CASES[case],
        )  # fmt: skip
        prepare(config)
        made[runner] = contents(tmp_path / str(runner))
    assert len(made[None][0]) > 4
    assert made[None][1] == made["DirectRunner"][1]
    assert made[None][0] == made["DirectRunner"][0]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "changes, message",
    [
        ({}, r"/0\.csv: row \d+ .*, column 'item_id': expected a value, got nothing"),
        ({"on_bad_row": "skip", "min_user_events": 999}, r"the filters leave nothing: min_user_ev"),
        ({"on_bad_row": "skip", "drop_where": "kind<9"}, r"no rows are left of the log \("),
        ({"on_bad_row": "skip", "session_column": "nix"}, r"0\.csv: header: column 'nix' is miss"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_log_is_said_in_one_line_and_nothing_is_left(
    log, tmp_path, changes, message
):
    config = PrepareConfig(
        input=(str(log / "*.csv"),), output_dir=str(tmp_path / "out"), runner="DirectRunner",
        **changes,
    )  # fmt: skip
    with pytest.raises(DataError, match=message) as caught:
        prepare(config)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"input": (), "synthetic": "planted"}, "runner=DirectRunner: needs input"),
        ({"split": "time"}, "split=time: with runner needs valid_after and test_after"),
        ({"impressions": ("b.csv",)}, "impressions=b.csv: not with runner"),
        ({"svd_embeddings": 4}, "svd_embeddings=4: not with runner"),
        ({"runner": None, "pipeline_options": "--x"}, "pipeline_options=--x: has no use without"),
    ],
)
def test_what_a_pipeline_does_not_do_is_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PrepareConfig(
            **{"input": ("a.csv",), "output_dir": "D", "runner": "DirectRunner", **changes}
        )
