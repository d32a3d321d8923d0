"""What happened since a log was prepared, read as that log was."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.raw.ids import typed_ids
from data_pipelines.raw.readers import read_files
from hiertcn_jax.serving.frames import Names


def typed_users(ids: pl.Series, manifest: dict[str, Any], where: str) -> pl.Series:
    """Ids of users, from text to the type that they have in the log.

    Args:
      ids: As text.
      manifest: Of the prepared log.
      where: The file that they are from, for the message.

    Raises:
      DataError: One does not have that type.
    """
    id_type = manifest.get("ids", {"user": "string"})["user"]
    try:
        return typed_ids(ids, id_type)
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{where}: ids of users must be {id_type}, as in the log: {reason}"
        ) from error


def read_events(paths: Sequence[str], manifest: dict[str, Any], names: Names) -> pl.DataFrame:
    """The events of files, as columns of these names; times are datetimes.

    Ids of users have the type of the log, those of items are text.

    Session ids are not read: where sessions end is told by pauses.

    Args:
      paths: See `readers.read_files`.
      manifest: Of the prepared log, whose flags say how to read them.
      names: Of the columns of the result.

    Raises:
      DataError: As `read_files`; the manifest's flags are not those of this version; a user's id
        does not have the type of the log.
    """
    try:
        config = PrepareConfig.from_dict(manifest["flags"])
    except (KeyError, ValueError) as error:
        raise DataError(f"manifest.json: flags: {error}; prepare the log again") from error
    options = config.read_options()
    options = dataclasses.replace(
        options, columns=dataclasses.replace(options.columns, session=None)
    )
    try:
        log, _ = read_files(paths, options)
    except DataError as error:
        raise DataError(_without_flags(str(error))) from error
    user_ids = typed_users(log.user_ids, manifest, ",".join(paths))
    return pl.DataFrame(
        {
            names.user: user_ids.gather(log.users),
            names.item: log.item_ids.gather(log.items),
            names.time: pl.from_epoch(pl.Series(log.times_ms), "ms"),
        }
    )


def _without_flags(message: str) -> str:
    """An error of reading without the flags of `prepare`, which the caller does not have."""
    what = re.split(r"; [^;]*--\w+", message)[0]
    return f"{what}; events are read as the log was prepared: write the file in the same form"
