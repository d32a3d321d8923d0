"""Flags that say where the data of a trained run is now."""

from typing import NamedTuple

from absl import flags

HELP_TOPIC = "data"

FLAGS = flags.FLAGS


class DataLocation(NamedTuple):
    """Where the data of a trained run is now.

    Attributes:
      data_dir: The prepared directory; None: the same as in training.
      item_embeddings: File of given embeddings; None: the run's file, which must be unchanged.
      item_embedding_ids: The ids of its rows; None: the run's.
    """

    data_dir: str | None = None
    item_embeddings: str | None = None
    item_embedding_ids: str | None = None


def define_data_flags() -> None:
    """Defines the flags of `DataLocation`."""
    flags.DEFINE_string(
        "data_dir", None, "Prepared directory, if it is not where the run was trained on it."
    )
    flags.DEFINE_string(
        "item_embeddings",
        None,
        "File of given embeddings to use instead of the run's. It may have more items; with it "
        "--data_dir may hold other data.",
    )
    flags.DEFINE_string(
        "item_embedding_ids",
        None,
        "Ids of the rows of --item_embeddings: .txt, one per line, or .parquet with a column "
        "item_id. Default: the run's.",
    )


def read_data_location() -> DataLocation:
    """The `DataLocation` that the parsed flags give.

    Raises:
      ValueError: There are ids without embeddings.
    """
    if FLAGS.item_embedding_ids is not None and FLAGS.item_embeddings is None:
        raise ValueError(
            f"item_embedding_ids={FLAGS.item_embedding_ids}: has no use without item_embeddings"
        )
    return DataLocation(*(FLAGS[name].value for name in DataLocation._fields))
