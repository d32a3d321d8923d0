"""The command of a sweep in a separate process, which runs beside another one."""

import runpy
import sys

from experiments.sweeping import trials


def sweep_that_meets_another(barrier, arguments):
    """`python -m experiments.sweep`; its first trial waits until the other process has one too.

    Args:
      barrier: From multiprocessing, shared by both.
      arguments: Arguments of the command.
    """
    run_ranker, waits = trials.run_ranker, iter([barrier.wait])

    def run_once_both_are_here(*given):
        next(waits, lambda: None)()
        return run_ranker(*given)

    trials.run_ranker = run_once_both_are_here
    sys.argv = ["sweep", *arguments]
    runpy.run_module("experiments.sweep", run_name="__main__", alter_sys=True)
