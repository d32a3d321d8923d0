"""What is minimised, and against which negatives."""

import dataclasses
from typing import Literal

from hiertcn_jax.settings import Settings, setting

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
    """What is minimised, and against which negatives."""

    name: LossName = setting("sampled_softmax", "What is minimised.", flag="loss")
    negatives: tuple[tuple[str, int], ...] = setting(
        (("popularity", 2048),),
        "Negatives as source:count, of the sources impressions, uniform, popularity, in_batch; "
        "the candidates of all of them are taken together. impressions are items shown beside the"
        " event and not picked, up to so many; events without them have the candidates of the "
        "other sources alone.",
    )
    own_negatives: bool = setting(
        False,
        "Whether negatives are drawn for each event, instead of one set for the batch.",
    )
    popularity_alpha: float = setting(
        0.5,
        "The popularity source draws in proportion to events**alpha.",
        at_least=0,
    )
    logq: bool = setting(
        True,
        "Whether sampled softmax corrects scores by the log expected count of each candidate.",
    )
    hinge_delta: float = setting(0.1, "Margin of the hinge losses.", at_least=0)
    nce_weight: float = setting(1.0, "Weight of the negative part of NCE.", at_least=0)
    per_user: bool = setting(
        False,
        "Average over the events of a user first, then over users, as the released code does; "
        "otherwise over events.",
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
            raise ValueError("negatives=impressions: is there twice")
        if self.needs_negatives and not self.negatives:
            raise ValueError(f"negatives=: the loss {self.name} needs at least one source")

    @property
    def needs_negatives(self) -> bool:
        """Whether the loss compares the target with sampled items."""
        return self.name not in ("cross_entropy", "l2")

    @property
    def drawn_negatives(self) -> tuple[tuple[str, int], ...]:
        """The (source, count) pairs that candidates are drawn from; none where none are needed."""
        drawn = tuple(pair for pair in self.negatives if pair[0] != "impressions")
        return drawn if self.needs_negatives else ()

    @property
    def impressions(self) -> int:
        """The most items shown beside an event that it is compared with; 0: none."""
        return dict(self.negatives).get("impressions", 0) if self.needs_negatives else 0
