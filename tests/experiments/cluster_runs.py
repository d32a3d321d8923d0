"""Runs commands as several processes on this machine, and compares runs."""

import contextlib
import json
import shutil
import socket
import subprocess

import jax
import numpy as np

from hiertcn_jax.saving.checkpoint import Checkpoints
from tests.experiments.small_runs import FLAGS, checkpoint_steps
from tests.forked import Forked


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def start(data, workdir, cache, *more, own=None):
    """Several processes that train.

    Args:
      data: The prepared log.
      workdir: Their common workdir.
      cache: Directory for each process's folder of programs.
      more: Flags of all processes.
      own: Flags of single processes.
    """
    place = (f"--data_dir={data.directory}", f"--workdir={workdir}")
    return start_command("experiments.train", cache, *place, *FLAGS, *more, own=own)


def start_command(module, cache, *arguments, own=None, processes=2, devices=2):
    """Starts processes; each has its own simulated devices and folder of programs.

    Args:
      module: The command.
      cache: Directory for the folders of programs.
      arguments: Flags of all processes.
      own: Flags of single processes.
      processes: Number of processes.
      devices: Devices of each.
    """
    address = f"--coordinator_address=127.0.0.1:{free_port()}"
    # JAX writes programs in the first process alone, and another could read half of one: each has
    # its own folder, with what the first wrote at an earlier start.
    (cache / "0").mkdir(parents=True, exist_ok=True)
    for index in range(1, processes):
        shutil.copytree(cache / "0", cache / str(index), dirs_exist_ok=True)
    return [
        Forked(
            cache, module, *arguments, address, f"--num_processes={processes}",
            f"--process_id={index}", *(own or {}).get(index, []),
            jax_num_cpu_devices=devices,
            jax_compilation_cache_dir=str(cache / str(index)),
            jax_persistent_cache_min_compile_time_secs=0.0,
        )
        for index in range(processes)
    ]  # fmt: skip


def wait_for_step(workdir, step, processes):
    """Waits until a checkpoint of this step or a later one exists."""
    _wait(lambda: max(checkpoint_steps(workdir), default=0) >= step, processes)


def wait_for_start(workdir, processes):
    """Waits until the processes have found each other, and the first holds the workdir's lock."""
    lock = workdir / "lock"
    _wait(lambda: lock.read_text().strip() == str(processes[0].pid), processes)


def _wait(is_so, processes):
    while not is_so():
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[0].wait(0.05)
            raise AssertionError(ended(processes))


def ended(processes):
    """Waits until all have ended; (exit code, stdout, stderr) of each."""
    outputs = [process.communicate() for process in processes]
    return [
        (process.returncode, *output) for process, output in zip(processes, outputs, strict=True)
    ]


def results(workdir, split):
    """The evaluation's JSON as leaves by path: counts and names, and measurements."""
    values = json.loads((workdir / f"{split}.json").read_text())
    leaves = jax.tree_util.tree_leaves_with_path(values)
    found = {jax.tree_util.keystr(path): value for path, value in leaves}
    assert {"['all']['events']", "['events_hash']"} <= found.keys()
    measured = {path: value for path, value in found.items() if isinstance(value, float)}
    return {path: found[path] for path in found.keys() - measured.keys()}, measured


def state_of(workdir, step):
    checkpoints = Checkpoints(workdir / "checkpoints", read_only=True)
    return checkpoints.read(step, "loader")


def assert_close(one, other, tolerance):
    """Checks that numbers are close, and everything else is equal."""

    def compare(a, b):
        if isinstance(a, str):
            assert a == b
        else:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)

    jax.tree.map(compare, one, other)
