"""An earlier prepared directory that a log continues: its settings, its catalogue, its events."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.appending.joining import Joined, join
from data_pipelines.appending.kept_log import FOLDER, load_kept_log
from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories.manifest import load_manifest
from data_pipelines.histories.prepared_files import verify_files
from data_pipelines.raw.drops import Drop
from data_pipelines.raw.log import Log
from data_pipelines.raw.log_facts import LogFacts
from data_pipelines.raw.odd_times import UnitSeen
from data_pipelines.raw.times import to_iso
from data_pipelines.sessions.splits import SplitOptions
from data_pipelines.sessions.vocabulary import Vocabulary
from hiertcn_jax.settings import fields_of

OWN = ("output_dir", "previous", "input", "items", "valid_after", "test_after", "on_bad_row")
"""Settings that an append may have for itself; all others are those of the earlier directory."""


def why_not_kept(config: PrepareConfig) -> str | None:
    """The setting because of which a log keeps nothing to append to; None if it does."""
    if config.runner is not None:
        return f"runner={config.runner}"
    if config.impressions:
        return "impressions"
    if config.svd_embeddings:
        return f"svd_embeddings={config.svd_embeddings}"
    if config.max_user_events:
        # A user who grows past it would have to be taken out.
        return f"max_user_events={config.max_user_events}"
    return None


class Earlier:
    """A prepared directory with what it keeps for later events.

    Attributes:
      directory: Its path.
      manifest: Its manifest.
      kept: Its events.
      vocabulary: Its catalogue.
    """

    def __init__(self, directory: Path) -> None:
        """Reads it.

        Raises:
          DataError: It is incomplete or damaged, or keeps no events.
        """
        self.directory = directory
        self.manifest = load_manifest(directory)
        self._config = self._read_config()
        if not any(name.startswith(f"{FOLDER}/") for name in self.manifest["files"]):
            cause = why_not_kept(self._config)
            way = (
                "an earlier version prepared it; prepare it again"
                if cause is None
                else f"it was prepared with {cause}; prepare everything at once, or without that"
            )
            raise DataError(f"{directory}: keeps no events to append to, because {way}")
        verify_files(directory, self.manifest["files"], all_of_them=True)
        self.vocabulary = Vocabulary.load(directory)
        self.kept = load_kept_log(directory, self._config.session_column is not None)

    def _read_config(self) -> PrepareConfig:
        try:
            return PrepareConfig.from_dict(self.manifest["flags"])
        except ValueError as error:
            raise DataError(
                f"{self.directory}: manifest.json: flags: {error}; prepare it again"
            ) from error

    def settings(self, asked: PrepareConfig, given: Collection[str] = ()) -> PrepareConfig:
        """The settings of an append: those of the directory, with its own input and output.

        Args:
          asked: What the user gave.
          given: Names of settings that count as given even if they have their default.

        Raises:
          DataError: A setting differs from the directory's.
        """
        for field in fields_of(PrepareConfig):
            name, value = field.name, getattr(asked, field.name)
            here = getattr(self._config, name)
            is_given = name in given or value != field.default
            if is_given and name not in OWN and value != here:
                raise DataError(
                    f"{name}={value}: {self.directory} was prepared with {name}={here}, and later "
                    "events are prepared as the earlier ones; leave it out, or prepare everything "
                    "at once"
                )
        own: dict[str, Any] = {name: getattr(asked, name) for name in OWN}
        if asked.items is None:
            own["items"] = self._config.items
        if asked.valid_after is None:
            own |= {name: getattr(self._config, name) for name in ("valid_after", "test_after")}
        else:
            own |= {"valid_fraction": None, "test_fraction": None}
        own |= {"tfds": None, "tfds_data_dir": None, "synthetic": None}
        try:
            return dataclasses.replace(self._config, **own)
        except ValueError as error:
            raise DataError(str(error)) from error

    @property
    def facts(self) -> LogFacts:
        """Facts about its events, with the directory's unit of time."""
        facts = self.kept.log.facts
        return LogFacts(UnitSeen(facts.unit.unit, str(self.directory)), dict(facts.ids))

    def join(self, read: Log, config: PrepareConfig) -> Joined:
        """Its events and new ones; see `joining.join`."""
        return join(self.kept, read, str(self.directory), config.on_bad_row)

    def drops(self, read: Sequence[Drop], late: int) -> list[Drop]:
        """What reading dropped, of its events and of new ones.

        Args:
          read: Of the new events.
          late: Number of new events that were left out because they came too late.
        """
        options = self._config.filter_options()
        names = {f"{name}={value}" for name, value in dataclasses.asdict(options).items()}
        sums = {
            drop["reason"]: drop["events"]
            for drop in self.manifest["drops"]
            if drop["reason"] not in {*names, "collapse_repeats"}
        }
        late_drop = [Drop("earlier than the previous log's last event", late)] if late else []
        for drop in [*read, *late_drop]:
            sums[drop.reason] = sums.get(drop.reason, 0) + drop.events
        return [Drop(reason, events) for reason, events in sums.items()]

    def require_later_cuts(self, split: SplitOptions) -> None:
        """Checks that nothing that was fitted is held out now.

        Raises:
          DataError: A cut is earlier than it was.
        """
        for name, before in self.manifest.get("cuts", {}).items():
            now = getattr(split, f"{name}_ms")
            if now < 1000 * before:
                raise DataError(
                    f"{name}={to_iso(now)}: {self.directory} has {to_iso(1000 * before)}, and a "
                    "cut only moves on; set it to that time or later"
                )

    def require_users(self, log: Log, with_history: np.ndarray) -> None:
        """Checks that every user with a history still has one.

        Args:
          log: All events.
          with_history: Codes of the users that have one now, sorted.

        Raises:
          DataError: One has none.
        """
        before = np.arange(len(self.kept.fingerprints))
        lost = np.setdiff1d(before, with_history)
        if len(lost):
            raise DataError(
                f"{self.directory}: with the new events the filters drop its user "
                f"{log.user_ids[int(lost[0])]}; a user cannot be taken out, so prepare everything "
                "at once"
            )

    @property
    def ancestors(self) -> list[dict[str, Any]]:
        """The manifest's `ancestors` of a log that continues it."""
        one = {
            "content_hash": self.manifest["content_hash"],
            "items": self.manifest["counts"]["items"],
        }
        if "cuts" in self.manifest:
            one["cuts"] = self.manifest["cuts"]
        return [*self.manifest.get("ancestors", []), one]
