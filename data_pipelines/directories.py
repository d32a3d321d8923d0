"""Tells what kind of directory a path is, so that a command refuses directories of other kinds.

The content decides, whoever made the directory and whatever its name:

    manifest.json beside histories/ or vocabulary.parquet        a prepared log
    compare.json, <name>/cell.json, flags.txt with --models      a comparison
    sweep.db, leaderboard.json, trials/NNNN/                     a sweep
    replay_settings.json, replay.json                            a replay
    cell.json                                                    a cell of a comparison
    checkpoints/, metrics.jsonl, trial.flags                     a training run

Readers check a prepared log and the checkpoints of a run file by file. So nothing else may be
written below them.
"""

import enum
import glob
from pathlib import Path

from data_pipelines.errors import DataError


class Kind(enum.Enum):
    """What a directory holds. The value is its name in messages."""

    LOG = "a prepared log"
    COMPARISON = "a comparison"
    SWEEP = "a sweep"
    CELL = "a cell of a comparison"
    RUN = "a training run"
    EXPORT = "an export"
    REPLAY = "a replay"


_HINTS = {
    Kind.LOG: "prepared logs are given as --data_dir",
    Kind.COMPARISON: "its models are in <name>/seed_<seed>",
    Kind.SWEEP: "its trials are in trials/<number>",
    Kind.CELL: "experiments.compare resumes it with the others",
    Kind.RUN: "experiments.train resumes it",
    Kind.EXPORT: "hiertcn_jax.load reads it",
    Kind.REPLAY: "experiments.replay resumes it",
}

_WRITTEN = {
    Kind.LOG: ("manifest.json", "vocabulary.parquet", "item_embeddings.npy"),
    Kind.COMPARISON: ("compare.csv", "compare_differences.csv"),
    Kind.SWEEP: ("leaderboard.csv",),
    Kind.CELL: ("metrics.jsonl", "ranks.parquet"),
    Kind.RUN: ("metrics.jsonl",),
    Kind.EXPORT: (),
    Kind.REPLAY: (),
}
"""Files of each kind whose suffix users' own output files may have too."""


def kind_of(directory: Path) -> Kind | None:
    """What a directory holds; None if it is missing, empty, or of no kind that we write."""
    if not directory.is_dir():
        return None

    def has(*names: str) -> bool:
        return any((directory / name).exists() for name in names)

    if is_log(directory):
        return Kind.LOG
    if is_export(directory):
        return Kind.EXPORT
    if has("compare.json") or _has_models(directory / "flags.txt") or _has_cells(directory):
        return Kind.COMPARISON
    trial = "trials/[0-9][0-9][0-9][0-9]"
    if has("sweep.db", "leaderboard.json") or _contains(directory, trial):
        return Kind.SWEEP
    if has("replay_settings.json", "replay.json"):
        return Kind.REPLAY
    if has("cell.json"):
        return Kind.CELL
    if has("checkpoints", "metrics.jsonl", "trial.flags"):
        return Kind.RUN
    return None


def require_kind(flag: str, directory: Path, *kinds: Kind) -> None:
    """Checks that a directory holds one of these kinds, or nothing of ours.

    Args:
      flag: The flag that names it.
      directory: The directory, which need not exist.
      kinds: The kinds that the command works in.

    Raises:
      DataError: It holds another kind, or is inside a directory where nothing may be written.
    """
    require_outside(flag, directory)
    found = kind_of(directory)
    if found is not None and found not in kinds:
        raise DataError(
            f"{flag}={directory}: is {found.value} ({_HINTS[found]}), not {kinds[0].value}; name "
            f"another directory by --{flag}"
        )


def require_output(flag: str, path: Path) -> None:
    """Checks that writing a file does not harm one of our directories.

    Args:
      flag: The flag that names it.
      path: The file.

    Raises:
      DataError: It is inside a prepared log or among the checkpoints of a run, or would replace a
        file that a command wrote for itself.
    """
    require_outside(flag, path)
    directory = path.resolve().parent
    kind = kind_of(directory)
    if kind is not None and path.name in _WRITTEN[kind]:
        raise DataError(
            f"{flag}={path}: would replace a file of {kind.value}; name another file by --{flag}"
        )


def require_outside(flag: str, path: Path) -> None:
    """Checks that a path is not inside a prepared log, an export, or the checkpoints of a run.

    Raises:
      DataError: It is; readers would then find a file that does not belong there.
    """
    for parent in path.resolve().parents:
        if is_log(parent):
            inside = f"the prepared log {parent}"
        elif is_export(parent):
            inside = f"the export {parent}"
        elif parent.name == "checkpoints" and kind_of(parent.parent) in (Kind.RUN, Kind.CELL):
            inside = f"the checkpoints of the run {parent.parent}"
        else:
            continue
        raise DataError(
            f"{flag}={path}: is inside {inside}, which a foreign file would make unusable; name a "
            f"path outside it by --{flag}"
        )


def is_log(directory: Path) -> bool:
    """Whether a directory is a prepared log; fast even if it has many folders."""
    manifest = directory / "manifest.json"
    return manifest.exists() and any(
        (directory / name).exists() for name in ("histories", "vocabulary.parquet")
    )


def is_export(directory: Path) -> bool:
    """Whether a directory is the export of a run."""
    return all((directory / name).exists() for name in ("manifest.json", "weights.safetensors"))


def _has_models(flags: Path) -> bool:
    """Whether a flags.txt comes from experiments.compare."""
    try:
        lines = flags.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith("--models=") for line in lines)


def _has_cells(directory: Path) -> bool:
    return _contains(directory, "*/cell.json") or _contains(directory, "*/seed_*/cell.json")


def _contains(directory: Path, pattern: str) -> bool:
    """Whether a pattern names something; others may remove folders meanwhile, as in /tmp."""
    return any(glob.iglob(pattern, root_dir=directory))
