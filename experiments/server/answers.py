"""What answers say: plain values that become JSON."""

from collections.abc import Sequence
from typing import Any

from experiments.server.requests import Answer, ItemParts, Outcome
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.item_ids import FIRST_ITEM_ID


def events_said(outcomes: Sequence[Outcome]) -> tuple[int, dict[str, Any]]:
    """HTTP status of an answer to events, 422 if all were refused, and what became of each."""
    numbers = {"accepted": 0, "duplicate": 0, "refused": 0}
    for one in outcomes:
        numbers[one.status] += 1
    listed = [
        {"status": one.status} | ({"reason": one.reason} if one.reason else {}) for one in outcomes
    ]
    status = 422 if numbers["refused"] == len(outcomes) else 200
    return status, {**numbers, "events": listed}


def said(answer: Answer) -> dict[str, Any]:
    """Recommendations for a user or a visitor."""
    export = answer.export
    items = [{**shown_item(export, item), "score": score} for item, score in answer.items]
    for item, parts in zip(items, answer.parts or (), strict=False):
        item["parts"] = _parts(export, parts)
    said = {"user": answer.user, "known": answer.known, "model": export.model_id}
    return {**said, "items": items}


def shown_item(export: Export, item: Any) -> dict[str, Any]:
    """An item as answers show it: its id, and its title where the export has titles."""
    if export.titles is None:
        return {"item": item}
    row = export.items.number_of(item)
    return {"item": item, "title": None if row is None else export.titles[row - FIRST_ITEM_ID]}


def _parts(export: Export, parts: ItemParts) -> dict[str, Any]:
    """The parts of a score as answers show them."""
    shown: dict[str, Any] = {}
    for name, value in parts.values.items():
        shown[name] = value
        if name == "world":
            shown["world_half_life_hours"] = parts.half_life_hours
        if name == "followers":
            followed = parts.followed
            shown["followers_of"] = None if followed is None else shown_item(export, followed)
    return shown
