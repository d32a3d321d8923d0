"""What is learnt of a log as it is read, block by block, and holds for all of it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from data_pipelines.raw.ids import TEXT, IdFacts
from data_pipelines.raw.odd_times import UnitSeen


@dataclasses.dataclass
class LogFacts:
    """What was seen so far.

    Attributes:
      unit: The unit of its times.
      ids: By column of `log.TYPED_SCHEMA`, what its ids are like.
    """

    unit: UnitSeen = dataclasses.field(default_factory=UnitSeen)
    ids: dict[str, IdFacts] = dataclasses.field(default_factory=dict)

    def add_ids(self, column: str, facts: IdFacts) -> None:
        """Notes what more ids are like."""
        self.ids[column] = self.ids.get(column, IdFacts()) | facts

    def ids_of(self, column: str) -> IdFacts:
        """What the ids of a column are like; text where none were read."""
        return self.ids.get(column, TEXT)

    def to_json(self) -> list[Any]:
        """What `from_json` reads."""
        ids = {column: dataclasses.asdict(facts) for column, facts in self.ids.items()}
        return [dataclasses.asdict(self.unit), ids]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> "LogFacts":
        """The facts that `to_json` wrote."""
        unit, ids = values
        return cls(UnitSeen(**unit), {column: IdFacts(**facts) for column, facts in ids.items()})

    def add(self, other: "LogFacts") -> None:
        """Notes what was seen elsewhere, later in the log.

        Raises:
          DataError: The times there are in another unit.
        """
        if other.unit.unit is not None:
            self.unit.require(other.unit.unit, other.unit.place)
        for column, facts in other.ids.items():
            self.add_ids(column, facts)
