"""manifest.json: what a prepared directory contains, and how it was made."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_pipelines.directories import Kind, kind_of
from data_pipelines.errors import DataError
from data_pipelines.histories.prepared_files import read_json, require_within
from data_pipelines.raw.ids import ID_TYPES
from data_pipelines.raw.times import PER_SECOND

FILE_NAME = "manifest.json"

SCHEMA_VERSION = 3
"""Increase it whenever the content of a prepared directory changes in meaning.

1: items beyond the fitted catalogue are not told apart: all are the unknown item.
2: every record is a history; no events are kept to append to.
"""
READABLE = (1, 2, SCHEMA_VERSION)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", value) is not None


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_id(value: object) -> bool:
    return isinstance(value, str) or type(value) is int


def _is_id_type(value: object) -> bool:
    return isinstance(value, str) and value in ID_TYPES


def _is_unit(value: object) -> bool:
    return value is None or (isinstance(value, str) and value in PER_SECOND)


_Check = tuple[Callable[[object], bool], str]
_COUNT: _Check = (_is_count, "a whole number >= 0")
_SHA256: _Check = (_is_sha256, "sha256: and 64 hexadecimal digits")
_TEXT: _Check = (_is_text, "text")
_NUMBER: _Check = (_is_number, "a number >= 0")
_ID: _Check = (_is_id, "text or a whole number")
_ID_TYPE: _Check = (_is_id_type, ", ".join(ID_TYPES))
_UNIT: _Check = (_is_unit, f"{', '.join(PER_SECOND)} or null")

# A dict must have at least these keys. {None: check} allows any keys; a list may have any length.
_GROUPS = {"all": _COUNT, "first": _COUNT, "next": _COUNT}
_PART = {"users": _COUNT, "sessions": _COUNT, "events": _GROUPS, "unknown_items": _GROUPS}
_LATER = {
    "counts": {
        "later_items": _COUNT,
        "splits": {part: {"unseen": _GROUPS} for part in ("train", "valid", "test")},
    }
}
_CUTS = {"valid_after": _COUNT, "test_after": _COUNT}
_MANIFEST: dict[str, Any] = {
    "content_hash": _SHA256,
    "counts": {
        "users": _COUNT,
        "items": _COUNT,
        "sessions": _COUNT,
        "events": _COUNT,
        "users_too_short": _COUNT,
        "splits": {"train": _PART, "valid": _PART, "test": _PART},
    },
    "drops": [{"reason": _TEXT, "events": _COUNT, "users": _COUNT, "items": _COUNT}],
    "files": {None: {"bytes": _COUNT, "sha256": _SHA256}},
    "flags": {},
}
_SHOWN_PART = {
    "matched": _COUNT,
    "unmatched": _COUNT,
    "with_negatives": _COUNT,
    "negatives": _COUNT,
}
_MERGED = {"users": _COUNT, "sessions": _COUNT, "into": _COUNT, "events": _COUNT}
_IDS = {"user": _ID_TYPE, "item": _ID_TYPE}
_MEAN = {"mean": _NUMBER, "median": _NUMBER}
_LOG = {
    "from": _TEXT,
    "to": _TEXT,
    "time_unit": _UNIT,
    "rows": _COUNT,
    "identical_rows": _COUNT,
    "sessions_per_user": _MEAN,
    "events_per_session": _MEAN,
    "frequent_users": [{"id": _ID, "events": _COUNT}],
    "frequent_items": [{"id": _ID, "events": _COUNT}],
}
_ITEMS = {
    "rows": _COUNT,
    "titled": _COUNT,
    "untitled": _COUNT,
    "unknown": _COUNT,
    "repeated": _COUNT,
    "without_id": _COUNT,
}
_ANCESTORS = [{"content_hash": _SHA256, "items": _COUNT}]
_APPENDED = {"events": _COUNT, "duplicates": _COUNT, "rewritten_histories": _COUNT}
_IMPRESSIONS = {
    "rows": _COUNT,
    "rows_of_other_users": _COUNT,
    "rows_used": _COUNT,
    "drops": {None: _COUNT},
    "unknown_items": _COUNT,
    "cap": _COUNT,
    "capped_events": _COUNT,
    "splits": {"train": _SHOWN_PART, "valid": _SHOWN_PART, "test": _SHOWN_PART},
}


def save_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest, with this schema version."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **manifest}, indent=2, ensure_ascii=False)
    (directory / FILE_NAME).write_text(text + "\n", encoding="utf-8")


def load_manifest(directory: Path | str) -> dict[str, Any]:
    """Reads the manifest of a prepared directory.

    Returns:
      {"schema_version", "content_hash", "counts": {"users", "items", "sessions", "events",
      "later_items" (beyond the fitted ones, "items"), "users_too_short",
      "splits": {"train" | "valid" | "test": {"users", "sessions",
      "events": {"all", "first", "next"}, "unknown_items": {"all", "first", "next"},
      "unseen": {"all", "first", "next"} (events of items that nobody picked before)}}},
      "drops": [{"reason", "events", "users", "items"}],
      "files": {path: {"bytes", "sha256"}}, "flags"}

      Manifests of schema 1 lack "later_items" and "unseen".

      With --split=time also "cuts": {"valid_after", "test_after"}, seconds: no event from there on
      is fitted with train, and with train and valid. Manifests of schema 1 lack it.

      Where events were appended to an earlier log also "ancestors": [{"content_hash", "items" (of
      its fitted catalogue), "cuts" (if it has any)}], the logs that this one continues, oldest
      first; and "appended": {"events", "duplicates" (left out, because the earlier log has them),
      "rewritten_histories"}.

      "merged_sessions": {"users", "sessions" (that overlapped others), "into" (sessions that they
      became), "events"}. Manifests written before sessions were merged lack it.

      "ids": {"user", "item"} (string, int64 or uint64: the type of ids in the raw log and in
      outputs), "log": {"from", "to" (times of the events, UTC), "time_unit" (of times given as
      numbers; null: no time was a number), "rows" (events read), "identical_rows" (that repeat an
      earlier one), "sessions_per_user": {"mean", "median"},
      "events_per_session": {"mean", "median"}, "frequent_users": [{"id", "events"}],
      "frequent_items": [{"id", "events"}] (with over a tenth of the events)}. Manifests written
      before ids had types lack both; all their ids are text.

      With titles also "items": {"rows" (of the table), "titled", "untitled" (items of the catalogue
      with and without one), "unknown" (rows of items outside it), "repeated", "without_id" (rows)};
      frequent items then have a "title".

      With impressions also "impressions": {"rows", "rows_of_other_users", "rows_used" (joined
      with an event), "drops": {reason: rows}, "unknown_items" (left out), "cap", "capped_events",
      "splits": {part: {"matched", "unmatched", "with_negatives" (events), "negatives"}}}

    Raises:
      DataError: The file is missing, is not a manifest, has another schema version, or
        contradicts itself.
    """
    path = Path(directory) / FILE_NAME
    if not path.is_file():
        kind = kind_of(Path(directory))
        if Path(directory).is_file():
            raise DataError(
                f"{directory}: is a file, expected the output of data_pipelines.prepare; if it "
                f"is a log, prepare it first: hiertcn prepare --input={directory} --output_dir=D"
            )
        if kind not in (None, Kind.LOG):
            raise DataError(
                f"{path}: no such file; {directory} is {kind.value}, expected the output of "
                "data_pipelines.prepare; name that directory"
            )
        raise DataError(
            f"{path}: no such file; is {directory} the output of data_pipelines.prepare? Name that "
            f"directory, or make it: python -m data_pipelines.prepare --output_dir={directory} ..."
        )
    require_within(Path(directory), path)
    manifest = read_json(path)
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version not in READABLE or type(version) is not int:
        *others, last = map(str, READABLE)
        expected = f"{', '.join(others)} or {last}"
        raise DataError(
            f"{path}: expected schema_version {expected}, got {_shown(version)}; prepare it again"
        )
    optional = {
        "items": _ITEMS,
        "impressions": _IMPRESSIONS,
        "merged_sessions": _MERGED,
        "ids": _IDS,
        "log": _LOG,
        "cuts": _CUTS,
        "ancestors": _ANCESTORS,
        "appended": _APPENDED,
    }
    wanted = _MANIFEST | {name: form for name, form in optional.items() if name in manifest}
    problem = _mismatch(manifest, wanted, "")
    if version > 1:
        problem = problem or _mismatch(manifest, _LATER, "")
    problem = problem or _contradiction(manifest)
    if problem:
        raise DataError(f"{path}: {problem}; prepare it again")
    return manifest


def _mismatch(value: Any, wanted: Any, name: str) -> str | None:
    """Describes the first difference from the wanted form; None if there is none."""
    if isinstance(wanted, tuple):
        fits, expected = wanted
        return None if fits(value) else f"{name}: expected {expected}, got {_shown(value)}"
    if not isinstance(value, type(wanted)):
        expected = "an object" if isinstance(wanted, dict) else "a list"
        return f"{name}: expected {expected}, got {_shown(value)}"
    inner: list[tuple[str, Any, Any]]
    if isinstance(wanted, list):
        inner = [(f"[{place}]", item, wanted[0]) for place, item in enumerate(value)]
    elif None in wanted:
        inner = [(f"[{_shown(key)}]", item, wanted[None]) for key, item in value.items()]
    else:
        missing = [key for key in wanted if key not in value]
        if missing:
            return f"{name}{'.' if name else ''}{missing[0]} is missing"
        inner = [(f"{'.' if name else ''}{key}", value[key], wanted[key]) for key in wanted]
    problems = (_mismatch(item, form, name + suffix) for suffix, item, form in inner)
    return next((problem for problem in problems if problem), None)


def _contradiction(manifest: dict[str, Any]) -> str | None:
    """Describes the first count that does not add up; None if all do."""
    counts = manifest["counts"]
    parts = {name: counts["splits"][name] for name in _MANIFEST["counts"]["splits"]}
    for name, part in parts.items():
        events = part["events"]
        groups = ["events", "unknown_items"]
        groups += ["unseen"] if manifest["schema_version"] > 1 else []
        sums = (part[field] for field in groups)
        if any(one["all"] != one["first"] + one["next"] for one in sums):
            return f"counts.splits.{name}: all is not first + next"
        if events["first"] != part["sessions"]:
            return f"counts.splits.{name}: events.first is not sessions"
        for field in groups[1:]:
            if any(part[field][group] > events[group] for group in _GROUPS):
                return f"counts.splits.{name}: more {field} than events"
    for field, total in (
        ("sessions", sum(part["sessions"] for part in parts.values())),
        ("events", sum(part["events"]["all"] for part in parts.values())),
    ):
        if counts[field] != total:
            return f"counts.{field} is not the sum over its splits"
    for name, shown in manifest.get("impressions", {"splits": {}})["splits"].items():
        if shown["matched"] + shown["unmatched"] != parts[name]["events"]["all"]:
            return f"impressions.splits.{name}: matched + unmatched is not the part's events"
    return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
