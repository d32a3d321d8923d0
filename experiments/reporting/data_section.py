"""The section about the log: what it holds, when, how long users stay away, how much repeats."""

import datetime
from typing import Any

from data_pipelines.histories.record import Split
from experiments.reporting.charts import columns
from experiments.reporting.frame import Axis, whole
from experiments.reporting.log_facts import COUNT_LABELS, GAP_LABELS, LogCounts, count_log
from experiments.reporting.markup import Markup, facts, tag
from experiments.runs.data import Data


def data_section(data: Data) -> list[Markup]:
    """Facts and charts about a log."""
    counts = count_log(data.histories)
    return [_facts(data, counts), tag("div", *_charts(counts), class_="charts")]


def _facts(data: Data, counts: LogCounts) -> Markup:
    total = data.manifest["counts"]
    days = (counts.last - counts.first) / 86_400
    said = {
        "log": str(data.directory),
        "span": f"{day(counts.first)} to {day(counts.last)} ({days:,.0f} days)",
        **_order_alone(data),
        "users": f"{total['users']:,}",
        "items": f"{total['items']:,} in the catalogue of the training part",
        "sessions": f"{total['sessions']:,}, {total['sessions'] / total['users']:.1f} a user",
        "events": f"{total['events']:,}, {total['events'] / total['sessions']:.1f} a session",
        "repeats": f"{counts.repeats / counts.events:.1%} of the events are on an item that the "
        "user had picked before",
        **{
            f"unknown in {part}": _unknown(total["splits"][part])
            for part in ("valid", "test")
            if total["splits"][part]["events"]["all"]
        },
        "dropped": _dropped(data.manifest["drops"]),
    }
    return facts(said)


def _order_alone(data: Data) -> dict[str, str]:
    """A warning where the log has no times."""
    if data.manifest.get("log", {}).get("time_unit") != "order":
        return {}
    return {"times": "only the order of events is known: dates and hours here are places in it"}


def _unknown(part: dict[str, Any]) -> str:
    unknown, events = part["unknown_items"]["all"], part["events"]["all"]
    return f"{unknown / events:.1%} of {events:,} events are on items that training never saw"


def _dropped(drops: list[dict[str, Any]]) -> str:
    listed = [f"{one['events']:,} events ({one['reason']})" for one in drops if one["events"]]
    return ", ".join(listed) or "nothing"


def _charts(counts: LogCounts) -> list[Markup]:
    begins = [day(start)[:-5] for start in counts.starts.tolist()]
    of = "day" if counts.span == 1 else f"{counts.span} days"
    parts = {
        part.name.lower(): counts.events_pb[part].tolist()
        for part in Split
        if counts.events_pb[part].any()
    }
    return [
        columns(f"Events each {of}", begins, parts, "first day, UTC", Axis("events", whole)),
        columns(
            "Sessions of a user",
            COUNT_LABELS,
            {"users": counts.sessions_b.tolist()},
            "sessions",
            Axis("users", whole),
        ),
        columns(
            "Events of a session",
            COUNT_LABELS,
            {"sessions": counts.lengths_b.tolist()},
            "events",
            Axis("sessions", whole),
        ),
        columns(
            "Time between a user's sessions",
            GAP_LABELS,
            {"pauses": counts.gaps_b.tolist()},
            "from the end of one to the start of the next",
            Axis("pauses", whole),
        ),
    ]


def day(seconds: int) -> str:
    """A date as people write it: 4 Oct 2017."""
    time = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{time.day} {time:%b %Y}"


def moment(seconds: int) -> str:
    """A date and a time of day, UTC."""
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%a} {day(seconds)}, " + (
        f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%H:%M}"
    )


def duration(hours: float) -> str:
    """A pause in the unit that fits it.

    >>> duration(0.5), duration(30), duration(100)
    ('30 minutes', '30 hours', '4 days')
    """
    if hours < 1:
        return f"{60 * hours:.0f} minutes"
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"
