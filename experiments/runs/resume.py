"""Which checkpoint a run goes on from."""

from pathlib import Path

from hiertcn_jax.saving.checkpoint import CheckpointError
from hiertcn_jax.saving.checkpoint_damage import put_back_replaced, set_aside, survey


def leave_whole(directory: Path, allow_older: bool) -> None:
    """Sees to it that the newest checkpoint is whole, so that a run can go on from it.

    Args:
      directory: The run's checkpoints.
      allow_older: Whether those that are not whole are moved to `directory/damaged`, and said.

    Raises:
      CheckpointError: One is not whole, and `allow_older` is not set or none is.
    """
    put_back_replaced(directory)
    found = survey(directory)
    if not found.damaged:
        return
    damage, whole = next(iter(found.damaged.values())), found.newest_whole
    if whole is None:
        raise CheckpointError(
            f"{damage}; no checkpoint in {directory} is whole; train anew in another workdir"
        )
    if not allow_older:
        raise CheckpointError(f"{damage}; --allow_older_checkpoint goes on from step {whole}")
    for step, line in found.damaged.items():
        print(f"{line}; moved to {set_aside(directory, step)}")
