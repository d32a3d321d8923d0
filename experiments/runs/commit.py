"""The commit of the code that made a result."""

import subprocess
from pathlib import Path


def current_commit() -> str | None:
    """The commit of this checkout, with "-dirty" appended if tracked files differ.

    None if it is unknown: this is no git checkout, or there is no git.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None
