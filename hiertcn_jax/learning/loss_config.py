"""The settings of the loss and its negatives."""

import dataclasses
from typing import Literal

from hiertcn_jax.settings import Settings, setting

HELP_TOPIC = "loss and negatives"

LossName = Literal[
    "cross_entropy",
    "sampled_softmax",
    "nce",
    "bpr",
    "hinge_linear",
    "hinge_sigmoid",
    "hinge_logsigmoid",
    "l2",
]
NEGATIVE_SOURCES = ("impressions", "uniform", "popularity", "in_batch")


@dataclasses.dataclass(frozen=True)
class LossConfig(Settings):
    """The loss, and the negatives that it compares targets with."""

    name: LossName = setting("sampled_softmax", "The loss that training minimizes.", flag="loss")
    negatives: tuple[tuple[str, int], ...] = setting(
        (("popularity", 2048),),
        "Negatives as source:count, separated by commas. Sources: impressions, uniform, "
        "popularity, in_batch. An event's candidates are those of all sources together. "
        "impressions: items that the event's user was shown and did not pick, at most this many; "
        "an event without any has only the candidates of the other sources.",
    )
    own_negatives: bool = setting(
        False,
        "Draw negatives for each event, instead of one set per batch.",
    )
    popularity_alpha: float = setting(
        0.5,
        "The source popularity of --negatives draws in proportion to events**alpha.",
        at_least=0,
    )
    logq: bool = setting(
        True,
        "Sampled softmax: correct scores by the log of each candidate's expected count.",
    )
    hinge_delta: float = setting(0.1, "Margin of the hinge losses.", at_least=0)
    nce_weight: float = setting(1.0, "Weight of the negative part of NCE.", at_least=0)
    per_user: bool = setting(
        False,
        "Average the loss over each user's events first, then over users, as the released code "
        "does. Default: average over events.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for source, count in self.negatives:
            if source not in NEGATIVE_SOURCES:
                raise ValueError(
                    f"negatives={source}: must be one of {', '.join(NEGATIVE_SOURCES)}"
                )
            if count < 1:
                raise ValueError(f"negatives={source}:{count}: the count must be >= 1")
        if [source for source, _ in self.negatives].count("impressions") > 1:
            raise ValueError("negatives=impressions: occurs twice")
        if self.needs_negatives and not self.negatives:
            raise ValueError(f"negatives=: the loss {self.name} needs at least one source")

    @property
    def needs_negatives(self) -> bool:
        """Whether the loss compares the target with sampled items."""
        return self.name not in ("cross_entropy", "l2")

    @property
    def drawn_negatives(self) -> tuple[tuple[str, int], ...]:
        """The (source, count) pairs to draw candidates from; empty if the loss needs none."""
        drawn = tuple(pair for pair in self.negatives if pair[0] != "impressions")
        return drawn if self.needs_negatives else ()

    @property
    def impressions(self) -> int:
        """The most impressions that an event is compared with; 0: none."""
        return dict(self.negatives).get("impressions", 0) if self.needs_negatives else 0
