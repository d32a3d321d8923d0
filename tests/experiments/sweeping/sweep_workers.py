"""The command of a sweep in a process of its own, which meets that of another."""

import runpy
import sys

from experiments.sweeping import trials


def sweep_that_meets_another(barrier, arguments):
    """`python -m experiments.sweep`; its first trial waits until the other one is in a trial too.

    Args:
      barrier: Of multiprocessing, for both.
      arguments: Of the command.
    """
    run_ranker, waits = trials.run_ranker, iter([barrier.wait])

    def run_once_both_are_here(*given):
        next(waits, lambda: None)()
        return run_ranker(*given)

    trials.run_ranker = run_once_both_are_here
    sys.argv = ["sweep", *arguments]
    runpy.run_module("experiments.sweep", run_name="__main__", alter_sys=True)
