"""Trains HierTCN as `experiments.train` does, loader and all.

python -m benchmarks.peers.worker_hiertcn --data_dir=D --loss=sampled_softmax|cross_entropy
"""

import argparse
import os

import jax
import numpy as np

from benchmarks.peers.settings import Settings
from benchmarks.peers.slices import Slices, installed_versions, open_channel
from experiments.judging.config import EvalConfig
from experiments.runs.assembly import assemble
from experiments.runs.config import RunConfig, TrainConfig
from experiments.runs.data import open_data
from experiments.runs.resolve import resolve
from hiertcn_jax.learning.loss_config import LossConfig, LossName
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.learning.train_state import init_train_state
from hiertcn_jax.models.hiertcn import HierTCNConfig


def run_config(settings: Settings, loss: LossName) -> RunConfig:
    """The configs of a run with these settings; the bucket is that of globo.flags."""
    return RunConfig(
        HierTCNConfig(
            item_dim=settings.item_dim,
            gru_dim=settings.gru_dim,
            tcn_channels=settings.tcn_channels,
            kernel_size=settings.kernel_size,
            gap_decay="learned",
            gap_decay_hours=settings.gap_decay_hours,
            unknown_rate=0.0,
        ),
        LossConfig(
            name=loss,
            negatives=(("popularity", settings.negatives),),
            popularity_alpha=settings.popularity_alpha,
        ),
        OptimizerConfig(learning_rate=settings.learning_rate, schedule="constant"),
        TrainConfig(lanes=32, events=64, sessions=24),
        EvalConfig(),
    )


def main() -> None:
    """Trains until there are no more commands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--loss", required=True, choices=("sampled_softmax", "cross_entropy"))
    arguments = parser.parse_args()
    channel = open_channel()

    settings, data = Settings(), open_data(arguments.data_dir)
    resolved = resolve(run_config(settings, arguments.loss), data)
    run, parts = resolved.config, assemble(resolved)
    state = init_train_state(
        jax.random.key(run.train.seed),
        parts.model,
        run.model,
        parts.optimizer,
        run.train.bucket.lanes,
        data.vocabulary.size,
    )
    bucket = {name: getattr(run.train, name) for name in ("lanes", "events", "sessions")}
    slices = Slices(
        *channel,
        describe=lambda: {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
            "labels_per_epoch": data.fitted_events(run.train.fit_on),
            "settings": {**settings._asdict(), **bucket, "loss": arguments.loss},
            "versions": installed_versions("jax", "flax", "numpy"),
            "threads": len(os.sched_getaffinity(0)),
        },
        finish=lambda: jax.block_until_ready(state),
    )
    in_flight = None
    for element in slices.watch(
        parts.loader, lambda element: int(np.count_nonzero(element.batch.loss_weight_bl))
    ):
        state, metrics = parts.step(state, element.batch, parts.sources)
        # At most one step ahead of the device; otherwise a slice would end late.
        jax.block_until_ready(in_flight)
        in_flight = metrics


if __name__ == "__main__":
    main()
