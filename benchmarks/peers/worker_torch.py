"""Trains the PyTorch HierTCN on the padded grid.

python -m benchmarks.peers.worker_torch --events=DIRECTORY [--tight]
"""

import argparse
from collections.abc import Iterable

import numpy as np
import torch

from benchmarks.peers.events import Events
from benchmarks.peers.grid import Grid, GridBatch, cut_sessions, grid_batches
from benchmarks.peers.settings import Settings
from benchmarks.peers.slices import Slices, installed_versions, open_channel
from benchmarks.peers.torch_model import HierTCN


class Negatives:
    """Shared candidates by popularity, with replacement.

    Args:
      item_id_n: The item of every event.
      rows: Rows of the item table.
      settings: Uses `negatives` and `popularity_alpha`.
    """

    def __init__(self, item_id_n: torch.Tensor, rows: int, settings: Settings) -> None:
        counts_v = torch.bincount(item_id_n, minlength=rows)
        weight_v = counts_v.double() ** settings.popularity_alpha * (counts_v > 0)
        self._count = settings.negatives
        self._ends_v = weight_v.cumsum(0)
        self._log_expected_v = (self._count * weight_v / weight_v.sum()).log().float()

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The candidates of one batch, and the log of each one's expected count."""
        draw_k = torch.rand(self._count, dtype=torch.double) * self._ends_v[-1]
        candidate_k = torch.searchsorted(self._ends_v, draw_k, right=True)
        return candidate_k, self._log_expected_v[candidate_k]


def train(model: HierTCN, batches: Iterable[GridBatch], lanes: int, negatives: Negatives) -> None:
    """Takes one Adam step per batch, as long as there are batches.

    Raises:
      FloatingPointError: The loss is not a number.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=model.settings.learning_rate, fused=True)
    carry = model.init_carry(lanes)
    for batch in batches:
        item_ids_bst = torch.from_numpy(batch.item_ids_bst).long()
        starts_user_bs = torch.from_numpy(batch.starts_user_bs)
        gap_hours_bs = torch.from_numpy(batch.gap_hours_bs)
        u_nd, target_nd, carry = model(item_ids_bst, starts_user_bs, gap_hours_bs, carry)
        target_n = item_ids_bst[item_ids_bst > 0]
        loss = model.sampled_softmax(u_nd, target_nd, target_n, *negatives.draw())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss={loss.item()}")


def main() -> None:
    """Trains until there are no more commands."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", required=True)
    parser.add_argument("--tight", action="store_true")
    arguments = parser.parse_args()
    channel = open_channel()

    torch.manual_seed(0)
    events, grid, settings = Events.load(arguments.events), Grid(), Settings()
    sessions = cut_sessions(events, grid.events)
    model = HierTCN(settings, events.rows, arguments.tight)
    slices = Slices(
        *channel,
        describe=lambda: {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "labels_per_epoch": int(np.count_nonzero(sessions.item_ids_mt)),
            "settings": {**settings._asdict(), **grid._asdict(), "tight": arguments.tight},
            "versions": installed_versions("torch", "numpy"),
            "threads": torch.get_num_threads(),
        },
    )
    train(
        model,
        slices.watch(
            grid_batches(sessions, grid, seed=0),
            lambda batch: int(np.count_nonzero(batch.item_ids_bst)),
        ),
        grid.lanes,
        Negatives(torch.from_numpy(events.item_id_n).long(), events.rows, settings),
    )


if __name__ == "__main__":
    main()
