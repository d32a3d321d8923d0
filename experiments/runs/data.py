"""Opens a prepared directory."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from data_pipelines.config import PrepareConfig
from data_pipelines.embeddings.item_embeddings import ItemEmbeddings, open_item_embeddings
from data_pipelines.errors import DataError
from data_pipelines.histories.caching import CachedHistories
from data_pipelines.histories.events import HistorySource
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


class Data(NamedTuple):
    """The output of `data_pipelines.prepare`.

    Attributes:
      directory: Its path.
      histories: One history per user.
      vocabulary: The catalogue.
      manifest: See `data_pipelines.histories.manifest.load_manifest`.
      embeddings: Given embeddings of the catalogue; None: they are learned.
    """

    directory: Path
    histories: HistorySource
    vocabulary: Vocabulary
    manifest: dict[str, Any]
    embeddings: ItemEmbeddings | None = None

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
        """Events of a part that are of items of the catalogue: those that are scored."""
        part = self.manifest["counts"]["splits"][split.name.lower()]
        return part["events"]["all"] - part["unknown_items"]["all"]

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


def open_data(directory: str | Path) -> Data:
    """Opens a prepared directory.

    Raises:
      DataError: It is missing, incomplete, changed, or has another schema version.
    """
    directory = Path(directory)
    manifest = load_manifest(directory)
    verify_files(directory, manifest["files"])
    vocabulary = Vocabulary.load(directory)
    histories = CachedHistories(open_histories(directory, vocabulary.size))
    _require_counts(directory, manifest["counts"], vocabulary, len(histories))
    item_type = manifest.get("ids", {"item": "string"})["item"]
    if vocabulary.id_type != item_type:
        raise DataError(
            f"{directory}: the ids of vocabulary.parquet are {vocabulary.id_type}, but "
            f"manifest.json says {item_type}; prepare it again"
        )
    return Data(directory, histories, vocabulary, manifest)


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
    directory: Path, counts: dict[str, Any], vocabulary: Vocabulary, histories: int
) -> None:
    """Checks that a directory contains what its manifest counts."""
    parts = counts["splits"]
    known = {
        name: part["events"]["all"] - part["unknown_items"]["all"] for name, part in parts.items()
    }
    for what, found, counted in (
        ("histories", histories, counts["users"]),
        ("items in vocabulary.parquet", vocabulary.size - FIRST_ITEM_ID, counts["items"]),
        ("train events in vocabulary.parquet", int(vocabulary.train_events.sum()), known["train"]),
        ("valid events in vocabulary.parquet", int(vocabulary.valid_events.sum()), known["valid"]),
    ):
        if found != counted:
            raise DataError(
                f"{directory}: {found} {what}, but manifest.json counts {counted}; prepare it again"
            )
