"""A command's help: its flags by topic, its version, and a suggestion for a mistyped flag."""

import difflib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence

from absl import flags

_OURS = ("hiertcn_jax", "data_pipelines", "experiments", "benchmarks")
_WIDTH = 88

_MEANT = {
    "lr": "learning_rate",
    "batch_size": "lanes",
    "train_batch_size": "lanes",
    "seq_len": "events",
    "max_len": "events",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "max_steps": "steps",
    "num_steps": "steps",
    "hidden_size": "gru_dim",
    "hidden_dim": "gru_dim",
    "embedding_dim": "item_dim",
    "embedding_size": "item_dim",
    "emb_dim": "item_dim",
    "n_layers": "gru_layers",
    "num_layers": "gru_layers",
    "num_heads": "attention_heads",
    "n_heads": "attention_heads",
    "random_seed": "seed",
    "random_state": "seed",
    "early_stopping": "patience",
    "wd": "weight_decay",
    "dropout_rate": "dropout",
    "output": "output_dir",
    "out": "output_dir",
    "data": "data_dir",
    "dataset": "data_dir",
    "run_dir": "workdir",
    "log_dir": "workdir",
    "n_trials": "trials",
    "top_k": "k",
    "topk": "k",
    "top_n": "k",
    "n_items": "k",
    "user": "user_column",
    "item": "item_column",
    "time": "time_column",
    "timestamp": "time_column",
    "timestamp_column": "time_column",
}
"""Names in other libraries for flags of ours."""


def help_text(values: flags.FlagValues = flags.FLAGS) -> str:
    """The description of the command, and all its own flags by topic.

    A topic is the flags of one module; its `HELP_TOPIC` is the title.
    """
    described = sys.modules["__main__"].__doc__  # None under python -OO.
    lines = [] if described is None else [inspect.cleandoc(described), ""]
    for topic, own in _topics(values):
        lines += [f"{topic}:", ""]
        for flag in sorted(own, key=lambda flag: flag.name):
            lines += _flag_lines(flag)
        lines.append("")
    lines += [
        "Every command takes:",
        "",
        "  --flagfile=FILE  Reads flags from a file, one per line.",
        "  --preset=NAME    Reads a flagfile that comes with the program, such as globo.",
        "  --version        Prints the version.",
    ]
    return "\n".join(lines)


def unknown_flag(name: str, values: flags.FlagValues = flags.FLAGS) -> str:
    """The error line for an unknown flag, with the closest name that exists."""
    own = [flag.name for _, flags_of_topic in _topics(values) for flag in flags_of_topic]
    meant = [_MEANT[name]] if _MEANT.get(name) in own else difflib.get_close_matches(name, own, 1)
    suggestion = f"did you mean --{meant[0]}?" if meant else "--help lists the flags"
    return f"flag --{name}: there is no such flag; {suggestion}"


def _topics(values: flags.FlagValues) -> Iterator[tuple[str, Sequence[flags.Flag]]]:
    """The command's own flags: those of the running module, then by each config's module."""
    by_module = values.flags_by_module_dict()
    main = sys.argv[0]
    names = [name for name in by_module if name == main or name.startswith(_OURS)]
    for name in sorted(names, key=lambda name: (name != main, list(by_module).index(name))):
        title = getattr(sys.modules.get(name), "HELP_TOPIC", name.rpartition(".")[2])
        yield "this command" if name == main else title, by_module[name]


def _flag_lines(flag: flags.Flag) -> list[str]:
    value, text = flag.default, flag.help or ""
    shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    known = [] if shown is None or shown == "" else [f"default {shown}"]
    if isinstance(flag, flags.EnumFlag):
        choices = flag.parser.enum_values
        text = text.removeprefix(f"<{'|'.join(choices)}>: ")
        known.insert(0, f"one of {', '.join(choices)}")
    text = " ".join([*text.split(), *([f"({'; '.join(known)})"] if known else [])])
    indent = " " * 6
    return [
        f"  --{flag.name}",
        *textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent),
    ]


def plain_error(error: Exception) -> str:
    """A message of absl about a flag, reworded if a required flag is missing."""
    if valueless := re.fullmatch(r"Missing value for flag (--?\w+)", str(error)):
        return f"flag {valueless[1]}: must have a value: {valueless[1]}=..."
    missing = re.findall(r"flag --(\w+)=None: Flag --\1 must have a value", str(error))
    if not missing:
        return str(error)
    names = " and ".join(f"--{name}" for name in missing)
    return f"{names}: must be given; --help lists the flags"
