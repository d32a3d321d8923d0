"""Input is data: no file, flag or checkpoint becomes code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hiertcn_jax", "data_pipelines", "experiments", "benchmarks")

MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "yaml",
    "runpy",
}
NAMES = {"eval", "exec", "compile", "__import__"}
METHODS = {
    "import_module", "system", "popen", "read_pickle", "unpickle", "deserialize", "sql_expr", "sql",
    "literal_eval",
}  # fmt: skip
ARGUMENTS = {"allow_pickle", "shell"}
OWN_CODE = {("benchmarks/commands.py", "runpy"), ("experiments/__main__.py", "runpy")}
"""Runs modules of this repository by name, as `python -m` does."""


def executions(source):
    """What could execute what was read: (line, name) of each."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            parts = {part for module in modules for part in module.split(".")}
            yield from ((node.lineno, name) for name in sorted(parts & (MODULES | METHODS)))
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, name) for name in calls(node))


def calls(node):
    """What in a call could execute input: the function, or an argument not plainly off."""
    if isinstance(node.func, ast.Name) and node.func.id in NAMES | METHODS:
        yield node.func.id
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        yield node.func.attr
    for argument in node.keywords:
        is_off = isinstance(argument.value, ast.Constant) and not argument.value.value
        if argument.arg in ARGUMENTS and not is_off:
            yield argument.arg


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_can_execute_what_it_reads(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files
        for line, name in executions(path.read_text(encoding="utf-8"))
        if (path.relative_to(ROOT).as_posix(), name) not in OWN_CODE
    ]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import numpy, yaml", "eval('1')",
        "exec(text)", "__import__(name)", "import importlib\nimportlib.import_module(name)",
        "from importlib import import_module", "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=given)", "pd.read_pickle(path)", "os.system(command)",
        "subprocess.run(command, shell=True)", "pl.Expr.deserialize(text)", "import six.cPickle",
    ],
)  # fmt: skip
def test_executing_calls_are_found(source):
    assert list(executions(source))


@pytest.mark.parametrize(
    "source",
    [
        "np.load(path, allow_pickle=False)",
        "re.compile('x')",
        "subprocess.run(['ls'])",
        "evaluate(x)",
    ],
)
def test_harmless_calls_are_accepted(source):
    assert not list(executions(source))
