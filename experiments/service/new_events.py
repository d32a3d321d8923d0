"""What happened since a log was prepared, read as that log was."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import polars as pl

from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.raw.readers import read_files
from hiertcn_jax.serving.frames import Names


def read_events(paths: Sequence[str], manifest: dict[str, Any], names: Names) -> pl.DataFrame:
    """The events of files, as columns of these names; ids are text, times are datetimes.

    Session ids are not read: where sessions end is told by pauses.

    Args:
      paths: See `readers.read_files`.
      manifest: Of the prepared log, whose flags say how to read them.
      names: Of the columns of the result.

    Raises:
      DataError: As `read_files`; the manifest's flags are not those of this version.
    """
    try:
        config = PrepareConfig.from_dict(manifest["flags"])
    except (KeyError, ValueError) as error:
        raise DataError(f"manifest.json: flags: {error}; prepare the log again") from error
    options = config.read_options()
    options = dataclasses.replace(
        options, columns=dataclasses.replace(options.columns, session=None)
    )
    log, _ = read_files(paths, options)
    return pl.DataFrame(
        {
            names.user: log.user_ids.gather(log.users),
            names.item: log.item_ids.gather(log.items),
            names.time: pl.from_epoch(pl.Series(log.times_ms), "ms"),
        }
    )
