"""States that earlier versions saved are restored, number for number."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hiertcn_jax.learning.earlier_states import earlier_states
from hiertcn_jax.saving.checkpoint import Checkpoints
from hiertcn_jax.saving.checksums import write_checksums
from tests.learning.small_steps import MODEL, Run
from tests.volume import mostly_thorough


@pytest.mark.parametrize("mode", mostly_thorough(["dense", "rows"], "rows"))
def test_a_checkpoint_of_schema_2_is_restored(tmp_path, mode):
    run = Run(dataclasses.replace(MODEL, item_mode=mode))
    state, _ = run.steps(run.fresh(), iter(run.loader), 3)
    rows, adam = run.optimizer.rows, state.opt_state["adam"]
    old, rate = adam, state.opt_state["learning_rate"]
    if rows:
        old = optax.ScaleByAdamState(adam.count, adam.mu["model"], adam.nu["model"])
    tables = {"mu": adam.mu["items"], "nu": adam.nu["items"]}
    opt_state = {"dense": (old, rate), "rows": tables if rows else None}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, state._replace(opt_state=opt_state), {}, {})
    checkpoints.wait()
    as_schema_2(tmp_path / "3")
    fresh = jax.tree.map(jnp.array, run.fresh())
    restored = checkpoints.restore(3, fresh, earlier=earlier_states(fresh, rows))
    checkpoints.close()
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def as_schema_2(folder):
    """As if an earlier version had written it."""
    path = folder / "config" / "metadata"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 2}))
    (folder / "checksums.json").unlink()
    write_checksums(folder)
