"""Checks the metadata of a TFDS dataset before TFDS trusts it.

TFDS imports the module of each class in features.json, and opens the paths from the templates in
dataset_info.json. So a dataset from someone else could run code, or read other files.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipelines.errors import DataError
from data_pipelines.histories.prepared_files import read_json

_OWN_CLASSES = "tensorflow_datasets."


def require_plain_metadata(directory: Path) -> None:
    """Checks that a dataset's metadata names no class outside of TFDS and no path outside of it.

    Args:
      directory: With dataset_info.json, and features.json if there is one.

    Raises:
      DataError: A file cannot be read, or names something it must not.
    """
    path = directory / "dataset_info.json"
    for name in _names(path, read_json(path)):
        if not re.fullmatch(r"[\w.{}-]+", name):
            raise DataError(
                f"{path}: splits: {name!r} is no name of a file beside it; prepare it again"
            )
    path = directory / "features.json"
    if path.exists():
        for name in _classes(read_json(path)):
            if not name.startswith(_OWN_CLASSES):
                raise DataError(
                    f"{path}: {name!r} is no class of {_OWN_CLASSES[:-1]}; prepare it again"
                )


def _names(path: Path, info: Any) -> Iterator[str]:
    """The parts of the dataset's file names."""
    try:
        names = [info["name"], info.get("fileFormat", "tfrecord")]
        for split in info["splits"]:
            names += [split["name"], split.get("filepathTemplate", "{SPLIT}")]
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: does not describe a dataset: {error!r}; prepare it again"
        ) from error
    for name in names:
        yield str(name)


def _classes(features: Any) -> Iterator[str]:
    """Every class named at any depth; older versions write "type" and "proto_cls"."""
    stack = [features]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            for key in ("pythonClassName", "python_class_name", "type", "proto_cls"):
                # It may also be a feature's name; then the value is an object.
                if isinstance(value.get(key), str):
                    yield value[key]
            stack += value.values()
        elif isinstance(value, list):
            stack += value
