"""Damaged checkpoint folders and journals, as the start of a training run finds them.

Each start does everything that `train` does before its first step. No step runs, so each program is
compiled only once.
"""

import contextlib
import json
import os
import shutil
from random import Random

import jax
import numpy as np
import pytest

from experiments.runs import training_run as training
from experiments.runs.assembly import assemble
from experiments.runs.data import open_data
from experiments.runs.resolve import resolve
from experiments.runs.train_loop import begin
from hiertcn_jax.saving.checkpoint import CheckpointError
from tests.hostile.checkpoint_folders import (
    DAMAGE_KINDS,
    PATH,
    RENAMED,
    RUN,
    VOUCHED_KINDS,
    copy_step,
    damage,
    edit_config,
    edit_loader,
    edit_metrics,
    edit_state,
    edit_text,
    reseal,
)
from tests.hostile.damage import damaged, truncated
from tests.hostile.outcomes import Outcomes
from tests.volume import few

REFUSED = (
    r"; (--allow_older_checkpoint (moves it away and )?resumes from step \d+|"
    r"no checkpoint in \S+ is whole; train anew in another workdir)"
)
KINDS = {
    **{name: pattern + REFUSED for name, pattern in DAMAGE_KINDS.items()},
    **RENAMED,
    "journal": r"(\[Errno 21\] Is a directory: ')?/\S*/metrics\.jsonl('|: is no file; remove it)",
}
RESEALED_KINDS = {
    "settings": PATH
    + r"/\d+: made with other settings: .+; use those settings, or another directory",
    "loader": PATH + r"/\d+: loader: .+; remove this checkpoint .+",
    **VOUCHED_KINDS,
}


class Starts:
    """Starts of the run; the work that all of them share is done once."""

    def __init__(self, data):
        self.run = resolve(RUN, data)
        self.parts = assemble(self.run)

    @contextlib.contextmanager
    def start(self, workdir, allow_older=False):
        """A run before its next step."""
        with contextlib.ExitStack() as closing:
            yield begin(self.run, self.parts, workdir, closing, allow_older=allow_older)


@pytest.fixture(scope="module")
def starts(prepared_dir):
    made = []

    def once(*arguments):
        made.append(made[0] if made else init(*arguments))
        return made[0]

    init = training.init_train_state
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "init_train_state", once)
        yield Starts(open_data(prepared_dir))


def found(run):
    """Everything that a run takes from a checkpoint."""
    loader = {"batches": run._batches.get_state(), "progress": vars(run.progress)}
    return jax.device_get(run._state), {**loader, "sums": vars(run._sums)}


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one[0], other[0])
    assert one[1] == other[1]


@pytest.fixture(scope="module")
def undamaged(workdir, starts, tmp_path_factory):
    """By step: what a run takes from its checkpoint if nothing is damaged."""
    states = {}
    for step in (None, "2", "3"):
        room = tmp_path_factory.mktemp("room")
        if step is not None:
            copy_step(workdir, room, step)
        with starts.start(room) as run:
            assert run.step == int(step or 0)
            states[run.step] = found(run)
    return states


def damage_journal(rng, path):
    """Damages metrics.jsonl, or replaces it."""
    content = path.read_bytes()
    path.unlink()
    kind = rng.choice(("removed", "pipe", "folder", "nested", "bytes", "cut"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "nested":
        path.write_bytes(b"[" * 100_000 + b"\n" + content)
    elif kind != "removed":
        path.write_bytes({"bytes": damaged, "cut": truncated}[kind](rng, content))
    return kind


def remove(path):
    """The content of the path, if anything is there."""
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def test_a_run_resumes_from_the_saved_state_or_does_not_start(workdir, starts, undamaged, tmp_path):
    outcomes, room = Outcomes(KINDS), tmp_path / "room"
    inputs = few(50, of=500)
    folders = [copy_step(workdir, room, step) for step in ("2", "3")]
    for seed in range(inputs):
        rng = Random(seed)
        shutil.copy(workdir / "metrics.jsonl", room)
        chosen = [rng.choice((*folders, folders[1])) for _ in range(rng.choice((0, 1, 1, 1, 2)))]
        done = [damage(rng, folder, room / f"aside_{k}") for k, folder in enumerate(chosen)]
        if not done or rng.random() < 0.1:
            done.append(damage_journal(rng, room / "metrics.jsonl"))
        allow_older = rng.random() < 0.3
        try:
            with starts.start(room, allow_older) as run:
                assert run.step in undamaged, (seed, done)
                # Without permission an older one is used only if the newer one is absent.
                if not allow_older:
                    assert run.step == 3 or not folders[1].exists(), (seed, done)
                    assert run.step > 0 or not folders[0].exists(), (seed, done)
                assert_same(found(run), undamaged[run.step])
                lines = (room / "metrics.jsonl").read_text().splitlines()
                assert all(json.loads(line)["step"] <= run.step for line in lines)
        except (CheckpointError, OSError) as error:
            outcomes.refused(error)
        else:
            outcomes.right()
        whole = {folder for folder in folders if folder not in chosen}
        for path in {*room.glob("aside_*"), *(room / "checkpoints").iterdir()} - whole:
            remove(path)
        remove(room / "metrics.jsonl")
        for folder in set(chosen):
            copy_step(workdir, room, folder.name)
    outcomes.require(inputs, least=3)


@pytest.mark.usefixtures("unheard_late_errors")
def test_a_run_refuses_unusable_content_with_valid_checksums(workdir, starts, undamaged, tmp_path):
    outcomes, inputs = Outcomes(RESEALED_KINDS), few(30, of=200)
    edits = (
        edit_loader,
        edit_loader,
        edit_loader,
        edit_metrics,
        edit_config,
        edit_state,
        edit_text,
    )
    for seed in range(inputs):
        rng, room = Random(seed), tmp_path / "room"
        folder = copy_step(workdir, room, "3")
        edit = rng.choice(edits)
        edit(rng, folder)
        reseal(folder)
        try:
            with starts.start(room) as run:
                assert run.step == 3
                state, loader = found(run)
                # The values taken are those in the file.
                assert loader == json.loads((folder / "loader" / "metadata").read_text())
                if edit is not edit_state:
                    assert_same((state, {}), (undamaged[3][0], {}))
                next(run._batches)
        except CheckpointError as error:
            outcomes.refused(error)
        else:
            outcomes.right()
        shutil.rmtree(room)
    outcomes.require(inputs, never=("config", *DAMAGE_KINDS, *RENAMED))
