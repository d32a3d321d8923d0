import gzip
import json
import re

import pytest

from data_pipelines.errors import DataError
from data_pipelines.raw import json_lines
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.ingest import ReadOptions
from data_pipelines.raw.readers import read_files

ROW = {"user_id": 7, "item_id": 'é\n"', "timestamp": 1_600_000_000, "more": {"a": [1]}}


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(path, **options):
    log, drops = read_files([str(path)], ReadOptions(**options))
    users, items = log.user_ids.gather(log.users), log.item_ids.gather(log.items)
    return list(zip(users, items, log.times_ms.tolist(), strict=True)), log.facts, drops


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.jsonl.gz"])
@pytest.mark.parametrize("block", [1 << 24, 150])
def test_rows_are_objects(tmp_path, monkeypatch, name, block):
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", block)
    path = write(tmp_path / name, *[{**ROW, "user_id": k} for k in range(20)], "", ROW)
    events, facts, drops = read(path)
    assert events == [(str(k), 'é\n"', 1_600_000_000_000) for k in (*range(20), 7)]
    assert facts.ids_of("user_id").id_type == "int64"
    assert facts.ids_of("item_id").id_type == "string"
    assert drops == []


def test_types_are_those_of_json(tmp_path):
    text = write(tmp_path / "a.jsonl", {**ROW, "user_id": "7"})
    assert read(text)[1].ids_of("user_id").id_type == "string"
    floats = write(tmp_path / "b.jsonl", {**ROW, "user_id": 7.0, "timestamp": 1.6e9})
    assert read(floats)[0] == [("7", 'é\n"', 1_600_000_000_000)]
    mixed = write(tmp_path / "c.jsonl", ROW, {**ROW, "user_id": "x"}, {**ROW, "item_id": 5})
    assert [event[:2] for event in read(mixed)[0]] == [("7", 'é\n"'), ("x", 'é\n"'), ("7", "5")]
    late = write(tmp_path / "d.jsonl", *[ROW] * 1500, {**ROW, "user_id": "x"})
    assert read(late)[0][-1][0] == "x"
    iso = write(tmp_path / "e.jsonl", {**ROW, "timestamp": "2020-09-13T12:26:40Z"})
    assert read(iso)[0][0][2] == 1_600_000_000_000


BAD = ["{", "[1]", "7", '"x"', "user_id,item_id", '{"user_id": 1} {}', '{"user_id": NaN}']


@pytest.mark.parametrize("line", BAD)
def test_lines_that_are_no_objects_are_bad_rows(tmp_path, line):
    path = write(tmp_path / "a.jsonl", ROW, "", line, ROW, line)
    message = rf"a.jsonl: row 2 \(line 3\): expected a JSON object, got '{re.escape(line)}'"
    with pytest.raises(DataError, match=message):
        read(path)
    events, facts, drops = read(path, on_bad_row="skip")
    assert len(events) == 2 and drops == [Drop("no JSON object", 2)]
    assert facts.ids_of("user_id").id_type == "int64"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {**ROW, "user_id": None},
            "row 2 (line 2), column 'user_id': expected a value, got",
        ),
        ({"item_id": 1}, "row 2 (line 2), column 'user_id': expected a value, got"),
        ({**ROW, "user_id": "NA"}, "row 2 (line 2), column 'user_id': expected a value, got 'NA'"),
        ({**ROW, "timestamp": 5}, "row 2 (line 2), column 'timestamp': expected a time from 1995"),
    ],
)
def test_bad_values_have_their_line(tmp_path, row, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read(write(tmp_path / "a.jsonl", ROW, row))


def test_columns_that_are_missing_or_objects(tmp_path):
    with pytest.raises(DataError, match=r"'user_id' is missing; found userId.*mean 'userId'\?"):
        read(write(tmp_path / "a.jsonl", {"userId": 1, "item_id": 2, "timestamp": 3}))
    with pytest.raises(DataError, match="column 'user_id': expected text or whole num"):
        read(write(tmp_path / "b.jsonl", {**ROW, "user_id": {"$oid": "x"}}))
