"""Writes docs/reference: the flags of each command, from its own help, and the Python API.

    python -m tests.reference

A test finds the pages as this module would write them.
"""

import ast
import contextlib
import importlib
import inspect
import re

from absl import flags

from data_pipelines.commands.help import help_of
from experiments.__main__ import _SAYS, COMMANDS
from tests.mutate import ROOT

FOLDER = ROOT / "docs" / "reference"
_WRITTEN = "<!-- make reference writes this page: change the code instead. -->"

API = {
    "hiertcn_jax": ("load", "fit", "load_ranker"),
    "hiertcn_jax.serving.recommender": ("Recommender",),
    "hiertcn_jax.exported.reading": ("Export",),
    "hiertcn_jax.exported.onnx_stream": ("OnnxStream",),
}
"""Public names by module."""


@contextlib.contextmanager
def _no_flags():
    """Yields absl's flags without any; afterwards they are as before."""
    held = dict(vars(flags.FLAGS))
    vars(flags.FLAGS).clear()
    flags.FlagValues.__init__(flags.FLAGS)
    try:
        yield flags.FLAGS
    finally:
        vars(flags.FLAGS).clear()
        vars(flags.FLAGS).update(held)


def topics_of(command):
    """The flags of a command by topic, its own first: {title: {name: (help, default)}}."""
    module = importlib.import_module(COMMANDS[command])
    with _no_flags() as values:
        if hasattr(module, "define_flags"):
            module.define_flags()
        by_module = values.flags_by_module_dict()
        topics = {}
        for name in sorted(by_module, key=lambda name: name != module.__name__):
            owner = importlib.import_module(name) if name != module.__name__ else None
            title = "this command" if owner is None else getattr(owner, "HELP_TOPIC", None)
            rows = topics.setdefault(title or name.rpartition(".")[2], {})
            rows |= {flag.name: _row(flag) for flag in by_module[name]}
    return {title: dict(sorted(rows.items())) for title, rows in topics.items()}


def _row(flag):
    text = " ".join(help_of(flag).split())
    if isinstance(flag, flags.EnumFlag):
        text = text.removeprefix(f"<{'|'.join(flag.parser.enum_values)}>: ")
        text += f" One of {', '.join(flag.parser.enum_values)}."
    if any("must have a value" in check.message for check in flag.validators):
        return text, "required"
    value = flag.default
    if isinstance(flag, flags.BooleanFlag):
        return text, "on" if value else "off"
    while isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        (value,) = value
    value = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    return text, "" if value in (None, "") else f"`{value}`"


def _cell(text):
    # What looks like a tag is text, and a bar would end the cell.
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def flags_page(command, shared):
    """The page of a command; topics that are those of `shared` are links to its page."""
    module = importlib.import_module(COMMANDS[command])
    described = inspect.cleandoc(module.__doc__ or "")
    lines = [f"# hiertcn {command}", "", _WRITTEN, "", described]
    same = []
    for title, rows in topics_of(command).items():
        heading = f"{title[0].upper()}{title[1:]}"
        if shared.get(title) == rows:
            same.append(f"[{heading}](train.md#{title.lower().replace(' ', '-')})")
            continue
        lines += ["", f"## {heading}", "", "| flag | what it does | default |", "|---|---|---|"]
        for name, (text, default) in rows.items():
            lines.append(f"| `--{name}` | {_cell(text)} | {_cell(default)} |")
    if same:
        lines += ["", "## As for train", "", f"{', '.join(same)}."]
    return "\n".join(lines) + "\n"


def index_page():
    """The list of all commands."""
    rows = [f"| [`hiertcn {name}`]({name}.md) | {_SAYS[name]} |" for name in COMMANDS]
    says = [
        "In the order of work. Every command takes `--help`, `--version`, `--flagfile=FILE` (one",
        "flag a line) and `--preset=NAME` (a flagfile that comes with the program).",
    ]
    table = ["| command | what it does |", "|---|---|", *rows]
    return "\n".join(["# Commands", "", _WRITTEN, "", *says, "", *table]) + "\n"


def api_page():
    """What the library offers in Python."""
    lines = ["# Python", "", _WRITTEN, ""]
    lines.append("[Recommendations](../recommend.md) shows them at work.")
    for module, names in API.items():
        path = ROOT / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        tree = ast.parse(path.read_text())
        found = {node.name: node for node in tree.body if hasattr(node, "name")}
        for name in names:
            lines += _entry(found[name], f"{module}.{name}", "##")
            if isinstance(found[name], ast.ClassDef):
                for method in found[name].body:
                    if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                        lines += _entry(method, f"{name}.{method.name}", "###")
    return "\n".join(lines) + "\n"


def _entry(node, name, heading):
    """Heading, signature and docstring of a class, a function or a method."""
    lines = ["", f"{heading} {name}", ""]
    if isinstance(node, ast.FunctionDef):
        node.args.args = [one for one in node.args.args if one.arg != "self"]
        kind = [one.id for one in node.decorator_list if isinstance(one, ast.Name)]
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        called = "" if "property" in kind else f"({ast.unparse(node.args)})"
        lines += ["```text", _plain(f"{node.name}{called}{returns}"), "```", ""]
    text = ast.get_docstring(node) or ""
    for part in re.split(r"\n\n(?=\w+:\n)", text):
        title, _, rest = part.partition(":\n")
        if re.fullmatch(r"Args|Returns|Raises|Attributes|Yields", title):
            lines += [f"**{title}**", "", *_items(inspect.cleandoc(rest)), ""]
        else:
            lines += [part, ""]
    return lines[:-1]


def _plain(text):
    """A signature without the quotes of annotations that are read later."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


def _items(text):
    """The entries of a section as a list, if they have names."""
    entries = re.split(r"\n(?! )", text)
    if not all(re.match(r"[\w.*]+: ", entry) for entry in entries):
        return [" ".join(text.split())]
    split = [" ".join(entry.split()).partition(": ") for entry in entries]
    return [f"- `{name}`: {said}" for name, _, said in split]


def pages():
    """All pages: {path: text}."""
    shared = topics_of("train")
    written = {
        FOLDER / f"{name}.md": flags_page(name, {} if name == "train" else shared)
        for name in COMMANDS
    }
    return {**written, FOLDER / "commands.md": index_page(), FOLDER / "python.md": api_page()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text)
