"""What all benchmarks write: the figures, and the machine and commit that they were taken on."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.runs.commit import current_commit

Figures = Mapping[str, Mapping[str, Any]]
"""{case: {figure: value}}; figures carry their unit in the name. Versions and settings of a case
may stand beside them."""


def write_report(path: Path | str, key: str, figures: Figures, **machine: Any) -> None:
    """Writes {"machine", "commit", key: figures} as JSON.

    Args:
      path: The file to write.
      key: "cases" or "models".
      figures: What was measured.
      **machine: What is worth knowing of the machine besides `describe_machine`.
    """
    report = {
        "machine": describe_machine() | machine,
        "commit": current_commit(),
        key: {name: dict(case) for name, case in figures.items()},
    }
    Path(path).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def print_figures(figures: Figures) -> None:
    """Prints a line for each case, of numbers."""
    for name, case in figures.items():
        print(name, *(f"{figure}={value:,}" for figure, value in case.items()))


def require_directory(path: Path | str) -> None:
    """Raises a ValueError where `path` cannot be written: better before the minutes than behind."""
    directory = Path(path).absolute().parent
    if not directory.is_dir():
        raise ValueError(f"json={path}: there is no directory {directory}")


def process_status(pid: int | str = "self") -> dict[str, int]:
    """What Linux says of a process in numbers, by its names.

    Memory is in bytes: VmRSS what is resident now, RssAnon what of it is of no file, VmHWM the most
    that was resident so far.

    Raises:
      OSError: It has ended.
    """
    status = {}
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        name, value = line.split(":", 1)
        match value.split():
            case [number, "kB"]:
                status[name] = int(number) << 10
            case [number] if number.isdecimal():
                status[name] = int(number)
    return status


def describe_machine() -> dict[str, Any]:
    """The processor, how many cores of it this process may use, and the system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
