"""The PyTorch side of `parity`: reads parameters and batches, writes the results.

python -m benchmarks.peers.parity_torch GIVEN.npz ANSWER.npz
"""

import json
import sys
from typing import Any

import numpy as np
import torch

from benchmarks.peers.grid import GridBatch
from benchmarks.peers.settings import Settings
from benchmarks.peers.torch_model import HierTCN


def answer(given: dict[str, np.ndarray], tight: bool) -> dict[str, np.ndarray]:
    """Predictions, loss and gradients of every batch, in order."""
    parameters = {
        name.removeprefix("parameter:"): torch.tensor(value)
        for name, value in given.items()
        if name.startswith("parameter:")
    }
    candidate_k = torch.from_numpy(given["candidate_k"])
    settings = Settings(**json.loads(str(given["settings"])))
    model = HierTCN(settings, parameters["items.weight"].shape[0], tight)
    model.load_state_dict(parameters)
    log_expected_k = torch.log(settings.negatives / (2.0 + candidate_k))
    values: dict[str, np.ndarray] = {}
    carry, number = None, 0
    while f"{number}:item_ids_bst" in given:
        batch = GridBatch(*(given[f"{number}:{name}"] for name in GridBatch._fields))
        item_ids_bst = torch.from_numpy(batch.item_ids_bst).long()
        if carry is None:
            carry = model.init_carry(len(item_ids_bst))
        u_nd, target_nd, carry = model(
            item_ids_bst,
            torch.from_numpy(batch.starts_user_bs),
            torch.from_numpy(batch.gap_hours_bs),
            carry,
        )
        target_n = item_ids_bst[item_ids_bst > 0]
        loss = model.sampled_softmax(u_nd, target_nd, target_n, candidate_k, log_expected_k)
        model.zero_grad()
        loss.backward()
        values |= {f"{number}:u": u_nd.detach().numpy(), f"{number}:loss": loss.detach().numpy()}
        for name, parameter in model.named_parameters():
            values[f"{number}:{name}"] = parameter.grad.numpy().copy()
        number += 1
    return values


def main() -> None:
    """Computes the results for both ways of padding."""
    with np.load(sys.argv[1]) as arrays:
        given = dict(arrays)
    values: dict[str, Any] = {}
    for padding, tight in (("grid", False), ("tight", True)):
        values |= {f"{padding}:{name}": value for name, value in answer(given, tight).items()}
    np.savez(sys.argv[2], **values)


if __name__ == "__main__":
    main()
