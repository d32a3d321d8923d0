"""A model's id changes with its name, with any weight, and with memory's sizes."""

import dataclasses

import numpy as np

from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.serving.model_id import model_id


def params():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(4, 2)).astype(np.float32)
    return {"model": {"a": rng.normal(size=3), "b": np.float32(1)}, "items": items}


def test_it_names_the_weights():
    named = model_id("run@5", params())
    assert named == model_id("run@5", params())
    changed = params()
    changed["items"][3, 1] = np.nextafter(changed["items"][3, 1], np.float32(9))
    others = [
        model_id("run@6", params()),
        model_id("run@5", changed),
        model_id("run@5", {**params(), "model": {"a": params()["model"]["a"], "c": 1.0}}),
        model_id("run@5", params(), dataclasses.replace(SIZES, own_events=64)),
        # The same bytes in another shape or type.
        model_id("run@5", params() | {"items": params()["items"].reshape(2, 4)}),
        model_id("run@5", params() | {"items": params()["items"].view(np.int32)}),
    ]
    assert len({named, *others}) == 1 + len(others)
