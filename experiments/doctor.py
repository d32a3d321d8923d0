"""Tells what this machine has for hiertcn_jax, and what is missing for which extra.

    python -m experiments.doctor

Prints versions, devices, cores, memory and disk; then each extra, ready or with the command that
installs what it lacks. Ends with exit code 1 if a package is missing that everything needs.
"""

import collections
import importlib.metadata
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from data_pipelines.commands.command import run_command
from data_pipelines.errors import DataError

PACKAGE = "hiertcn_jax"

_SHOWN = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "polars", "numba")
_LABEL, _WIDTH = 10, 80
_GIB = 2**30


class Need(NamedTuple):
    """A package that an extra needs; the extra "" is what everything needs."""

    extra: str
    requirement: Requirement

    @property
    def problem(self) -> str | None:
        """What is wrong with it; None: it is installed, in a version that serves."""
        name = self.requirement.name
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return name
        if self.requirement.specifier.contains(found, prereleases=True):
            return None
        return f"{name} {self.requirement.specifier} ({found} is installed)"


def needs(lines: list[str], extras: list[str]) -> Iterator[Need]:
    """The packages of each extra, as the metadata of a package lists them.

    >>> [str(need.requirement.name) for need in needs(["a", 'b>1; extra == "x"'], ["x"])]
    ['a', 'b']
    """
    for line in lines:
        requirement = Requirement(line)
        marker = requirement.marker
        for extra in ["", *extras]:
            applies = marker is None or marker.evaluate({"extra": extra})
            # What everything needs is not needed by an extra once more.
            if applies and (extra == "" or (marker is not None and "extra" in str(marker))):
                yield Need(extra, requirement)
                yield from _of_extras(extra, requirement)


def _of_extras(extra: str, requirement: Requirement) -> Iterator[Need]:
    """What the extras of a requirement need: `jax[cuda13]` more than `jax`."""
    try:
        lines = importlib.metadata.requires(requirement.name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    inner = sorted(requirement.extras)
    for need in needs(lines, inner) if inner else ():
        if need.extra:
            yield need._replace(extra=extra)


def extra_lines(found: list[Need], extras: list[str]) -> list[str]:
    """A line for each extra: ready, or what to install."""
    lines = []
    for extra in extras:
        missing = [need.problem for need in found if need.extra == extra and need.problem]
        if missing:
            text = f"lacks {', '.join(missing)}: pip install '{PACKAGE}[{extra}]'"
        else:
            text = "ready"
        lines.append(f"  {extra:{_LABEL}}{text}")
    return lines


def _machine() -> dict[str, str]:
    import jax

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    disk = shutil.disk_usage(Path.cwd())
    kinds = collections.Counter(one.device_kind for one in jax.devices())
    devices = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    return {
        "python": f"{platform.python_version()} on {platform.platform()}",
        "packages": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _SHOWN),
        "devices": f"{devices}{_unused_gpu()}",
        "cores": str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()),
        "memory": f"{memory:.1f} GiB",
        "disk": f"{disk.free / _GIB:.1f} GiB free of {disk.total / _GIB:.1f} here",
    }


def _unused_gpu() -> str:
    """A hint where there seems to be a GPU that JAX does not use."""
    import jax

    if jax.default_backend() != "cpu" or shutil.which("nvidia-smi") is None:
        return ""
    return f"; a GPU seems to be here that JAX does not use: pip install '{PACKAGE}[gpu]'"


def main(_: None) -> None:
    """Prints everything.

    Raises:
      DataError: A package is missing that everything needs.
    """
    about = importlib.metadata.metadata(PACKAGE)
    extras = [name for name in about.get_all("Provides-Extra") or [] if name != "dev"]
    found = list(needs(importlib.metadata.requires(PACKAGE) or [], extras))
    print(f"{PACKAGE} {about['Version']}")
    for label, text in _machine().items():
        indent = " " * _LABEL
        print(textwrap.fill(f"{label:{_LABEL}}{text}", _WIDTH, subsequent_indent=indent))
    print("extras")
    for line in extra_lines(found, extras):
        print(line)
    missing = [need.problem for need in found if not need.extra and need.problem]
    if missing:
        raise DataError(f"missing: {', '.join(missing)}: pip install {PACKAGE}")


if __name__ == "__main__":
    run_command(lambda: None, main, (DataError,))
