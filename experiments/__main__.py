"""Runs all commands under one name.

    hiertcn COMMAND [--flags]        python -m experiments COMMAND [--flags]

is the same as `python -m experiments.COMMAND` (for `prepare`: `python -m data_pipelines.prepare`),
and works in any folder.
"""

import runpy
import sys
from typing import NoReturn

COMMANDS = {
    "prepare": "data_pipelines.prepare",
    "train": "experiments.train",
    "evaluate": "experiments.evaluate",
    "report": "experiments.report",
    "recommend": "experiments.recommend",
    "embed": "experiments.embed",
    "sweep": "experiments.sweep",
    "compare": "experiments.compare",
    "replay": "experiments.replay",
    "export": "experiments.export",
    "serve": "experiments.serve",
    "doctor": "experiments.doctor",
}
"""The module of each command, in the order of work."""

_SAYS = {
    "prepare": "turn a log of (user, item, time) into data to train on",
    "train": "train a model and score it",
    "evaluate": "score a trained model again, on other events or other data",
    "report": "write a page that shows how well a model does, for whom and why",
    "recommend": "write the best items for every user",
    "embed": "write the embedding of every user",
    "sweep": "search hyperparameters",
    "compare": "train several models and score them on the same events",
    "replay": "score a model event by event through time",
    "export": "write a trained model so that it runs elsewhere, without JAX",
    "serve": "answer over HTTP: events in, recommendations out",
    "doctor": "tell what this machine has, and what is missing",
}


def usage() -> str:
    """The text of `hiertcn --help`."""
    lines = [f"  {name:10} {text}" for name, text in _SAYS.items()]
    return "\n".join(
        [
            "usage: hiertcn COMMAND [--flags]",
            "",
            *lines,
            "",
            "hiertcn COMMAND --help lists the flags of a command; hiertcn --version its version.",
        ]
    )


def _answer(text: str) -> NoReturn:
    # Imported here, since it imports absl, and commands import it anyway.
    from data_pipelines.commands.command import answer

    answer(text)


def run() -> NoReturn:
    """Runs the command that the command line names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "-help", "help"):
        _answer(usage())
    if name in ("--version", "-version"):
        from hiertcn_jax import __version__

        _answer(f"hiertcn_jax {__version__}")
    if name not in COMMANDS:
        print(f"error: {name}: no such command; one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    runpy.run_module(COMMANDS[name], run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    run()
