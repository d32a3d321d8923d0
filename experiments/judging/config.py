"""How a model is scored."""

import dataclasses
from typing import Literal

from hiertcn_jax.settings import Settings, setting

HELP_TOPIC = "evaluation"

MaskSeen = Literal["none", "session", "user"]


@dataclasses.dataclass(frozen=True)
class EvalConfig(Settings):
    """How a model is scored."""

    lanes: int = setting(128, "Lanes of an evaluation's batch.", at_least=1, flag="eval_lanes")
    events: int = setting(
        64,
        "Events of each lane in an evaluation's batch.",
        at_least=1,
        flag="eval_events",
    )
    sessions: int = setting(
        32,
        "Most sessions of each lane in an evaluation's batch.",
        at_least=1,
        flag="eval_sessions",
    )
    mask_seen: MaskSeen = setting(
        "none",
        "Items left out of the ranking because they were seen: none, those of the session so far,"
        " or of the user so far. The target always takes part.",
    )
    rank_events: int = setting(
        64,
        "Events ranked by one call. Few, so that on CPU their scores stay in the caches.",
        at_least=1,
    )
    rank_chunk: int = setting(
        16384,
        "Catalogue rows scored at once, likewise; with rank_events it bounds the memory.",
        at_least=1,
    )
