"""Trains GRU4Rec's official PyTorch implementation, with its own `fit`.

    python -m benchmarks.peers.worker_gru4rec --events=DIRECTORY --gru4rec_dir=DIRECTORY

The second is a checkout of github hidasib/GRU4Rec_PyTorch_Official.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.peers.events import Events
from benchmarks.peers.slices import Slices, installed_versions, open_channel

SETTINGS: dict[str, Any] = {
    "layers": [144],
    "batch_size": 240,
    "loss": "cross-entropy",
    "n_sample": 2048,
    "sample_alpha": 0.5,
    "constrained_embedding": True,
    "learning_rate": 0.065,
    "n_epochs": 1_000_000,
}
"""As in its rees46_xe_shared_best.py, except the width of the layer, and without dropout and logq
(which this version cannot compute for numeric item ids)."""


def main() -> None:
    """Trains until there are no more commands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", required=True)
    parser.add_argument("--gru4rec_dir", required=True)
    arguments = parser.parse_args()
    channel = open_channel()

    sys.path.insert(0, arguments.gru4rec_dir)
    import gru4rec_pytorch

    torch.manual_seed(0)
    model = gru4rec_pytorch.GRU4Rec(**SETTINGS, device=torch.device("cpu"))

    def describe() -> dict[str, Any]:
        # A session of n events has n - 1 predictions.
        lengths = np.diff(model.data_iterator.offset_sessions)
        command = ["git", "-C", arguments.gru4rec_dir, "describe", "--always", "--dirty"]
        commit = subprocess.run(
            [*command, "--abbrev=40", "--exclude=*"], check=True, capture_output=True, text=True
        )
        return {
            "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
            "labels_per_epoch": int(np.maximum(lengths - 1, 0).sum()),
            "settings": SETTINGS,
            "versions": {
                **installed_versions("torch", "numpy", "pandas"),
                "GRU4Rec_PyTorch_Official": commit.stdout.strip(),
            },
            "threads": torch.get_num_threads(),
        }

    slices = Slices(*channel, describe)

    class WatchedIterator(gru4rec_pytorch.SessionDataIterator):
        """Passes the batches that `fit` draws through `Slices.watch`; one label per lane."""

        def __call__(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
            return slices.watch(super().__call__(*args, **kwargs), lambda batch: len(batch[0]))

    gru4rec_pytorch.SessionDataIterator = WatchedIterator
    events = Events.load(arguments.events)
    columns = {"SessionId": events.session_n, "ItemId": events.item_id_n, "Time": events.time_n}
    model.fit(pd.DataFrame(columns))


if __name__ == "__main__":
    main()
