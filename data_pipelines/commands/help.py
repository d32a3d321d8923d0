"""A command's help: its flags by topic, its version, and a suggestion for a mistyped flag."""

import difflib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence

from absl import flags

_OURS = ("hiertcn_jax", "data_pipelines", "experiments", "benchmarks")
_WIDTH = 80
"""Columns of a terminal."""

_SIZE_OF_A_BATCH = ("lanes", "eval_lanes")
_OF_ITEMS, _OF_USERS = ("item_dim",), ("gru_dim", "tcn_channels")
_TOP = ("k",)
_OUTPUT = ("output", "output_dir", "workdir")
_DATA = ("data_dir", "input", "export_dir")
_RUN = ("workdir", "export_dir", "output_dir")

_MEANT = {
    "lr": ("learning_rate",),
    "batch": _SIZE_OF_A_BATCH,
    "batch_size": _SIZE_OF_A_BATCH,
    "train_batch_size": _SIZE_OF_A_BATCH,
    "eval_batch_size": ("eval_lanes",),
    "seq_len": ("events",),
    "max_len": ("events",),
    "n_epochs": ("epochs",),
    "num_epochs": ("epochs",),
    "max_epochs": ("epochs",),
    "max_steps": ("steps",),
    "num_steps": ("steps",),
    "dim": _OF_ITEMS,
    "embedding_dim": _OF_ITEMS,
    "embedding_size": _OF_ITEMS,
    "emb_dim": _OF_ITEMS,
    "hidden": _OF_USERS,
    "hidden_size": _OF_USERS,
    "hidden_dim": _OF_USERS,
    "hidden_units": _OF_USERS,
    "channels": ("tcn_channels",),
    "n_layers": ("gru_layers",),
    "num_layers": ("gru_layers",),
    "num_heads": ("attention_heads",),
    "n_heads": ("attention_heads",),
    "random_seed": ("seed",),
    "random_state": ("seed",),
    "early_stopping": ("patience",),
    "wd": ("weight_decay",),
    "dropout_rate": ("dropout",),
    "metric": ("monitor",),
    "output": _OUTPUT,
    "out": _OUTPUT,
    "output_file": _OUTPUT,
    "output_dir": _OUTPUT,
    "save_dir": _OUTPUT,
    "data": _DATA,
    "dataset": _DATA,
    "data_path": _DATA,
    "log": _DATA,
    "export": ("export_dir",),
    "input": _DATA,
    "run": _RUN,
    "run_dir": _RUN,
    "log_dir": _RUN,
    "model_dir": _RUN,
    "n_trials": ("trials",),
    "top_k": _TOP,
    "topk": _TOP,
    "top_n": _TOP,
    "n": _TOP,
    "n_items": _TOP,
    "user": ("user_column",),
    "user_col": ("user_column",),
    "item": ("item_column",),
    "item_col": ("item_column",),
    "time": ("time_column",),
    "time_col": ("time_column",),
    "timestamp": ("time_column",),
    "timestamp_column": ("time_column",),
    "session": ("session_column",),
    "sep": ("separator",),
    "delimiter": ("separator",),
    "quotechar": ("quote",),
    "quote_char": ("quote",),
    "quoting": ("quote",),
    "db": ("store", "storage"),
    "database": ("store", "storage"),
    "bind": ("host",),
    "address": ("host",),
}
"""Flags of ours for names in other libraries, or in other commands; the first that there is."""


def help_text(values: flags.FlagValues = flags.FLAGS) -> str:
    """The description of the command, and all its own flags by topic.

    A topic is the flags of one module; its `HELP_TOPIC` is the title.
    """
    described = sys.modules["__main__"].__doc__  # None under python -OO.
    lines = [] if described is None else [*description_lines(described)]
    for topic, own in _topics(values):
        lines += [f"{topic}:", ""]
        for flag in sorted(own, key=lambda flag: flag.name):
            lines += flag_lines(flag)
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
    meant = [flag for flag in _MEANT.get(name, ()) if flag in own]
    meant = meant[:1] or difflib.get_close_matches(name, own, 1)
    suggestion = f"did you mean --{meant[0]}?" if meant else "--help lists the flags"
    return f"flag --{name}: there is no such flag; {suggestion}"


def description_lines(described: str) -> Iterator[str]:
    """A module's docstring as lines for a terminal; indented ones, such as commands, stay."""
    for paragraph in inspect.cleandoc(described).split("\n\n"):
        lines = paragraph.split("\n")
        if any(line.startswith(" ") for line in lines):
            yield from lines
        else:
            yield from textwrap.wrap(" ".join(lines), _WIDTH)
        yield ""


def _topics(values: flags.FlagValues) -> Iterator[tuple[str, Sequence[flags.Flag]]]:
    """The command's own flags: those of the running module, then by each config's module."""
    by_module = values.flags_by_module_dict()
    main = sys.argv[0]
    names = [name for name in by_module if name == main or name.startswith(_OURS)]
    for name in sorted(names, key=lambda name: (name != main, list(by_module).index(name))):
        title = getattr(sys.modules.get(name), "HELP_TOPIC", name.rpartition(".")[2])
        yield "this command" if name == main else title, by_module[name]


def flag_lines(flag: flags.Flag) -> list[str]:
    """A flag's name and help, as lines for a terminal."""
    # absl says so of a flag that adds up.
    text = help_of(flag)
    known = [] if "Default: " in text else [*_default(flag)]
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


def help_of(flag: flags.Flag) -> str:
    """The help of a flag, as its command gave it: absl adds to that of a flag that adds up."""
    return (flag.help or "").removesuffix(";\n    repeat this option to specify a list of values")


def _default(flag: flags.Flag) -> Iterator[str]:
    """What a flag is without being given, in words; nothing for none."""
    value = flag.default
    if isinstance(flag, flags.BooleanFlag):
        yield f"on; --no{flag.name} turns it off" if value else "off"
        return
    while isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        (value,) = value
    shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    if shown is not None and shown != "":
        yield f"default {shown}"


def plain_error(error: Exception) -> str:
    """A message of absl about a flag, reworded if a required flag is missing."""
    if valueless := re.fullmatch(r"Missing value for flag (--?\w+)", str(error)):
        return f"flag {valueless[1]}: must have a value: {valueless[1]}=..."
    missing = re.findall(r"flag --(\w+)=None: Flag --\1 must have a value", str(error))
    if not missing:
        return str(error)
    names = " and ".join(f"--{name}" for name in missing)
    return f"{names}: must be given; --help lists the flags"
