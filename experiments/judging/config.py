"""Settings of an evaluation."""

import dataclasses
from typing import Literal

from hiertcn_jax.settings import Settings, setting

HELP_TOPIC = "evaluation"

MaskSeen = Literal["none", "session", "user"]


@dataclasses.dataclass(frozen=True)
class EvalConfig(Settings):
    """How to score a model."""

    lanes: int = setting(128, "Lanes of an evaluation batch.", at_least=1, flag="eval_lanes")
    events: int = setting(
        64,
        "Events of each lane in an evaluation batch.",
        at_least=1,
        flag="eval_events",
    )
    sessions: int = setting(
        32,
        "Most sessions of each lane in an evaluation batch.",
        at_least=1,
        flag="eval_sessions",
    )
    mask_seen: MaskSeen = setting(
        "none",
        "Seen items to leave out of the ranking: none, those of the session so far, or of the user "
        "so far. The target is never left out.",
    )
    rank_events: int = setting(
        64,
        "Events ranked by one call. With a small number, CPU caches hold their scores.",
        at_least=1,
    )
    rank_chunk: int = setting(
        16384,
        "Catalogue rows scored at once. Memory grows with --rank_events times --rank_chunk.",
        at_least=1,
    )
