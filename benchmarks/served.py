"""A server as a process of its own, for benchmarks and tests."""

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]


class Served:
    """A process of `experiments.serve`.

    Attributes:
      process: The process.
      port: At 127.0.0.1.
      lines: What it said before it served.
    """

    def __init__(
        self, export_dir: Path, store: str, *flags: str, cores: Sequence[int] = ()
    ) -> None:
        """Starts it, and waits until it listens.

        Args:
          export_dir: See the command.
          store: See the command.
          *flags: More flags.
          cores: Those that it may use; none: any.

        Raises:
          RuntimeError: It does not start; the message is its own.
        """
        pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))] if cores else []
        self.process = subprocess.Popen(
            [
                *pinned, sys.executable, "-m", "experiments.serve", f"--export_dir={export_dir}",
                f"--store={store}", "--port=0", *flags,
            ],
            cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self._errors: list[str] = []
        self._drain = threading.Thread(target=self._read_errors, daemon=True)
        self._drain.start()
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("serving on "):
                self.port = int(line.split()[2].rstrip(",").rpartition(":")[2])
                return
        self.process.wait()
        self._drain.join()
        raise RuntimeError("".join(self._errors))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._errors.append(line)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal, waits for the end, and returns the exit code."""
        self.process.send_signal(number)
        code = self.process.wait()
        self._drain.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return code


class Asking:
    """One connection that is kept open; it connects anew after an error."""

    def __init__(self, port: int) -> None:
        """See the class.

        Args:
          port: At 127.0.0.1.
        """
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer; the answer is text unless it is JSON.

        Raises:
          OSError: There is no answer.
          http.client.HTTPException: There is half of one.
        """
        data = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(
                "GET" if data is None else "POST",
                path,
                data,
                {"Content-Type": "application/json"},
            )
            answer = self._connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.status, json.loads(text) if is_json else text

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def metric(text: str, name: str) -> float:
    """A number of /metrics, without labels."""
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))
