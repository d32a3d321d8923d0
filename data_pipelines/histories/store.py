"""Writes and reads histories."""

import errno
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import polars as pl
from google.protobuf.message import DecodeError

from data_pipelines.errors import DataError
from data_pipelines.histories.prepared_files import require_within
from data_pipelines.histories.record import NO_ITEMS, History, find_problem
from data_pipelines.raw.parquet import read_parquet
from data_pipelines.raw.tfds_metadata import require_plain_metadata

RECORDS_PER_SHARD = 250_000
"""Histories per file."""

PLACES_FILE = "records.parquet"
"""Only in a log that was appended to: which stored record is whose; older ones no longer count."""


def write_histories(data_dir: Path | str, histories: Iterable[History]) -> None:
    """Writes histories as the TFDS dataset `data_dir`/histories, as the iterator yields them.

    Args:
      data_dir: An existing directory.
      histories: At least one. Holds only one at a time in memory.

    Raises:
      OSError: They cannot be written.
    """
    # Importing TFDS takes half a second.
    from tensorflow_datasets.core import sequential_writer

    from data_pipelines.histories import builder

    dataset = builder.Histories(data_dir=data_dir, file_format="array_record")
    Path(dataset.data_dir).mkdir(parents=True)
    writer = sequential_writer.SequentialWriter(
        dataset.info, max_examples_per_shard=RECORDS_PER_SHARD, file_format="array_record"
    )
    writer.initialize_splits([builder.SPLIT])
    # dataclasses.asdict would copy the arrays.
    examples = (vars(history) for history in histories)
    try:
        writer.add_examples({builder.SPLIT: examples})
        writer.close_all()
    except RuntimeError as error:
        number = _errno_in(str(error))
        if number is None:
            raise
        raise OSError(number, os.strerror(number)) from error


def _errno_in(text: str) -> int | None:
    """The number of the system's error that ArrayRecord tells in words where it cannot write."""
    return next((number for number in errno.errorcode if os.strerror(number) in text), None)


def join_histories(
    data_dir: Path | str, parts: Sequence[Path | str], kept: Sequence[Path | str] = ()
) -> None:
    """Concatenates datasets into one.

    With parts of `RECORDS_PER_SHARD` histories, the result equals what `write_histories` makes of
    all histories.

    Args:
      data_dir: An existing directory.
      parts: Directories that `write_histories` wrote. Their files are moved.
      kept: Such directories that come first. Their files stay: they get a second name (a hard
        link), or are copied where the disk has no such links.
    """
    import tensorflow_datasets as tfds

    from data_pipelines.histories import builder

    whole = builder.Histories(data_dir=data_dir, file_format="array_record")
    directory = Path(whole.data_dir)
    directory.mkdir(parents=True)
    lengths: list[int] = []
    total_bytes = 0
    template: Any = None
    for part in [*kept, *parts]:
        split = builder.Histories(data_dir=part, file_format="array_record").info.splits[
            builder.SPLIT
        ]
        template = template or split.filename_template
        for number, file in enumerate(sorted(map(Path, split.filepaths)), len(lengths)):
            name = re.sub(r"-\d{5}", f"-{number:05d}", file.name, count=1)
            if part in kept:
                _name_twice(file, directory / name)
            else:
                file.rename(directory / name)
        lengths += split.shard_lengths
        total_bytes += split.num_bytes
    info = tfds.core.SplitInfo(
        name=builder.SPLIT,
        shard_lengths=lengths,
        num_bytes=total_bytes,
        filename_template=template.replace(data_dir=directory),
    )
    whole.info.set_file_format("array_record")
    whole.info.set_splits(tfds.core.splits.SplitDict([info]))
    whole.info.write_to_directory(directory)


def _name_twice(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError:
        shutil.copyfile(file, name)


def open_histories(data_dir: Path | str, item_rows: int | None = None) -> "HistorySource":
    """Opens histories that `write_histories` wrote, for random access.

    Args:
      data_dir: The directory they were written to.
      item_rows: Rows of the item table; all item ids must be below. None: not checked.

    Raises:
      DataError: There are none, they have another version, or a file is missing.
    """
    import tensorflow_datasets as tfds

    from data_pipelines.histories import builder

    name, version = builder.Histories.name, str(builder.Histories.VERSION)
    directory = Path(data_dir) / name / version
    if not (directory / "dataset_info.json").is_file():
        raise DataError(f"{directory}: no histories of version {version}; prepare it again")
    require_plain_metadata(directory)
    try:
        dataset = builder.Histories(data_dir=data_dir, file_format="array_record")
        shards = [Path(path) for path in dataset.info.splits[builder.SPLIT].filepaths]
    except Exception as error:  # TFDS has no error class for unreadable files.
        raise DataError(
            f"{directory}: cannot be read: {_first_line(error)}; prepare it again"
        ) from error
    for shard in shards:
        if not shard.is_file():
            raise DataError(f"{shard}: no such file; prepare it again")
        require_within(Path(data_dir), shard)
    records = dataset.as_data_source(
        builder.SPLIT, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    places = load_places(Path(data_dir))
    if places is not None and len(places) and places.max() >= len(records):
        raise DataError(
            f"{Path(data_dir) / PLACES_FILE}: record {places.max()} of {len(records)}; prepare it "
            "again"
        )
    return HistorySource(records, directory, item_rows, places)


def save_places(data_dir: Path, places: np.ndarray) -> None:
    """Writes records.parquet: the record of each history, in the order of the histories."""
    pl.DataFrame({"record": pl.Series(places, dtype=pl.Int64)}).write_parquet(
        data_dir / PLACES_FILE
    )


def load_places(data_dir: Path) -> np.ndarray | None:
    """int64 [users]. What `save_places` wrote; None: there is a record for each history.

    Raises:
      DataError: The file is damaged.
    """
    path = data_dir / PLACES_FILE
    if not path.is_file():
        return None
    frame = read_parquet(path, ["record"], lambda found: None)
    column = frame["record"]
    if column.dtype != pl.Int64 or column.has_nulls() or (column < 0).any():
        raise DataError(f"{path}: record: expected whole numbers >= 0; prepare it again")
    return column.to_numpy()


class HistorySource:
    """Histories by index, sorted by user id as text; where events were appended, the users of the
    earlier log come first.

    Decodes records itself, ten times as fast as TFDS and with the same result. Arrays are read-only
    views of the record. For a damaged record, or one that is no history, reading raises a
    DataError that names it.
    """

    def __init__(
        self,
        records: Any,
        directory: Path,
        item_rows: int | None,
        places: np.ndarray | None = None,
    ) -> None:
        """Opens records.

        Args:
          records: Random access to bytes.
          directory: Where they are, for messages.
          item_rows: See `open_histories`.
          places: The record of each history; None: one for each, in order.
        """
        self._records = records
        self._places = places
        self._directory = directory
        self._item_rows = item_rows

    def __len__(self) -> int:
        return len(self._records) if self._places is None else len(self._places)

    def __getitem__(self, index: SupportsIndex) -> History:
        if not 0 <= index.__index__() < len(self):
            raise IndexError(f"index={index}: must be in [0, {len(self)})")
        return self.__getitems__([index.__index__()])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[History]:
        """Reads many at once, several times as fast as one by one."""
        numbers = list(indices) if self._places is None else self._places[list(indices)].tolist()
        try:
            histories = [_decode(record) for record in self._records.__getitems__(numbers)]
            problem = find_problem(histories, self._item_rows)
        # ArrayRecord raises RuntimeError and IndexError; protobuf has its own class.
        except (RuntimeError, LookupError, ValueError, DecodeError) as error:
            problem = _first_line(error)
        if problem is None:
            return histories
        if len(indices) > 1:
            # One of them is damaged: find out which.
            return [history for index in indices for history in self.__getitems__([index])]
        raise DataError(f"{self._directory}: history {indices[0]}: {problem}; prepare it again")


_DTYPES = {
    "item_ids": np.int32,
    "times": np.int64,
    "session_lengths": np.int32,
    "session_splits": np.uint8,
}
_SHOWN = ("shown_items", "shown_counts")
"""Absent from records prepared before impressions existed; they count as empty."""


def _decode(record: bytes) -> History:
    from tensorflow_datasets.proto import tf_example_pb2

    features = tf_example_pb2.Example.FromString(record).features.feature

    def value(name: str) -> bytes:
        return features[name].bytes_list.value[0]

    return History(
        value("user_id").decode("utf-8"),
        *[np.frombuffer(value(name), dtype) for name, dtype in _DTYPES.items()],
        *[
            np.frombuffer(value(name), np.int32) if name in features else NO_ITEMS
            for name in _SHOWN
        ],
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
