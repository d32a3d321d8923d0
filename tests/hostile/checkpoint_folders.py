"""A tiny run's checkpoints, and ways to damage them."""

import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models.hiertcn import HierTCNConfig
from hiertcn_jax.saving.checksums import write_checksums
from tests.hostile.damage import damaged, flipped, truncated

PATH = r"/\S*/checkpoints"
DAMAGE_KINDS = {
    "missing": PATH + r"/\d+/.+: missing",
    "not listed": PATH + r"/\d+/.+: not in checksums\.json",
    "size": PATH + r"/\d+/.+: \d+ bytes, but \d+ were written",
    "changed": PATH + r"/\d+/.+: changed since it was written: its SHA-256 differs",
    "checksums": PATH + r"/\d+/checksums\.json: not readable as checksums",
}
"""Messages for files that have changed since they were written."""

OTHER_STEP = (
    r"; (name another step \(kept: [\d, ]+\)|no other step is kept|name a step or the last one, .+)"
)
"""Advice for a damaged checkpoint."""

RENAMED = {"renamed": PATH + r"/\d+: holds step \d+: was it renamed\? Give it that name"}
RUN = RunConfig(
    HierTCNConfig(item_dim=2, gru_dim=2, tcn_channels=(2,)),
    LossConfig(negatives=(("uniform", 2),)),
    OptimizerConfig(),
    TrainConfig(steps=3, lanes=2, events=16, sessions=8, checkpoint_every_steps=1),
    EvalConfig(lanes=4, events=64, sessions=32),
)


def copy_step(workdir, room, step):
    """Fills the room with a step's folder, made of links; what is to change is written anew."""
    whole = workdir / "checkpoints" / step
    return shutil.copytree(whole, room / "checkpoints" / step, copy_function=os.link)


class Target(NamedTuple):
    """The place to damage: a step's folder, something below it, a file below it, a spare folder."""

    step: Path
    path: Path
    file: Path
    aside: Path


def damage(rng, step, aside):
    """Damages something in a step; returns a description."""
    kind, paths = rng.choice(sorted(DAMAGE)), sorted(step.rglob("*"))
    files = [path for path in paths if path.is_file() and not path.is_symlink()]
    if files:
        target = Target(step, rng.choice(paths), rng.choice(files), aside)
        DAMAGE[kind](rng, target)
        return f"{kind}: {target}"
    return "nothing left to damage"


def rewrite(path, data):
    """Replaces a link by a copy, so that the original file keeps its content."""
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
    names = ("5", "60", "007", "-1", "\u0665", f"{target.step.name}.writing")
    target.step.rename(rng.choice((target.aside, *map(target.step.with_name, names))))


def nest_deeply(rng, target):
    rewrite(target.file, b"[" * 100_000)


DAMAGE = {
    "nested": nest_deeply,
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


VOUCHED_KINDS = {
    "metrics": PATH + r"/\d+: metrics: monitored=.+: must be a number or null",
    "config": PATH + r"/\d+: config cannot be used by this version: .+",
    "schema": PATH
    + r"/\d+: schema_version=.+: this program reads \d+ and \d+; use the one that .+",
    "unreadable": PATH + r"/\d+: (state|config|loader|metrics) cannot be read: .+",
    **{name: pattern + OTHER_STEP for name, pattern in DAMAGE_KINDS.items()},
    **RENAMED,
}
"""Messages for damage with matching checksums."""

ODD_VALUES = (None, True, 0, 1, -1, 3, 1.5, 2**40, "", "3", "hiertcn", [], {}, [1, "x"], [3])


def edit_config(rng, folder):
    """Changes or removes a value of the saved configs."""
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
    """Damages a file that holds arrays, or locates them."""
    file = rng.choice(sorted(path for path in (folder / "state").rglob("*") if path.is_file()))
    if rng.random() < 0.3:
        file.unlink()
    else:
        rewrite(file, rng.choice((truncated, damaged))(rng, file.read_bytes()))


def edit_values(rng, folder, item):
    """Changes, adds or removes a value at some depth of a JSON item."""
    path = folder / item / "metadata"
    values = inner = json.loads(path.read_text())
    while True:
        names = sorted(inner) if isinstance(inner, dict) else range(len(inner))
        name = rng.choice(names)
        if not isinstance(inner[name], dict | list) or not inner[name] or rng.random() < 0.3:
            break
        inner = inner[name]
    action = rng.random()
    if action < 0.2:
        del inner[name]
    elif action < 0.3 and isinstance(inner, dict):
        inner["unknown"] = 1
    else:
        inner[name] = rng.choice(ODD_VALUES)
    rewrite(path, json.dumps(values).encode())


def edit_text(rng, folder):
    """Replaces a JSON item by another text."""
    item, odd = rng.choice(("config", "loader", "metrics")), "[" * 100_000
    text = rng.choice(("", "[]", "3", "null", odd, '{"a":' * 60 + "1" + "}" * 60))
    rewrite(folder / item / "metadata", text.encode())


def edit_loader(rng, folder):
    """Changes the saved state of the loader, the progress or the sums."""
    edit_values(rng, folder, "loader")


def edit_metrics(rng, folder):
    """Changes a checkpoint's validation metric."""
    edit_values(rng, folder, "metrics")


def reseal(folder):
    """Rewrites the checksums, as if the files had been written like this."""
    (folder / "checksums.json").unlink()
    write_checksums(folder)
