"""The lines that `prepare` prints about the log that it read, one per fact."""

from typing import Any

from data_pipelines.raw.odd_times import NAMES
from data_pipelines.raw.times import parse_time

_MANY_IDENTICAL = 0.05
"""A larger share of identical rows is reported as a possible mistake."""

_NAMED = 3
"""How many frequent ids to name; a log of few items has several."""


def log_lines(manifest: dict[str, Any]) -> list[str]:
    """Formats the manifest's `log` for people."""
    log = manifest["log"]
    sessions, events = log["sessions_per_user"], log["events_per_session"]
    lines = [
        _span(log),
        f"sessions: {sessions['mean']:,.1f} a user, median {sessions['median']:g}; "
        f"{events['mean']:,.1f} events a session, median {events['median']:g}",
    ]
    return lines + _identical_lines(manifest) + _frequent_lines(manifest)


def _span(log: dict[str, Any]) -> str:
    unit = log["time_unit"]
    if unit == "order":
        first, last = (parse_time(log[name]) // 1_000 for name in ("from", "to"))
        return (
            f"times: none, an order from {first:,} to {last:,}; models count its steps where they "
            "would count seconds"
        )
    read_as = f", numbers read as {NAMES[unit]}" if unit else ""
    return f"times: {log['from']} to {log['to']} UTC{read_as}"


def _identical_lines(manifest: dict[str, Any]) -> list[str]:
    log = manifest["log"]
    if not log["identical_rows"]:
        return []
    share = log["identical_rows"] / log["rows"]
    line = (
        f"identical rows: {log['identical_rows']:,} of {log['rows']:,} are the same as an earlier "
        "one in user, item and time"
    )
    if share > _MANY_IDENTICAL:
        line += f", {share:.0%}: is a file, or the whole log, in --input twice?"
    return [line]


def _frequent_lines(manifest: dict[str, Any]) -> list[str]:
    log, total, lines = manifest["log"], manifest["counts"]["events"], []
    advice = ": if it stands for nobody, name it in --null_values"
    for kind, ids, remark in (
        ("user", log["frequent_users"], advice),
        ("item", log["frequent_items"], ""),
    ):
        for one in ids[:_NAMED]:
            share = one["events"] / total
            title = f" ({one['title']})" if "title" in one else ""
            lines.append(
                f"{kind} {one['id']!r}{title} has {one['events']:,} events, {share:.0%} of all"
                f"{remark}"
            )
        if len(ids) > _NAMED:
            lines.append(f"{len(ids) - _NAMED} more {kind}s have over a tenth of all events each")
    return lines
