import json

import pytest

from data_pipelines.errors import DataError
from data_pipelines.manifest import load_manifest, save_manifest

MANIFEST = {"content_hash": "é", "counts": {}, "drops": [], "flags": {}}


def test_saved_and_loaded(tmp_path):
    save_manifest(tmp_path, MANIFEST)
    assert load_manifest(tmp_path) == {"schema_version": 1, **MANIFEST}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not readable as JSON"),
        ('{"schema_version": 1,', "not readable as JSON"),
        ("[]", "expected schema_version 1, got None"),
        (json.dumps({**MANIFEST, "schema_version": 2}), "expected schema_version 1, got 2"),
        (json.dumps({"schema_version": 1, "drops": []}), "content_hash, counts, flags is missing"),
        (b"\xff", "not readable as JSON"),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "manifest.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        load_manifest(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_no_manifest(tmp_path):
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"no such file; is .* the output of"):
            load_manifest(directory)
