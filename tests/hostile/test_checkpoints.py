"""Checkpoint folders with anything deleted, cut, flipped, moved or added, as commands open them."""

import functools
import gc
import json
import os
import shutil
import sys
from pathlib import Path
from random import Random
from typing import NamedTuple

import jax
import numpy as np
import pytest

from experiments.data import open_data
from experiments.flags import RunConfig
from experiments.loop import train
from experiments.restore import restore_run
from hiertcn_jax.checkpoint import CheckpointError
from hiertcn_jax.checksums import write_checksums
from hiertcn_jax.config import EvalConfig, LossConfig, ModelConfig, OptimizerConfig, TrainConfig
from tests.hostile.damage import damaged, flipped, truncated
from tests.hostile.outcomes import Outcomes

PATH = r"/\S*/checkpoints"
KINDS = {
    "missing": PATH + r"/\d+/.+: missing",
    "not listed": PATH + r"/\d+/.+: not in checksums\.json",
    "size": PATH + r"/\d+/.+: \d+ bytes, but \d+ were written",
    "changed": PATH + r"/\d+/.+: changed since it was written: its SHA-256 differs",
    "checksums": PATH + r"/\d+/checksums\.json: not readable as checksums",
    "no step": PATH + r": no checkpoint of step \d+ \(kept: .+\)",
    "renamed": PATH + r"/\d+: holds step \d+: was it renamed\?",
    "none": PATH + r": holds no checkpoint",
    "no directory": PATH + r": no such directory; was .+ trained\?",
}
INPUTS = 2000
RUN = RunConfig(
    ModelConfig(item_dim=2, gru_dim=2, tcn_channels=(2,)),
    LossConfig(negatives=(("uniform", 2),)),
    OptimizerConfig(),
    TrainConfig(steps=3, lanes=2, events=16, sessions=8, checkpoint_every_steps=1),
    EvalConfig(lanes=4, events=64, sessions=32),
)


@pytest.fixture(scope="module")
def workdir(prepared_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "W"
    directory.mkdir()
    train(RUN, open_data(prepared_dir), directory)
    return directory


@pytest.fixture(scope="module")
def params_of(workdir):
    """The parameters of a step, as they were before any damage."""
    return functools.cache(lambda step: restore_run(workdir, str(step)).params)


def assert_equal(params, expected):
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def copy_step(workdir, room, step):
    """Puts a step's folder in the room, made of links: what is to be changed is written anew."""
    whole = workdir / "checkpoints" / step
    return shutil.copytree(whole, room / "checkpoints" / step, copy_function=os.link)


class Target(NamedTuple):
    """What is damaged: a step's folder, something below it, a file below it; and room beside."""

    step: Path
    path: Path
    file: Path
    aside: Path


def damage(rng, step, aside):
    """Damages something of a step; what was done."""
    kind, paths = rng.choice(sorted(DAMAGE)), sorted(step.rglob("*"))
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    if files:
        target = Target(step, rng.choice(paths), rng.choice(files), aside)
        DAMAGE[kind](rng, target)
        return f"{kind}: {target}"
    return "nothing left to damage"


def rewrite(path, data):
    """Links to the same file elsewhere keep what it was."""
    path.unlink()
    path.write_bytes(data)


def change_bytes(change):
    return lambda rng, target: rewrite(target.file, change(rng, target.file.read_bytes()))


def add_foreign(rng, target):
    (target.file.parent / rng.choice(("foreign", ".hidden", "0"))).write_text("x")


def put_link(rng, target):
    shutil.move(target.file, target.aside)
    target.file.symlink_to(rng.choice((target.file, "/dev/zero", "/nowhere", target.step)))


def put_pipe(rng, target):
    target.file.unlink()
    os.mkfifo(target.file)


def put_folder(rng, target):
    target.file.unlink()
    target.file.mkdir()


def remove(rng, target):
    path = target.path
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def rename(rng, target):
    path = target.path
    name = rng.choice((f"{path.name}.old", f"{path.name}0", "7", "checksums.json"))
    if not path.with_name(name).exists():
        path.rename(path.with_name(name))


def take_from_another_step(rng, target):
    for other in sorted(target.step.parent.iterdir()):
        twin = other / target.file.relative_to(target.step)
        if other != target.step and twin.is_file():
            rewrite(target.file, twin.read_bytes())


def move_step(rng, target):
    names = ("5", "007", "-1", "\u0665", f"{target.step.name}.writing")
    target.step.rename(rng.choice((target.aside, *map(target.step.with_name, names))))


DAMAGE = {
    "bytes": change_bytes(damaged),
    "bit": change_bytes(flipped),
    "cut": change_bytes(truncated),
    "foreign": add_foreign,
    "link": put_link,
    "pipe": put_pipe,
    "folder": put_folder,
    "removed": remove,
    "renamed": rename,
    "of another step": take_from_another_step,
    "step moved": move_step,
}


def test_a_damaged_checkpoint_is_refused_or_restored_as_it_was(workdir, params_of, tmp_path):
    outcomes = Outcomes(KINDS)
    steps = sorted(path.name for path in (workdir / "checkpoints").iterdir())
    named = {"best": str(restore_run(workdir, "best").step), "last": steps[-1]}
    for step in steps:
        copy_step(workdir, tmp_path, step)
    for seed in range(INPUTS):
        rng = Random(seed)
        asked = rng.choice(("best", "last", *steps))
        step = rng.choice(steps) if rng.random() < 0.05 else named.get(asked, asked)
        aside = tmp_path / "aside"
        aside.mkdir()
        done = [
            damage(rng, tmp_path / "checkpoints" / step, aside / str(k))
            for k in range(rng.choice((1, 1, 1, 2)))
        ]
        try:
            restored = restore_run(tmp_path, asked)
        except CheckpointError as error:
            outcomes.refused(error)
        else:
            assert str(restored.step) in steps, (seed, done)
            assert asked in named or restored.step == int(asked), (seed, done)
            assert_equal(restored.params, params_of(restored.step))
            outcomes.right()
        for path in [aside, *(tmp_path / "checkpoints").iterdir()]:
            if path.name not in set(steps) - {step}:
                shutil.rmtree(path)
        copy_step(workdir, tmp_path, step)
    outcomes.require(INPUTS, least=3, never=("none", "no directory"))


SIGNED = {
    "config": PATH + r"/\d+: config cannot be used by this program: .+",
    "schema": PATH + r"/\d+: schema_version=.+: this program reads \d+",
    "unreadable": PATH + r"/\d+: (state|config|loader|metrics) cannot be read: .+",
    **KINDS,
}
ODD_VALUES = (None, True, 0, 1, -1, 3, 1.5, 2**40, "", "3", "hiertcn", [], {}, [1, "x"], [3])


def edit_config(rng, folder):
    """Changes a value of the saved configs, or takes one away."""
    path = folder / "config" / "metadata"
    config = json.loads(path.read_text())
    part = rng.choice(("model", "model", "optimizer", "train", "evaluation", "data", None, None))
    inner = config if part is None else config[part]
    name = rng.choice(sorted(inner))
    if rng.random() < 0.25:
        del inner[name]
    else:
        inner[name] = rng.choice(ODD_VALUES)
    rewrite(path, json.dumps(config).encode())


def edit_state(rng, folder):
    """Damages a file that holds arrays, or says where they are."""
    file = rng.choice(sorted(path for path in (folder / "state").rglob("*") if path.is_file()))
    if rng.random() < 0.3:
        file.unlink()
    else:
        rewrite(file, rng.choice((truncated, damaged))(rng, file.read_bytes()))


@pytest.fixture
def unheard_late_errors(monkeypatch):
    """Orbax starts all its reads; where one fails, others fail when nobody waits for them."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda _: None)
        yield
        gc.collect()


@pytest.mark.usefixtures("unheard_late_errors")
def test_a_checkpoint_whose_checksums_vouch_for_damage(workdir, params_of, tmp_path):
    """As one that somebody edited, or wrote on purpose."""
    outcomes = Outcomes(SIGNED)
    step = str(restore_run(workdir, "best").step)
    for seed in range(100):
        rng, folder = Random(seed), copy_step(workdir, tmp_path, step)
        edit = rng.choice((edit_config, edit_config, edit_state))
        edit(rng, folder)
        (folder / "checksums.json").unlink()
        write_checksums(folder)
        try:
            restored = restore_run(tmp_path, "best")
        except CheckpointError as error:
            outcomes.refused(error)
        else:
            # A flipped bit that nothing vouches against is another number.
            if edit is edit_config:
                assert_equal(restored.params, params_of(int(step)))
            outcomes.right()
        shutil.rmtree(folder)
    outcomes.require(100, never=KINDS)


def test_what_is_no_run_is_said(workdir, tmp_path):
    outcomes = Outcomes(KINDS)
    for make, asked in (
        (lambda: None, "best"),
        (lambda: (tmp_path / "checkpoints").mkdir(), "last"),
        (lambda: copy_step(workdir, tmp_path, "3"), "7"),
    ):
        make()
        with pytest.raises(CheckpointError) as caught:
            restore_run(tmp_path, asked)
        outcomes.refused(caught.value)
    assert outcomes.counts == {"no directory": 1, "none": 1, "no step": 1}
    for asked in ("", "-1", "newest", "\u00b2", "3.0", "../3"):
        with pytest.raises(CheckpointError, match="must be best, last or a step"):
            restore_run(tmp_path, asked)
