"""Names weights, so that what was made with others is refused."""

import dataclasses
import hashlib
import json

import jax
import numpy as np
from jaxtyping import PyTree

from hiertcn_jax.memory.config import SIZES, MemorySizes

_DIGITS = 12


def model_id(name: str, params: PyTree, sizes: MemorySizes = SIZES) -> str:
    """A name with a hash of the weights: it changes with any of them, and with memory's sizes.

    Args:
      name: Of the run and the step.
      params: All arrays that scores depend on.
      sizes: How much memory reads; states have room for as many of the user's own events.

    >>> model_id("run@7", {"w": np.zeros(2)}) == model_id("run@7", {"w": np.ones(2)})
    False
    """
    found = hashlib.sha256(json.dumps(dataclasses.asdict(sizes)).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf, order="C")
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(array.data)
    return f"{name}-{found.hexdigest()[:_DIGITS]}"
