"""Prepared directories with files damaged, missing, moved, or made to mislead."""

import dataclasses
import json
import os
import shutil
from random import Random

import numpy as np
import polars as pl
import pytest

from data_pipelines.errors import DataError
from data_pipelines.histories.manifest import load_manifest, save_manifest
from data_pipelines.histories.prepared_files import describe_files
from data_pipelines.histories.record import History
from data_pipelines.histories.store import open_histories, write_histories
from experiments.runs.data import open_data
from tests.hostile.damage import damaged, flipped, truncated
from tests.hostile.outcomes import Outcomes
from tests.volume import few

AGAIN = "; prepare it again"
KINDS = {
    "no manifest": r"/.+/manifest\.json: no such file; .+",
    "manifest": r"/.+/manifest\.json: (?!no such file|is a link|is not in).+",
    "not in it": r"/.+: is not in manifest\.json" + AGAIN,
    "file": r"/.+: no such file, but manifest\.json has it" + AGAIN,
    "size": r"/.+: expected \d+ bytes, got \d+" + AGAIN,
    "hash": r"/.+: has changed: its SHA-256 is not that of manifest\.json" + AGAIN,
    "link": r"/.+: is a link to .+, out of .+",
    "counts": r"/.+: \d+ [\w. ]+, but manifest\.json counts \d+" + AGAIN,
    "record": r"/.+/histories/1\.0\.0: history \d+: .+" + AGAIN,
}


@pytest.fixture
def rooms(prepared_dir, tmp_path):
    """Makes a copy of the prepared directory for each input."""

    def room(name):
        return shutil.copytree(prepared_dir, tmp_path / str(name))

    return room


def read_all(directory):
    """The content of a prepared directory, as plain values."""
    data = open_data(directory)
    histories = data.histories.__getitems__(list(range(len(data.histories))))
    plain = [
        (one.user_id, one.item_ids.tolist(), one.times.tolist(), one.session_lengths.tolist(),
         one.session_splits.tolist())
        for one in histories
    ]  # fmt: skip
    vocabulary = data.vocabulary
    return plain, vocabulary.item_ids.to_list(), vocabulary.counts_v.tolist()


def damage_a_file(rng, directory):
    """Damages one file in some way; returns a description."""
    path = rng.choice(sorted(path for path in directory.rglob("*") if path.is_file()))
    if rng.random() < 0.1:
        (path,) = directory.rglob("*.array_record-*")
        data = path.read_bytes()
        # A small file is mostly padding.
        place = rng.choice([place for place, octet in enumerate(data) if octet])
        path.write_bytes(data[:place] + flipped(rng, data[place:][:1]) + data[place + 1 :])
        return f"byte {place} of the records"
    kind = rng.choice(("bytes", "bytes", "bit", "bit", "cut", "gone", "moved", "link", "foreign",
                       "fifo", "folder", "twin"))  # fmt: skip
    if kind in ("bytes", "bit", "cut"):
        change = {"bytes": damaged, "bit": flipped, "cut": truncated}[kind]
        path.write_bytes(change(rng, path.read_bytes()))
    elif kind == "foreign":
        (path.parent / rng.choice(("notes.txt", "x.parquet", ".hidden", "a b"))).write_text("x")
    elif kind == "twin":
        shutil.copy(path, path.with_name(path.name + "-00001"))
    else:
        aside = directory.parent / f"{directory.name}-{path.name}"
        path.rename(path.with_name(f"{path.name}.old") if kind == "moved" else aside)
        if kind == "link":
            path.symlink_to(aside)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
    return f"{kind} {path.name}"


def test_a_damaged_directory_is_refused_or_holds_what_it_held(prepared_dir, rooms):
    expected = read_all(prepared_dir)
    outcomes, inputs = Outcomes(KINDS), few(60, of=400)
    for seed in range(inputs):
        rng, directory = Random(seed), rooms(seed)
        done = damage_a_file(rng, directory)
        try:
            assert read_all(directory) == expected, (seed, done)
        except DataError as error:
            outcomes.refused(error)
        else:
            outcomes.right()
        shutil.rmtree(directory)
    outcomes.require(inputs, never=("counts",))


def sign(directory):
    """Updates the manifest's checksums to the files as they now are."""
    manifest = load_manifest(directory)
    (directory / "manifest.json").unlink()
    manifest.pop("schema_version")
    save_manifest(directory, {**manifest, "files": describe_files(directory)})


def edit_json(name, edit):
    def change(directory):
        path = directory / "histories" / "1.0.0" / name
        values = json.loads(path.read_text())
        edit(values)
        path.write_text(json.dumps(values))

    return change


def split_of(info):
    return info["splits"][0]


def edit_vocabulary(edit):
    def change(directory):
        path = directory / "vocabulary.parquet"
        edit(pl.read_parquet(path)).write_parquet(path)

    return change


def edit_histories(edit):
    def change(directory):
        histories = [*open_histories(directory)]
        shutil.rmtree(directory / "histories")
        histories[3] = edit(histories[3])
        write_histories(directory, histories)

    return change


def swap(history, **changes):
    return dataclasses.replace(history, **changes)


MISLEADING = {
    "a shard elsewhere": (
        edit_json("dataset_info.json", lambda v: split_of(v).update(filepathTemplate="../{SPLIT}")),
        r"dataset_info\.json: splits: '\.\./\{SPLIT\}' is no name of a file beside it",
    ),
    "a shard anywhere": (
        edit_json("dataset_info.json", lambda v: split_of(v).update(filepathTemplate="/etc/x")),
        r"'/etc/x' is no name of a file beside it",
    ),
    "a format elsewhere": (
        edit_json("dataset_info.json", lambda v: v.update(fileFormat="../x")),
        r"'\.\./x' is no name of a file beside it",
    ),
    "a class elsewhere": (
        edit_json("features.json", lambda v: v.update(pythonClassName="tests.evil.Evil")),
        r"features\.json: 'tests\.evil\.Evil' is no class of tensorflow_datasets",
    ),
    "a class of older versions": (
        edit_json("features.json", lambda v: v.update(type="evil.Evil", content={})),
        r"'evil\.Evil' is no class of tensorflow_datasets",
    ),
    "no dataset": (
        edit_json("dataset_info.json", lambda v: v.clear()),
        r"dataset_info\.json: does not describe a dataset: KeyError",
    ),
    "splits of another type": (
        edit_json("dataset_info.json", lambda v: v.update(splits=3)),
        r"dataset_info\.json: does not describe a dataset: TypeError",
    ),
    "another split": (
        edit_json("dataset_info.json", lambda v: split_of(v).update(name="others")),
        r"histories/1\.0\.0: cannot be read: ",
    ),
    "more records than there are": (
        edit_json("dataset_info.json", lambda v: split_of(v).update(shardLengths=["21"])),
        r"21 histories, but manifest\.json counts 20; prepare it again",
    ),
    "more shards than there are": (
        edit_json("dataset_info.json", lambda v: split_of(v).update(shardLengths=["10", "10"])),
        r"array_record-00001: no such file",
    ),
    "lengths of another type": (
        edit_json("dataset_info.json", lambda v: split_of(v).update(shardLengths=["x"])),
        r"histories/1\.0\.0: cannot be read: ",
    ),
    "another version": (
        edit_json("dataset_info.json", lambda v: v.update(version="9.9.9")),
        r"histories/1\.0\.0: cannot be read: ",
    ),
    "fewer items": (
        edit_vocabulary(lambda frame: frame.head(-1)),
        r"\d+ (later )?items in vocabulary\.parquet, but manifest\.json counts \d+",
    ),
    "more items": (
        edit_vocabulary(
            lambda frame: pl.concat(
                [frame, frame.tail(1).with_columns(pl.col("index") + 1, pl.col("item_id") + 10**9)]
            )
        ),
        r"\d+ (later )?items in vocabulary\.parquet, but manifest\.json counts \d+",
    ),
    "items in another order": (
        edit_vocabulary(lambda frame: frame.reverse()),
        r"vocabulary\.parquet: index: expected 2, 3, ",
    ),
    "an item twice": (
        edit_vocabulary(lambda frame: frame.with_columns(item_id=pl.lit("x"))),
        r"vocabulary\.parquet: item_id: an item occurs twice",
    ),
    "an item without id": (
        edit_vocabulary(lambda frame: frame.with_columns(item_id=pl.lit(None, pl.String))),
        r"vocabulary\.parquet: expected the types .+, without nulls",
    ),
    "counts of another type": (
        edit_vocabulary(lambda frame: frame.cast({"train_events": pl.Float64})),
        r"vocabulary\.parquet: expected the types .+, without nulls",
    ),
    "other columns": (
        edit_vocabulary(lambda frame: frame.drop("valid_events")),
        r"vocabulary\.parquet: expected the columns index, item_id, train_events, valid_events",
    ),
    "other counts": (
        edit_vocabulary(lambda frame: frame.with_columns(pl.col("train_events") + 1)),
        r"\d+ train events in vocabulary\.parquet, but manifest\.json counts \d+",
    ),
    "no events": (
        edit_vocabulary(lambda frame: frame.with_columns(train_events=pl.lit(-1, pl.Int64))),
        r"vocabulary\.parquet: expected train_events >= 0 and valid_events >= 0",
    ),
    "an item beyond the table": (
        edit_histories(lambda h: swap(h, item_ids=h.item_ids + np.int32(10_000))),
        r"history 3: item_ids: \d+ to \d+ are not all rows of the item table",
    ),
    "padding as an item": (
        edit_histories(lambda h: swap(h, item_ids=h.item_ids * np.int32(0))),
        r"history 3: item_ids: 0 to 0 are not all rows of the item table",
    ),
    "times missing": (
        edit_histories(lambda h: swap(h, times=h.times[1:])),
        r"history 3: item_ids and times differ in length",
    ),
    "splits missing": (
        edit_histories(lambda h: swap(h, session_splits=h.session_splits[1:])),
        r"history 3: session_lengths and session_splits differ in length",
    ),
    "sessions too long": (
        edit_histories(lambda h: swap(h, session_lengths=h.session_lengths + np.int32(1))),
        r"history 3: session_lengths do not add up to the events",
    ),
    "parts out of order": (
        edit_histories(lambda h: swap(h, session_splits=h.session_splits[::-1].copy())),
        r"history 3: session_splits: expected train, then valid, then test",
    ),
    "an unknown part": (
        edit_histories(lambda h: swap(h, session_splits=h.session_splits + np.uint8(9))),
        r"history 3: session_splits: expected train, then valid, then test",
    ),
    "times before 1970": (
        edit_histories(lambda h: swap(h, times=h.times - 2**60)),
        r"history 3: times: expected seconds since 1970, got -\d+",
    ),
    "impressions of other events": (
        edit_histories(lambda h: swap(h, shown_counts=np.ones(len(h.times) + 1, np.int32))),
        r"history 3: shown_counts and times differ in length",
    ),
    "impressions that do not add up": (
        edit_histories(lambda h: swap(h, shown_counts=np.ones(len(h.times), np.int32))),
        r"history 3: shown_counts do not add up to the items shown",
    ),
    "fewer impressions than none": (
        edit_histories(lambda h: swap(h, shown_counts=np.r_[2, -1, np.zeros(len(h.times) - 2)]
            .astype(np.int32), shown_items=np.full(1, 2, np.int32))),
        r"history 3: shown_counts do not add up to the items shown",
    ),
    "unknown items shown": (
        edit_histories(lambda h: swap(h, shown_counts=np.ones(len(h.times), np.int32),
            shown_items=np.ones(len(h.times), np.int32))),
        r"history 3: shown_items: 1 to 1 are not all rows of the catalogue",
    ),
    "no events at all": (
        edit_histories(lambda h: History(h.user_id, *(np.empty(0, a.dtype) for a in
            (h.item_ids, h.times, h.session_lengths, h.session_splits)))),
        r"history 3: no sessions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISLEADING)
def test_wrong_files_with_valid_checksums_are_refused(rooms, name):
    change, message = MISLEADING[name]
    directory = rooms("D")
    change(directory)
    sign(directory)
    with pytest.raises(DataError, match=message) as caught:
        read_all(directory)
    assert "\n" not in str(caught.value)


def test_signing_alone_changes_nothing(prepared_dir, rooms):
    directory = rooms("D")
    sign(directory)
    assert read_all(directory) == read_all(prepared_dir)
