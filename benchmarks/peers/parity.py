"""Compares the PyTorch HierTCN with the JAX one: same parameters, same log, same numbers.

    python -m benchmarks.peers.parity --env=torch=PYTHON

Feeds both the same sessions, batch after batch with the carry between them. Predictions, losses and
gradients must agree, otherwise the exit code is 1.
"""

import itertools
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.events import Events
from benchmarks.peers.grid import Grid, GridBatch, cut_sessions, grid_batches
from benchmarks.peers.run import define_environment_flag, read_environments
from benchmarks.peers.settings import Settings
from benchmarks.peers.worker_hiertcn import run_config
from benchmarks.peers.workers import ROOT
from data_pipelines.commands.command import run_command
from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID, Batch
from hiertcn_jax.learning.softmax_losses import shared_sampled_softmax
from hiertcn_jax.models import build
from hiertcn_jax.scoring.item_table import ItemTable, init_item_table
from hiertcn_jax.scoring.scores import Keys, Queries

SETTINGS = Settings(item_dim=12, gru_dim=16, tcn_channels=(8, 8, 8), negatives=40)
GRID = Grid(lanes=4, sessions=5, events=6)
ROWS = 30
BATCHES = 4
TOLERANCE = 1e-5
"""Largest allowed difference, as a share of the largest number of an array."""


class ParityError(Exception):
    """The two differ; the message says where."""


def synthetic_events(seed: int) -> Events:
    """A log of 40 users with sessions of 1 to 9 events; the grid cuts some."""
    generator = np.random.default_rng(seed)
    sessions_of_user = generator.integers(1, 12, 40)
    lengths = generator.integers(1, 10, sessions_of_user.sum())
    user_m = np.repeat(np.arange(40), sessions_of_user)
    session_n = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    first_n = np.diff(session_n, prepend=-1) != 0
    user_n = user_m[session_n].astype(np.int32)
    first_of_user_n = np.diff(user_n, prepend=-1) != 0
    gap_n = generator.exponential(100.0, len(session_n)) * (first_n & ~first_of_user_n)
    return Events(
        item_id_n=generator.integers(FIRST_ITEM_ID, ROWS, len(session_n), dtype=np.int32),
        time_n=np.arange(len(session_n)),
        session_n=session_n,
        user_n=user_n,
        gap_hours_n=gap_n.astype(np.float32),
        rows=ROWS,
    )


def as_chunks(grid: GridBatch) -> Batch:
    """The same sessions as rows of lanes x (sessions * events), padding at the tail."""
    lanes, sessions, width = grid.item_ids_bst.shape
    shape = (lanes, sessions * width)
    real_bl = (grid.item_ids_bst != PADDING_ID).reshape(shape)
    # Stable: real events first, in order.
    order_bl = np.argsort(~real_bl, axis=1, kind="stable")
    real_bl = np.take_along_axis(real_bl, order_bl, axis=1)
    item_ids_bl = np.take_along_axis(grid.item_ids_bst.reshape(shape), order_bl, axis=1)
    return Batch(
        item_ids_bl=item_ids_bl,
        position_bl=np.where(real_bl, order_bl % width, 0).astype(np.int32),
        user_position_bl=np.zeros(shape, np.int32),  # HierTCN does not read these two.
        seconds_bl=np.zeros(shape, np.int32),
        session_bl=np.where(real_bl, order_bl // width, 0).astype(np.int32),
        starts_session_bs=np.ones((lanes, sessions), bool),
        starts_user_bs=grid.starts_user_bs,
        gap_hours_bs=grid.gap_hours_bs,
        loss_weight_bl=real_bl.astype(np.float32),
        scored_bl=np.zeros(shape, bool),
    )


def torch_parameters(params: dict[str, Any]) -> dict[str, np.ndarray]:
    """Renames and reshapes parameters, or gradients, for `torch_model.HierTCN`."""
    model, items = params["model"], params["items"]
    gru = model["gru"]["layer_0"]
    values = {
        "items.weight": items.input_vd,
        "item_bias": items.bias_v,
        "start_token": model["start_token"],
        "start_state": gru["start_state"],
        "log_tau_hours": model["gru"]["log_tau_hours"],
        "gru_input.weight": gru["input"]["kernel"].T,
        "gru_input.bias": gru["input"]["bias"],
        "gru_recurrent.weight": gru["recurrent"].T,
        "candidate_bias": gru["candidate_bias"],
        "join_item.weight": model["join_item"]["kernel"].T,
        "join_item.bias": model["join_item"]["bias"],
        "join_state.weight": model["join_state"]["kernel"].T,
        "output.weight": model["output"]["kernel"].T,
        "output.bias": model["output"]["bias"],
    }
    for block, channels in enumerate(SETTINGS.tcn_channels):
        dense = model["tcn"][f"block_{block}"]["conv_0"]["Dense_0"]
        # Rows are taps, the oldest first, then channels.
        kernel_kcf = dense["kernel"].reshape(SETTINGS.kernel_size, -1, channels)
        values[f"convolutions.{block}.weight"] = kernel_kcf.transpose(2, 1, 0)
        values[f"convolutions.{block}.bias"] = dense["bias"]
    return {name: np.asarray(value) for name, value in values.items()}


def jax_side(batches: list[GridBatch], candidate_k: np.ndarray) -> Iterator[dict[str, Any]]:
    """For each batch: predictions and targets of its events in order, the loss, the gradients.

    Yields the parameters first.
    """
    config = run_config(SETTINGS, "sampled_softmax").model
    model = build(config)
    carry = model.init_carry(GRID.lanes)
    items = init_item_table(jax.random.key(0), ROWS, config)
    chunks = [as_chunks(batch).with_embeddings(items.input_vd) for batch in batches]
    variables = jax.jit(model.init)(jax.random.key(1), chunks[0], carry)
    params = {"model": variables["params"], "items": items}
    # Start states and biases of 0 could hide a difference.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    params = jax.tree.unflatten(
        tree,
        [
            leaf + 0.3 * jax.random.normal(key, leaf.shape)
            for leaf, key in zip(leaves, keys, strict=True)
        ],
    )
    yield torch_parameters(params)

    def mean_loss(params: dict[str, Any], batch: Batch, carry: Any) -> tuple[jax.Array, Any]:
        table: ItemTable = params["items"]
        batch = batch.with_embeddings(table.input_vd)
        u_bld, carry = model.apply({"params": params["model"]}, batch, carry, train=True)
        loss = shared_sampled_softmax(
            Queries(u_bld),
            Keys(table.input_vd, table.bias_v),
            batch.item_ids_bl,
            batch.loss_weight_bl,
            jnp.asarray(candidate_k),
            jnp.log(SETTINGS.negatives / (2.0 + candidate_k)),
        )
        return loss.mean(), (u_bld, carry)

    step = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))
    for chunk in chunks:
        (loss, (u_bld, carry)), grads = step(params, chunk, carry)
        real_bl = chunk.item_ids_bl != PADDING_ID
        yield {"u": np.asarray(u_bld)[real_bl], "loss": loss, **torch_parameters(grads)}


def compare(python: str) -> dict[str, float]:
    """The largest difference of every array over all batches, with both ways of padding.

    Raises:
      ParityError: One is above `TOLERANCE`.
    """
    sessions = cut_sessions(synthetic_events(seed=0), GRID.events)
    batches = list(itertools.islice(grid_batches(sessions, GRID, seed=0), BATCHES))
    candidate_k = np.random.default_rng(0).integers(FIRST_ITEM_ID, ROWS, SETTINGS.negatives)
    parameters, *expected = jax_side(batches, candidate_k)
    arrays = {f"parameter:{name}": value for name, value in parameters.items()}
    arrays["settings"] = np.array(json.dumps(SETTINGS._asdict()))
    arrays["candidate_k"] = candidate_k
    for number, batch in enumerate(batches):
        arrays |= {f"{number}:{name}": value for name, value in batch._asdict().items()}
    worst: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        given, answer = Path(scratch, "given.npz"), Path(scratch, "answer.npz")
        np.savez(given, **arrays)
        module = "benchmarks.peers.parity_torch"
        subprocess.run([python, "-m", module, str(given), str(answer)], cwd=ROOT, check=True)
        with np.load(answer) as got:
            for padding, number in itertools.product(("grid", "tight"), range(BATCHES)):
                for name, value in expected[number].items():
                    other = got[f"{padding}:{number}:{name}"]
                    scale = max(float(np.abs(value).max()), 1e-3)
                    difference = float(np.abs(value - other).max()) / scale
                    worst[name] = max(worst.get(name, 0.0), difference)
    for name, difference in worst.items():
        if not difference <= TOLERANCE:
            raise ParityError(f"{name}: differs by {difference:.1e} of its largest value")
    return worst


def read_settings() -> str:
    """The Python of PyTorch's environment."""
    environments = read_environments()
    if set(environments) != {"torch"}:
        raise ValueError("flag --env: needs exactly torch=PYTHON")
    return environments["torch"]


def main(python: str) -> None:
    """Compares and prints."""
    for name, difference in compare(python).items():
        print(f"{name:24} {difference:.1e}")


if __name__ == "__main__":
    define_environment_flag()
    run_command(read_settings, main, (ParityError, OSError, subprocess.CalledProcessError))
