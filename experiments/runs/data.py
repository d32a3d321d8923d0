"""Opens a prepared directory."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from data_pipelines.config import PrepareConfig
from data_pipelines.embeddings.item_embeddings import ItemEmbeddings, open_item_embeddings
from data_pipelines.errors import DataError
from data_pipelines.histories.caching import CachedHistories
from data_pipelines.histories.events import HistorySource
from data_pipelines.histories.fitted_items import FittedItems
from data_pipelines.histories.manifest import load_manifest
from data_pipelines.histories.prepared_files import verify_files
from data_pipelines.histories.record import Split
from data_pipelines.histories.store import open_histories
from data_pipelines.prepare import prepare
from data_pipelines.raw.ids import typed_ids
from data_pipelines.sessions.vocabulary import Vocabulary
from data_pipelines.synthetic import Variant
from experiments.runs.config import TrainConfig
from hiertcn_jax.batch import FIRST_ITEM_ID

Catalogue = Literal["fitted", "live"]
"""The items to rank among: those of the fitted part, or those that anybody picked so far."""

CACHE_BYTES = 1 << 30
"""Memory for histories that were read: at 28 events a user, 1 GiB holds 800,000 users."""


class Data(NamedTuple):
    """The output of `data_pipelines.prepare`.

    Attributes:
      directory: Its path.
      histories: One history per user. Later items are unknown in them, unless the catalogue is
        live.
      vocabulary: The catalogue.
      manifest: See `data_pipelines.histories.manifest.load_manifest`.
      embeddings: Given embeddings of the catalogue; None: they are learned.
      catalogue: Whether vocabulary and histories are those of the fitted catalogue, or of all items
        (`live`): the fitted ones, then the later ones. Models are trained with `fitted`.
    """

    directory: Path
    histories: HistorySource
    vocabulary: Vocabulary
    manifest: dict[str, Any]
    embeddings: ItemEmbeddings | None = None
    catalogue: Catalogue = "fitted"

    def cut(self, last: Split) -> int | None:
        """Seconds. No event from then on is fitted with the parts up to `last`; None: no limit."""
        cuts = self.manifest.get("cuts")
        if cuts is None or last == Split.TEST:
            return None
        return cuts["valid_after" if last == Split.TRAIN else "test_after"]

    @property
    def content_hash(self) -> str:
        """The same for the same content."""
        return self.manifest["content_hash"]

    def user_ids(self, user_n: np.ndarray) -> list[str]:
        """The ids of users by the index of their history, as text."""
        users, inverse_n = np.unique(user_n, return_inverse=True)
        ids = [history.user_id for history in self.histories.__getitems__(users.tolist())]
        return [ids[place] for place in inverse_n]

    def logged_user_ids(self, user_n: np.ndarray) -> pl.Series:
        """The ids of users by the index of their history, in the type of the raw log.

        Raises:
          DataError: An id does not have the type in the manifest.
        """
        id_type = self.manifest.get("ids", {"user": "string"})["user"]
        ids = pl.Series(self.user_ids(user_n), dtype=pl.String)
        try:
            return typed_ids(ids, id_type)
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"{self.directory}: a user's id is no {id_type}, as manifest.json has it; prepare "
                "it again"
            ) from error

    def fitted_events(self, fit_on: str) -> int:
        """Number of events in the fitted parts."""
        splits = self.manifest["counts"]["splits"]
        return sum(splits[part]["events"]["all"] for part in fit_on.split("_"))

    def known_events(self, split: Split) -> int:
        """Events of a part that are scored: those of items known by then, in this catalogue."""
        part = self.manifest["counts"]["splits"][split.name.lower()]
        left_out = "unseen" if self.catalogue == "live" else "unknown_items"
        return part["events"]["all"] - part[left_out]["all"]

    def fitted_sessions(self, fit_on: str) -> int:
        """Number of sessions in the fitted parts."""
        splits = self.manifest["counts"]["splits"]
        return sum(splits[part]["sessions"] for part in fit_on.split("_"))

    def counts_v(self, fit_on: str) -> np.ndarray:
        """int64 [v]. Fitted events of each row of the item table, 0 for padding and unknown."""
        counts_v = self.vocabulary.counts_v
        return counts_v if fit_on == "train" else counts_v + self.vocabulary.valid_counts_v


def make_synthetic(directory: Path, variant: Variant | None) -> None:
    """Prepares a synthetic log if one is asked for, and prints that.

    Raises:
      OSError: The directory cannot be written.
    """
    if variant is not None:
        print(f"{directory}: does not exist; making a synthetic log there ({variant})", flush=True)
        prepare(PrepareConfig(synthetic=variant, output_dir=str(directory)))


def open_data(
    directory: str | Path, catalogue: Catalogue = "fitted", cache_bytes: int = CACHE_BYTES
) -> Data:
    """Opens a prepared directory.

    Args:
      directory: Its path.
      catalogue: See `Data`.
      cache_bytes: Memory for histories that were read.

    Raises:
      DataError: It is missing, incomplete, changed, or has another schema version; or the catalogue
        is live and an earlier version prepared it.
    """
    directory = Path(directory)
    manifest = load_manifest(directory)
    verify_files(directory, manifest["files"])
    vocabulary = Vocabulary.load(directory)
    stored: HistorySource = open_histories(directory, vocabulary.size)
    _require_counts(directory, manifest, vocabulary, len(stored))
    if catalogue == "live":
        if vocabulary.known_from is None:
            raise DataError(
                f"{directory}: an earlier version prepared it, which did not tell apart the items "
                "beyond the fitted ones; prepare it again for catalogue=live"
            )
    elif vocabulary.fitted_size < vocabulary.size:
        stored, vocabulary = FittedItems(stored, vocabulary), vocabulary.fitted_part()
    histories = CachedHistories(stored, cache_bytes)
    item_type = manifest.get("ids", {"item": "string"})["item"]
    if vocabulary.id_type != item_type:
        raise DataError(
            f"{directory}: the ids of vocabulary.parquet are {vocabulary.id_type}, but "
            f"manifest.json says {item_type}; prepare it again"
        )
    return Data(directory, histories, vocabulary, manifest, catalogue=catalogue)


def with_embeddings(data: Data, config: TrainConfig) -> Data:
    """Adds the given embeddings that a run asks for, if any.

    Raises:
      DataError: The files cannot be used, see `open_item_embeddings`.
    """
    if not config.item_embeddings:
        return data
    embeddings = open_item_embeddings(
        config.item_embeddings,
        config.item_embedding_ids,
        data.vocabulary,
        config.embedding_cache_mb << 20,
    )
    return data._replace(embeddings=embeddings)


def require_monitored(data: Data, monitor: str) -> None:
    """Checks that a validation has a value to monitor.

    Args:
      data: What is validated on.
      monitor: As group/metric.

    Raises:
      DataError: No event of the group is on an item that train has.
    """
    counts, group = data.manifest["counts"]["splits"]["valid"], monitor.split("/")[0]
    if counts["events"][group] > counts["unknown_items"][group]:
        return
    others = "" if group == "all" else "monitor another group, such as all/mrr, or "
    kind = "events" if group == "all" else f"{group} events of a session"
    raise DataError(
        f"{data.directory}: valid has no {kind} on items that train has, so monitor={monitor} has "
        f"no value; {others}prepare the log with a larger valid part or another --split"
    )


def require_width(embeddings: ItemEmbeddings | None, item_dim: int) -> None:
    """Checks that given embeddings, if there are any, have the width of a model's items.

    Raises:
      DataError: They do not.
    """
    if embeddings is not None and embeddings.width != item_dim:
        raise DataError(
            f"{embeddings.file.path}: {embeddings.width} values a row, but item_dim={item_dim}; "
            f"train with --item_dim={embeddings.width}"
        )


def _require_counts(
    directory: Path, manifest: dict[str, Any], vocabulary: Vocabulary, histories: int
) -> None:
    """Checks that a directory contains what its manifest counts."""
    counts = manifest["counts"]
    known = {
        name: part["events"]["all"] - part["unknown_items"]["all"]
        for name, part in counts["splits"].items()
    }
    later = vocabulary.size - vocabulary.fitted_size
    fitted = vocabulary.fitted_part()
    checks = [
        ("histories", histories, counts["users"]),
        ("items in vocabulary.parquet", fitted.size - FIRST_ITEM_ID, counts["items"]),
        ("later items in vocabulary.parquet", later, counts.get("later_items", 0)),
    ]
    # With cuts, the events of sessions that cross them are not fitted.
    if "cuts" not in manifest:
        events = {"train": fitted.train_events, "valid": fitted.valid_events}
        checks += [
            (f"{part} events in vocabulary.parquet", int(counts_n.sum()), known[part])
            for part, counts_n in events.items()
        ]
    for what, found, counted in checks:
        if found != counted:
            raise DataError(
                f"{directory}: {found} {what}, but manifest.json counts {counted}; prepare it again"
            )
