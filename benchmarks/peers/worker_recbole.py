"""Trains a sequential model of RecBole, with its own trainer.

    python -m benchmarks.peers.worker_recbole --events=DIRECTORY --model=GRU4Rec|SASRec|NextItNet

Leaves RecBole's folders in the working directory.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.peers.events import RECBOLE_DATASET
from benchmarks.peers.slices import Slices, installed_versions, open_channel

MODELS: dict[str, dict[str, Any]] = {
    "GRU4Rec": {"embedding_size": 128, "hidden_size": 240, "dropout_prob": 0.0},
    "SASRec": {"hidden_size": 128, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
    "NextItNet": {"embedding_size": 128, "block_num": 1, "dilations": [1, 2, 4]},
}
"""Widths with about as many parameters as HierTCN, and no dropout; everything else as in RecBole:
softmax over all items, 2,048 rows a batch, the last 50 items of a user."""

_RUN: dict[str, Any] = {
    "use_gpu": False,
    "show_progress": False,
    "epochs": 1_000_000,
    "train_neg_sample_args": None,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    # The log holds only the train part.
    "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "TO", "group_by": "user", "mode": "full"},
}
_SHOWN = ("train_batch_size", "MAX_ITEM_LIST_LENGTH", "loss_type", "learner", "learning_rate")


class WatchedLoader:
    """RecBole's loader, with its batches drawn through `Slices.watch`; a row is a label.

    Args:
      loader: The loader.
      slices: Times the training loop.
    """

    def __init__(self, loader: Any, slices: Slices) -> None:
        self._loader, self._slices = loader, slices

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __iter__(self) -> Iterator[Any]:
        return self._slices.watch(self._loader, len)


def main() -> None:
    """Trains until there are no more commands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", required=True)
    parser.add_argument("--model", required=True, choices=MODELS)
    arguments = parser.parse_args()
    sys.argv[1:] = []  # RecBole parses sys.argv too.
    channel = open_channel()

    # recbole.quick_start needs ray.
    from recbole.config import Config
    from recbole.data import create_dataset, get_dataloader
    from recbole.utils import get_model, get_trainer, init_seed

    config = Config(
        arguments.model,
        RECBOLE_DATASET,
        config_dict={**_RUN, "data_path": arguments.events, **MODELS[arguments.model]},
    )
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config).build()[0]
    loader = get_dataloader(config, "train")(config, dataset, None, shuffle=config["shuffle"])
    model = get_model(arguments.model)(config, dataset)
    trainer = get_trainer(config["MODEL_TYPE"], arguments.model)(config, model)
    slices = Slices(
        *channel,
        describe=lambda: {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "labels_per_epoch": len(dataset),
            "settings": {**MODELS[arguments.model], **{name: config[name] for name in _SHOWN}},
            "versions": installed_versions("recbole", "torch", "numpy"),
            "threads": torch.get_num_threads(),
        },
    )
    trainer.fit(WatchedLoader(loader, slices), verbose=False, saved=False)


if __name__ == "__main__":
    main()
