"""Facts about a whole log, collected block by block while it is read."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from data_pipelines.raw.ids import TEXT, IdFacts
from data_pipelines.raw.odd_times import UnitSeen


@dataclasses.dataclass
class LogFacts:
    """The facts so far.

    Attributes:
      unit: The unit of its times.
      ids: Facts about ids, by column of `log.TYPED_SCHEMA`.
    """

    unit: UnitSeen = dataclasses.field(default_factory=UnitSeen)
    ids: dict[str, IdFacts] = dataclasses.field(default_factory=dict)

    def add_ids(self, column: str, facts: IdFacts) -> None:
        """Adds facts about more ids."""
        self.ids[column] = self.ids.get(column, IdFacts()) | facts

    def ids_of(self, column: str) -> IdFacts:
        """Facts about the ids of a column; those of text if none were read."""
        return self.ids.get(column, TEXT)

    def to_json(self) -> list[Any]:
        """The form that `from_json` reads."""
        ids = {column: dataclasses.asdict(facts) for column, facts in self.ids.items()}
        return [dataclasses.asdict(self.unit), ids]

    @classmethod
    def from_json(cls, values: Sequence[Any]) -> "LogFacts":
        """The facts that `to_json` wrote."""
        unit, ids = values
        return cls(UnitSeen(**unit), {column: IdFacts(**facts) for column, facts in ids.items()})

    def add(self, other: "LogFacts") -> None:
        """Adds facts about a later part of the log.

        Raises:
          DataError: The times there have another unit.
        """
        if other.unit.unit is not None:
            self.unit.require(other.unit.unit, other.unit.where)
        for column, facts in other.ids.items():
            self.add_ids(column, facts)
