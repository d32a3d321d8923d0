"""Warns about sizes that a TPU has to pad.

A TPU holds the last two axes of an array in tiles of 8 x 128 numbers of 32 bits, or 16 x 128 of 16
bits, and multiplies them in squares of 128. Incomplete tiles are padded: 100 channels cost as much
as 128. Lanes are the rows of the products that go from session to session, widths are the columns
of all products.
"""

import jax

from experiments.runs.config import RunConfig

_TILE_COLUMNS = 128
_TILE_ROWS = {"float32": 8, "bfloat16": 16}


def tiling_warning(run: RunConfig, backend: str) -> str | None:
    """One line that names the flags whose sizes do not fill a TPU's tiles.

    Args:
      run: The configs of a training run.
      backend: From `jax.default_backend()`.

    Returns:
      None if all sizes fill their tiles, and on anything but a TPU.
    """
    if backend != "tpu":
        return None
    model, rows = run.model, _TILE_ROWS[run.model.dtype]
    uneven = []
    lanes = run.train.number("lanes")
    if lanes % rows:
        uneven.append(f"lanes={lanes} to a multiple of {rows}")
    for name in ("item_dim", "projection_dim", *model.widths):
        value = getattr(model, name)
        if any(width % _TILE_COLUMNS for width in jax.tree.leaves(value)):
            text = ",".join(map(str, jax.tree.leaves(value)))
            uneven.append(f"{name}={text} to multiples of {_TILE_COLUMNS}")
    return f"warning: a TPU fills up {'; '.join(uneven)}" if uneven else None
