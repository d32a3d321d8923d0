"""Manifests edited by hand, damaged, and made to lead elsewhere."""

import copy
import json
import os
import shutil
from random import Random

import pytest

from data_pipelines.errors import DataError
from data_pipelines.histories.manifest import load_manifest
from data_pipelines.histories.prepared_files import verify_files
from tests.hostile.damage import damaged
from tests.hostile.outcomes import Outcomes
from tests.volume import few

PATH = r"/\S+/manifest\.json"
AGAIN = "; prepare it again"
KINDS = {
    "no file": PATH + r": no such file; is .+ the output of data_pipelines.prepare\? Name .+",
    "key twice": PATH + r": not readable as JSON: the key '.*' occurs twice",
    "JSON": PATH + r": not readable as JSON: .+",
    "version": PATH + r": expected schema_version 1, 2 or 3, got .+" + AGAIN,
    "missing": PATH + r": \S+ is missing" + AGAIN,
    "form": PATH
    + r": \S.*: expected (a whole number|a number|sha256|text|an object|a list|string|s, ms).*"
    + AGAIN,
    "sum": PATH + r": counts\.\S+ is not the sum over its splits" + AGAIN,
    "part": PATH
    + r": counts\.splits\.\w+: (all|events\.first|more (unknown_items|unseen)) .+"
    + AGAIN,
    "link": PATH + r": is a link to .+, out of .+; put the file itself there",
    "path": r"/.+: manifest\.json: files: '.*' is no path in it" + AGAIN,
    "not in it": r"/.+: is not in manifest\.json" + AGAIN,
    "file": r"/.+: no such file, but manifest\.json has it" + AGAIN,
    "size": r"/.+: expected \d+ bytes, got \d+" + AGAIN,
    "hash": r"/.+: has changed: its SHA-256 is not that of manifest\.json" + AGAIN,
}


def places(value, prefix=()):
    """The path of every value inside a JSON value, except the whole."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*prefix, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*prefix, key))


ODD_VALUES = (
    None, True, False, 0, 1, -1, 1.0, 1.5, 10**30, 2**63, "", "1", "sha256:", "\x1b[31m", [], {},
    [1], {"all": 1}, float("nan"), "../../etc/passwd", "x" * 5000,
)  # fmt: skip


ODD_NAMES = ("a", "../a", "/etc/passwd", "", "a/../../b", "a\\b", "\0", ".", "histories/./1.0.0")


def edited(rng, manifest):
    """A manifest with one to three values changed, removed, renamed, added or moved by one."""
    manifest = copy.deepcopy(manifest)
    if rng.random() < 0.1:
        manifest["files"][rng.choice(ODD_NAMES)] = rng.choice([*manifest["files"].values()])
        return manifest
    for _ in range(rng.choice((1, 1, 2, 3))):
        where = rng.choice(list(places(manifest)))
        inner = manifest
        for key in where[:-1]:
            inner = inner[key]
        kind, value = rng.random(), inner[where[-1]]
        if kind < 0.5 or isinstance(inner, list):
            inner[where[-1]] = rng.choice(ODD_VALUES)
        elif kind < 0.65:
            del inner[where[-1]]
        elif kind < 0.8:
            inner[rng.choice(ODD_NAMES)] = inner.pop(where[-1])
        elif type(value) is int:
            inner[where[-1]] = value + rng.choice((-1, 1))
        elif isinstance(value, str) and value:
            inner[where[-1]] = value[:-1] + ("0" if value[-1] != "0" else "1")
    return manifest


MERGED = ("users", "sessions", "into", "events")
COUNTS = ("users", "items", "sessions", "events", "users_too_short")


def is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_hash(value):
    digits = value.removeprefix("sha256:") if isinstance(value, str) else ""
    return isinstance(value, str) and len(value) == 71 and set(digits) <= set("0123456789abcdef")


def is_ids(manifest):
    ids = manifest.get("ids", {"user": "string", "item": "string"})
    kinds = ("string", "int64", "uint64")
    return ids["user"] in kinds and ids["item"] in kinds


def is_log(manifest):
    if "log" not in manifest:
        return True
    log = manifest["log"]
    numbers = [
        log[name][kind]
        for name in ("sessions_per_user", "events_per_session")
        for kind in ("mean", "median")
    ]
    frequent = [log["frequent_users"], log["frequent_items"]]
    return (
        isinstance(log["from"], str)
        and isinstance(log["to"], str)
        and log["time_unit"] in (None, "s", "ms", "us", "ns", "order")
        and is_count(log["rows"])
        and is_count(log["identical_rows"])
        and all(type(number) in (int, float) and 0 <= number < 2**63 for number in numbers)
        and all(isinstance(ids, list) for ids in frequent)
        and all(type(one["id"]) in (int, str) for ids in frequent for one in ids)
        and all(is_count(one["events"]) for ids in frequent for one in ids)
    )


def own_numbers(manifest):
    """The counts that only manifests of some logs and versions have."""
    cuts = manifest.get("cuts", {"valid_after": 0, "test_after": 0})
    later = manifest["counts"]["later_items"] if manifest["schema_version"] > 1 else 0
    return [later, cuts["valid_after"], cuts["test_after"]]


def is_valid(manifest):
    """Whether a value is a manifest, by an independent second definition."""
    try:
        version = manifest["schema_version"]
        if type(version) is not int or version not in (1, 2, 3):
            return False
        counts, parts = manifest["counts"], manifest["counts"]["splits"]
        numbers = [counts[name] for name in COUNTS] + own_numbers(manifest)
        events, sessions = [], []
        for part in (parts["train"], parts["valid"], parts["test"]):
            groups = [part["events"], part["unknown_items"]]
            groups += [part["unseen"]] * (manifest["schema_version"] > 1)
            numbers += [part["users"], part["sessions"]]
            numbers += [group[name] for group in groups for name in ("all", "first", "next")]
            if not all(map(is_count, numbers)):
                return False
            sums = all(group["all"] == group["first"] + group["next"] for group in groups)
            names = ("all", "first", "next")
            unknown = all(group[name] <= groups[0][name] for group in groups for name in names)
            if not (sums and unknown and part["sessions"] == part["events"]["first"]):
                return False
            events.append(part["events"]["all"])
            sessions.append(part["sessions"])
        for drop in manifest["drops"]:
            numbers += [drop["events"], drop["users"], drop["items"]]
            if not isinstance(drop["reason"], str):
                return False
        for described in manifest["files"].values():
            numbers.append(described["bytes"])
            if not is_hash(described["sha256"]):
                return False
        merged = manifest.get("merged_sessions", dict.fromkeys(MERGED, 0))
        numbers += [merged[name] for name in MERGED]
        kinds = isinstance(manifest["drops"], list) and isinstance(manifest["flags"], dict)
        kinds = kinds and is_ids(manifest) and is_log(manifest)
        sums = (counts["sessions"], counts["events"]) == (sum(sessions), sum(events))
        return kinds and sums and is_hash(manifest["content_hash"]) and all(map(is_count, numbers))
    except (KeyError, TypeError, AttributeError, IndexError):
        return False


def pairs_without_doubles(pairs):
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def plain_manifest(data):
    """The manifest in these bytes, None where there is none."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=pairs_without_doubles)
    except (ValueError, AssertionError):
        return None
    return value if is_valid(value) else None


def what_is_verified(files):
    """Sizes, and the hashes that are compared: not of records, which have their own, and log/."""
    return {
        name: (
            described["bytes"],
            "array_record" in name or name.startswith("log/") or described["sha256"],
        )
        for name, described in files.items()
    }


@pytest.fixture
def copied(prepared_dir, tmp_path):
    return shutil.copytree(prepared_dir, tmp_path / "D")


def test_thousands_of_edited_and_damaged_manifests(copied):
    path = copied / "manifest.json"
    original = json.loads(path.read_text())
    original["drops"] = [{"reason": "x", "events": 1, "users": 0, "items": 0}]
    # It differs for each written file and is not compared: records have their own.
    (records,) = [described for name, described in original["files"].items() if "array" in name]
    records["sha256"] = f"sha256:{'0' * 64}"
    outcomes, inputs = Outcomes(KINDS), few(200, of=2000)
    for seed in range(inputs):
        rng = Random(seed)
        manifest = edited(rng, original) if rng.random() < 0.8 else original
        data = json.dumps(manifest, indent=rng.choice((None, 2))).encode()
        if manifest is original:
            data = damaged(rng, data)
        if rng.random() < 0.02:
            data = data.replace(b'"valid"', b'"test"')
        path.write_bytes(data)
        expected = plain_manifest(data)
        try:
            got = load_manifest(copied)
        except DataError as error:
            outcomes.refused(error)
            assert expected is None, (seed, error)
            continue
        # As text: NaN, which the flags may hold, differs from itself.
        assert json.dumps(got) == json.dumps(expected), seed
        try:
            verify_files(copied, got["files"])
        except DataError as error:
            outcomes.refused(error)
            assert got["files"] != original["files"], seed
        else:
            assert what_is_verified(got["files"]) == what_is_verified(original["files"]), seed
            outcomes.right()
    # A doubled key is too rare an accident to be counted on; the next test has one.
    outcomes.require(inputs, never=("link", "no file", "key twice"))


def test_a_key_that_occurs_twice_is_named(copied):
    path = copied / "manifest.json"
    path.write_text(path.read_text().replace("{", '{"files": {}, ', 1))
    with pytest.raises(DataError, match="the key 'files' occurs twice"):
        load_manifest(copied)


def test_files_outside_the_directory_are_not_opened(copied, tmp_path):
    """Links that lead outside, and anything that is no file, are refused before reading."""
    outside = tmp_path / "outside"
    shutil.move(copied / "manifest.json", outside)
    outcomes = Outcomes(KINDS)
    with pytest.raises(DataError) as caught:
        load_manifest(copied)
    outcomes.refused(caught.value)
    for make in (
        lambda path: path.symlink_to(outside),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
    ):
        path = copied / "manifest.json"
        make(path)
        with pytest.raises(DataError) as caught:
            load_manifest(copied)
        outcomes.refused(caught.value)
        path.rmdir() if path.is_dir() else path.unlink()
    assert outcomes.counts == {"no file": 5, "link": 1}


def test_the_directory_itself_may_be_a_link(copied, tmp_path):
    (tmp_path / "link").symlink_to(copied)
    manifest = load_manifest(tmp_path / "link")
    verify_files(tmp_path / "link", manifest["files"])
    vocabulary = copied / "vocabulary.parquet"
    shutil.move(vocabulary, tmp_path / "vocabulary.parquet")
    vocabulary.symlink_to(tmp_path / "vocabulary.parquet")
    with pytest.raises(
        DataError, match=r"vocabulary.parquet: is a link to .+, out of .+/link; put the"
    ):
        verify_files(tmp_path / "link", manifest["files"])
