import copy
import json
import re

import pytest

from data_pipelines.errors import DataError
from data_pipelines.histories.manifest import load_manifest, save_manifest

GROUPS = {"all": 3, "first": 1, "next": 2}
NOTHING = dict.fromkeys(GROUPS, 0)
PART = {"users": 1, "sessions": 1, "events": GROUPS, "unknown_items": NOTHING, "unseen": NOTHING}
MANIFEST = {
    "content_hash": f"sha256:{'0' * 64}",
    "counts": {
        "users": 1,
        "items": 2,
        "later_items": 0,
        "sessions": 3,
        "events": 9,
        "users_too_short": 0,
        "splits": {"train": PART, "valid": PART, "test": PART},
    },
    "drops": [{"reason": "é", "events": 1, "users": 0, "items": 0}],
    "files": {"a": {"bytes": 1, "sha256": f"sha256:{'1' * 64}"}},
    "flags": {},
}


def test_saved_and_loaded(tmp_path):
    save_manifest(tmp_path, MANIFEST)
    assert load_manifest(tmp_path) == {"schema_version": 3, **MANIFEST}


def test_schema_1_has_no_later_items(tmp_path):
    manifest = {"schema_version": 1, **copy.deepcopy(MANIFEST)}
    del manifest["counts"]["later_items"], manifest["counts"]["splits"]["test"]["unseen"]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    assert load_manifest(tmp_path) == manifest
    path.write_text(json.dumps({**manifest, "schema_version": 2}))
    with pytest.raises(DataError, match=r"counts.later_items is missing; prepare it again"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not readable as JSON"),
        ('{"schema_version": 1,', "not readable as JSON"),
        ('{"a": 1, "a": 2}', "not readable as JSON: the key 'a' occurs twice"),
        ("[" * 100_000, "not readable as JSON"),
        ("[]", "expected schema_version 1, 2 or 3, got None"),
        (json.dumps({**MANIFEST, "schema_version": 4}), "expected schema_version 1, 2 or 3, got 4"),
        (json.dumps({**MANIFEST, "schema_version": True}), "schema_version 1, 2 or 3, got True"),
        (json.dumps({"schema_version": 1, "drops": []}), "content_hash is missing"),
        (b"\xff", "not readable as JSON"),
    ],
    ids=range(9),
)
def test_what_is_no_manifest_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "manifest.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        load_manifest(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("content_hash",), "no hash", "content_hash: expected sha256: and 64 hexadecimal digits"),
        (("counts",), [], "counts: expected an object, got []"),
        (("counts", "users"), True, "counts.users: expected a whole number >= 0, got True"),
        (("counts", "events"), 10, "counts.events is not the sum over its splits"),
        (("counts", "splits", "test", "sessions"), 2, "events.first is not sessions"),
        (("counts", "splits", "test", "events", "next"), 3, "all is not first + next"),
        (("drops",), {}, "drops: expected a list, got {}"),
        (("drops", 0, "reason"), None, "drops[0].reason: expected text, got None"),
        (("files", "a", "bytes"), -1, "files['a'].bytes: expected a whole number >= 0, got -1"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_errors_name_the_field(tmp_path, place, value, message):
    manifest = copy.deepcopy(MANIFEST)
    inner = manifest
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    save_manifest(tmp_path, manifest)
    with pytest.raises(DataError, match=re.escape(message)):
        load_manifest(tmp_path)


def test_no_manifest(tmp_path):
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"no such file; is .* the output of"):
            load_manifest(directory)
    log = tmp_path / "clicks.csv"
    log.write_text("user_id,item_id,timestamp\n")
    with pytest.raises(DataError, match=rf"is a file, .* prepare it first: .* --input={log} "):
        load_manifest(log)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(DataError, match=r"no such file; .* is a training run, expected the output"):
        load_manifest(tmp_path)
