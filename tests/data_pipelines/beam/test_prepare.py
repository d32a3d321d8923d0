"""Apache Beam, in one process, prepares byte for byte the same as a single machine."""

import bz2
import gzip
import json
import lzma
import re
import zipfile

import numpy as np
import polars as pl
import pytest
import zstandard

from data_pipelines.beam import records, stages
from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories import store
from data_pipelines.prepare import prepare
from data_pipelines.raw import tfds_source
from tests.data_pipelines.raw.test_tfds_source import build as build_ratings
from tests.volume import mostly_thorough

USERS, ITEMS, EVENTS = 60, 25, 1500


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Three files; times with many ties, rare items, short users, bad rows; two of impressions."""
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
    (directory / "shown").mkdir()
    lists = lists_of(frame, random)
    lists[::2].write_parquet(directory / "shown" / "0.parquet")
    text = lists[1::2].with_columns(pl.col("shown", "clicked").list.join(" "))
    text.write_csv(directory / "shown" / "1.csv")
    with (directory / "shown" / "1.csv").open("a") as file:
        file.write("ü3,1600000000,4 5,6\nü3,1600000000,,\nü4,1e99,4 5,5\n")
    (directory / "shown" / "2.csv").write_text("user_id,timestamp,shown,clicked\nü3,never,4,4\n")
    (directory / "shown" / "far.csv").write_text(
        "user_id,timestamp,shown,clicked\nü3,1500000000,4,4\n"
    )
    (directory / "later.csv.gz").write_bytes(gzip.compress(b"user_id,item_id,timestamp\na,,2\n"))
    return directory


def lists_of(frame, random):
    """Two lists near half of the events, often equally near; duplicates; users without events."""
    times = frame["timestamp"].to_numpy()
    rows = []
    for place in random.integers(0, len(frame), len(frame) // 2).tolist():
        user, item = frame["user_id"][place], str(frame["item_id"][place])
        for seconds in random.integers(-70, 70, 2).tolist() + [30, -30][: place % 3]:
            shown = [str(other) for other in random.integers(0, ITEMS + 3, 6).tolist()]
            shown += [item, "new"][: 1 + place % 2]
            rows.append((user, int(times[place]) + seconds, shown, [item] if place % 5 else []))
    rows += [(f"nobody {k}", 1_600_000_000, ["1", "2"], ["1"]) for k in range(20)]
    return pl.DataFrame(rows, ["user_id", "timestamp", "shown", "clicked"], orient="row")


LISTS = ("shown/*.parquet", "shown/1.csv")

CASES = {
    "gaps, clicks": {"gap_minutes": 90.0, "impressions": LISTS, "impression_cap": 4, "seed": 7},
    "filters in rounds": {
        "min_item_events": 40, "min_user_events": 12, "max_user_events": 70, "min_sessions": 3,
        "collapse_repeats": True, "drop_where": "kind=4", "split": "time", "valid_fraction": 0.13,
    },
    "session ids, users, what was shown": {
        "session_column": "session_id", "gap_minutes": 300.0, "split": "user", "impressions": LISTS,
        "impression_join": "session", "impression_tolerance": 20.0, "catalogue": "ids.txt",
        "impression_cap": 15,
    },
    "times": {
        "split": "time", "valid_after": "1600150000", "test_after": "1600190000",
        "min_item_events": 2, "catalogue": "ids.txt", "svd_embeddings": 5,
    },
}  # fmt: skip


def contents(directory):
    """Every file but those of log/, which a pipeline does not keep; the manifest without flags."""
    files = {
        name: path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and (name := path.relative_to(directory).as_posix()) != "manifest.json"
    }
    manifest = json.loads((directory / "manifest.json").read_text())
    for name in [name for name in files if name.startswith("log/")]:
        del files[name], manifest["files"][name]
    del manifest["flags"]
    manifest["drops"] = sorted(manifest["drops"], key=lambda drop: drop["reason"])
    return files, manifest


@pytest.mark.parametrize(
    "case",
    mostly_thorough(CASES, "filters in rounds", "session ids, users, what was shown"),
)
def test_a_pipeline_makes_what_one_machine_makes(log, tmp_path, monkeypatch, case):
    monkeypatch.chdir(log)
    for module in (store, records):
        monkeypatch.setattr(module, "RECORDS_PER_SHARD", 17)
    if "impressions" in CASES[case]:
        # Some parts are empty.
        monkeypatch.setattr(stages, "_LEAST_PARTS", 40)
    made = {}
    for runner in (None, "DirectRunner"):
        config = PrepareConfig(
            input=(str(log / "*.csv"),), output_dir=str(tmp_path / str(runner)), runner=runner,
            on_bad_row="skip", **CASES[case],
        )  # fmt: skip
        prepare(config)
        made[runner] = contents(tmp_path / str(runner))
    assert len(made[None][0]) > 4
    merged = made[None][1]["merged_sessions"]
    assert (merged["sessions"] > 2 * merged["into"] > 50) == ("session_column" in CASES[case])
    if "impressions" in CASES[case]:
        # The log contains everything that could make a difference.
        shown = made[None][1]["impressions"]
        assert len(shown["drops"]) == 3 and shown["rows_of_other_users"] == 20
        assert shown["unknown_items"] > 100 and shown["splits"]["test"]["unmatched"] > 10
        assert shown["rows_used"] > 200 and shown["capped_events"] > 50
    assert made[None][1] == made["DirectRunner"][1]
    assert made[None][0] == made["DirectRunner"][0]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_files_of_all_formats_are_read_as_on_one_machine(log, tmp_path):
    frame = pl.read_csv(log / "2.csv")["user_id", "item_id", "timestamp"]
    text = [frame[start : start + 100].write_csv().encode() for start in range(0, 500, 100)]
    files = tmp_path / "files"
    files.mkdir()
    frame[500:600].write_ndjson(files / "a.jsonl")
    (files / "b.csv.bz2").write_bytes(bz2.compress(text[0]))
    (files / "c.csv.xz").write_bytes(lzma.compress(text[1]))
    (files / "d.csv.zst").write_bytes(zstandard.ZstdCompressor().compress(text[2]))
    with zipfile.ZipFile(files / "e.zip", "w") as archive:
        archive.writestr("e.csv", text[3])
    inter = text[4].replace(b",", b"\t").replace(b"user_id", b"user_id:token")
    (files / "f.inter").write_bytes(inter)
    (files / "_SUCCESS").write_text("")
    made = {}
    for runner in (None, "DirectRunner"):
        config = PrepareConfig(
            input=(str(files / "*"),), output_dir=str(tmp_path / str(runner)), runner=runner
        )
        prepare(config)
        made[runner] = contents(tmp_path / str(runner))
    assert made[None] == made["DirectRunner"]
    assert made[None][1]["counts"]["events"] == 600


def test_a_tfds_dataset_is_read_in_ranges(tmp_path, monkeypatch):
    """Ranges of one split are read after those of another, as on a single machine."""
    start = 1_000_000_000
    ratings = [
        {"user_id": f"u{place % 7}", "movie_id": place % 5, "timestamp": start + place // 35 * 3600}
        for place in range(350)
    ]
    build_ratings(tmp_path / "ratings", {"train": ratings[:200], "test": ratings[200:]})
    monkeypatch.setattr(tfds_source, "_RECORDS_OF_RANGE", 30)
    made = {}
    for runner in (None, "DirectRunner"):
        config = PrepareConfig(
            tfds="ratings/tiny", tfds_data_dir=str(tmp_path / "ratings"), runner=runner,
            item_column="movie_id", output_dir=str(tmp_path / str(runner)),
        )  # fmt: skip
        prepare(config)
        made[runner] = contents(tmp_path / str(runner))
    assert made[None] == made["DirectRunner"]
    assert made[None][1]["counts"]["events"] == 350


FAULTS = [
    ({}, r"^0\.csv: row 701 \(line 702\), column 'item_id': expected a value, got nothing; --"),
    ({"on_bad_row": "skip", "min_user_events": 999}, r"the filters leave nothing: min_user_ev"),
    ({"input": ("*.csv",), "on_bad_row": "skip", "drop_where": "kind<9"},
     r"no rows are left of the log \("),
    ({"on_bad_row": "skip", "session_column": "nix"}, r"0\.csv: header: column 'nix' is miss"),
    ({"input": ("1.csv",), "min_sessions": 1}, r"split=last_session: the valid part is left e"),
    ({"input": ("1.csv", "2.csv"), "impressions": ("shown/*.csv",)},
     r"^shown/1\.csv: row \d+ \(line \d+\), column 'timestamp': expected a time before"),
    ({"input": ("2.csv",), "impressions": ("shown/nix.csv",)}, "shown/nix.csv: no such file"),
    ({"input": ("2.csv",), "impressions": LISTS[:1], "impression_clicked_column": "nix"},
     r"^shown/0\.parquet: header: column 'nix' is missing"),
    ({"input": ("2.csv",), "svd_embeddings": 99},
     r"^svd_embeddings=99: must be below the number of items in train, \d\d; lower it"),
    ({"input": ("2.csv",), "impressions": ("shown/far.csv",)},
     r"^impressions: none of the 1 lists of the log's users matches an event by click "),
]  # fmt: skip


@pytest.mark.parametrize("changes, message", mostly_thorough(FAULTS, *FAULTS[::5]))
def test_errors_equal_those_of_one_machine_and_leave_nothing(
    log, tmp_path, monkeypatch, changes, message
):
    """Of several bad rows, the one in the first file is named, whichever worker finishes first."""
    monkeypatch.chdir(log)
    said = {}
    for runner in (None, "DirectRunner"):
        config = PrepareConfig(
            **{"input": ("*.csv", "later.csv.gz"), "output_dir": str(tmp_path / "out"), **changes},
            runner=runner,
        )  # fmt: skip
        with pytest.raises(DataError, match=message) as caught:
            prepare(config)
        said[runner] = str(caught.value)
        assert list(tmp_path.iterdir()) == []
    assert said[None] == said["DirectRunner"]
    assert "\n" not in said[None]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"input": (), "synthetic": "planted"}, "synthetic=planted: not with runner: one"),
        ({"runner": None, "pipeline_options": "--x"}, "pipeline_options=--x: has no use without"),
    ],
)
def test_options_without_use_in_a_pipeline_are_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PrepareConfig(
            **{"input": ("a.csv",), "output_dir": "D", "runner": "DirectRunner", **changes}
        )
