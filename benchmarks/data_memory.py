"""Counts bytes of data: for a user in serving, and for an event in training.

    python -m benchmarks.data_memory --json=FILE

Nothing is timed. Bytes are those of the arrays that the loader and the models make. All models get
the same given embeddings; a batch holds each of its items once. `hiertcn` and `tcn_user`, a TCN
over at least the last 200 events of the user, train on our chunks of event streams. `tcn_windows`
is that TCN as it is commonly trained: each label has the embeddings of the 200 events before it,
and serving keeps these for each user. `*_float32` is all in float32; `*_16bit` has embeddings in
float16 and products in bfloat16.

`bytes_per_user` is stored for a user between two events: the carry, or the embeddings.
`bytes_per_label` is the size of a batch, with its embeddings and the carries of its lanes, divided
by its labels. `*_saved` is the saving compared with `tcn_windows`. `ids_bytes_per_user` is what the
TCN would store if it kept only ids; each prediction would then look up 200 embeddings.
"""

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from benchmarks.bucket import define_bucket_flags, read_bucket
from benchmarks.common import print_figures, require_directory, write_report
from benchmarks.streamed_users import StreamedUsers
from data_pipelines.commands.command import run_command
from data_pipelines.lanes.distinct_items import ItemRows
from data_pipelines.lanes.loaders import train_loader
from hiertcn_jax.batch import FIRST_ITEM_ID, Bucket, RowItems
from hiertcn_jax.config import DType, ModelConfig
from hiertcn_jax.layers.tcn import receptive_field
from hiertcn_jax.models import build, model_config
from hiertcn_jax.models.flat_tcn import FlatTCNConfig

WINDOW = 200
"""The least number of events that the flat TCN must see."""

_TYPES: dict[str, tuple[DType, int]] = {"float32": ("float32", 4), "16bit": ("bfloat16", 2)}
"""By the suffix of a case's name: type of products, bytes of an embedding's value."""


class Settings(NamedTuple):
    """The command's flags.

    Attributes:
      bucket: Shape of a batch.
      events: Approximate number of events in the log.
      items: Size of the catalogue.
      width: `d`, width of embeddings, states and channels.
      batches: How many to look at.
      json: The file to write.
    """

    bucket: Bucket
    events: int
    items: int
    width: int
    batches: int
    json: str


class Batches(NamedTuple):
    """Means over batches.

    Attributes:
      bytes: Without embeddings, and without the padding of the distinct items.
      rows: Distinct items.
      labels: Events that are trained on.
    """

    bytes: float
    rows: float
    labels: float


def tree_bytes(tree: Any) -> int:
    """Total bytes of the arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def config_of_width(name: str, width: int, dtype: DType) -> ModelConfig:
    """A model of this width; a TCN over the user gets the blocks that its window needs."""
    channels = [width] * 3
    while True:
        config = model_config(
            name, item_dim=width, gru_dim=width, tcn_channels=tuple(channels), dtype=dtype
        )
        if not isinstance(config, FlatTCNConfig) or receptive_field(config) > WINDOW:
            return config
        channels.append(width)


def survey(settings: Settings) -> Batches:
    """Averages over some batches."""
    users = StreamedUsers(settings.events, settings.items, seed=0)
    rows = ItemRows(settings.items + FIRST_ITEM_ID)
    loader = train_loader(users, settings.bucket, seed=0, item_rows=rows, prefetch=0)
    found = []
    for batch, _ in itertools.islice(loader, settings.batches):
        assert isinstance(batch.items, RowItems)
        distinct_u = np.asarray(batch.items.distinct_u)
        distinct_u = distinct_u[: int(np.argmax(distinct_u)) + 1]
        size = tree_bytes(batch.replace(items=RowItems(distinct_u)))
        found.append(Batches(size, len(distinct_u), int(np.count_nonzero(batch.loss_weight_bl))))
    return Batches(*np.mean(found, axis=0).tolist())


def measure(settings: Settings) -> dict[str, dict[str, float]]:
    """All cases."""
    batches = survey(settings)
    cases: dict[str, dict[str, float]] = {}
    for ending, (dtype, item_size) in _TYPES.items():
        row = settings.width * item_size
        window = WINDOW * row
        cases[f"tcn_windows_{ending}"] = {
            "bytes_per_user": window,
            "bytes_per_label": window,
            "ids_bytes_per_user": WINDOW * 4,
        }
        for name in ("hiertcn", "tcn_user"):
            config = config_of_width(name, settings.width, dtype)
            carry = tree_bytes(jax.eval_shape(lambda config=config: build(config).init_carry(1)))
            batch = batches.bytes + batches.rows * row + settings.bucket.lanes * carry
            label = batch / batches.labels
            cases[f"{name}_{ending}"] = {
                "bytes_per_user": carry,
                "bytes_per_label": round(label, 1),
                "bytes_per_user_saved": round(1 - carry / window, 4),
                "bytes_per_label_saved": round(1 - label / window, 4),
                "labels_per_batch": round(batches.labels, 1),
                "distinct_items_per_batch": round(batches.rows, 1),
            }
    return cases


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    define_bucket_flags()
    flags.DEFINE_integer("log_events", 10_000_000, "Events of the log.", lower_bound=1)
    flags.DEFINE_integer("items", 1_000_000, "Size of the catalogue.", lower_bound=2)
    flags.DEFINE_integer("width", 128, "Width of embeddings, states, channels.", lower_bound=1)
    flags.DEFINE_integer("batches", 20, "Batches to look at.", lower_bound=1)


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: The file cannot be written.
    """
    values = flags.FLAGS
    require_directory(values.json)
    bucket = read_bucket()
    sizes = (values.log_events, values.items, values.width, values.batches)
    return Settings(bucket, *sizes, values.json)


def main(settings: Settings) -> None:
    """Counts, prints and writes the file."""
    cases = measure(settings)
    print_figures(cases)
    write_report(settings.json, "cases", cases)


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (OSError,))
