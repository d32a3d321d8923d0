"""What is read is data: no file, flag or checkpoint becomes code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hiertcn_jax", "data_pipelines", "experiments", "benchmarks")

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "runpy"}
NAMES = {"eval", "exec", "compile", "__import__"}
METHODS = {
    "import_module", "system", "popen", "read_pickle", "unpickle", "deserialize", "sql_expr", "sql",
    "literal_eval",
}  # fmt: skip
ARGUMENTS = {"allow_pickle", "shell"}


def executions(source):
    """What could run what was read: (line, name) of each."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{name}" for name in names] + [node.module or ""]
            for name in names:
                if set(name.split(".")) & (MODULES | METHODS):
                    yield node.lineno, name
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in NAMES | METHODS:
                yield node.lineno, called.id
            if isinstance(called, ast.Attribute) and called.attr in METHODS:
                yield node.lineno, called.attr
            for argument in node.keywords:
                plain = isinstance(argument.value, ast.Constant) and not argument.value.value
                if argument.arg in ARGUMENTS and not plain:
                    yield node.lineno, argument.arg


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_can_execute_what_it_reads(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files
        for line, name in executions(path.read_text(encoding="utf-8"))
    ]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import numpy, yaml", "eval('1')",
        "exec(text)", "__import__(name)", "import importlib\nimportlib.import_module(name)",
        "from importlib import import_module", "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=given)", "pd.read_pickle(path)", "os.system(command)",
        "subprocess.run(command, shell=True)", "pl.Expr.deserialize(text)", "import six.moves.cPickle",
    ],
)  # fmt: skip
def test_what_would_execute_is_found(source):
    assert list(executions(source))


@pytest.mark.parametrize(
    "source",
    ["np.load(path, allow_pickle=False)", "re.compile('x')", "subprocess.run(['ls'])", "evaluate(x)"],
)
def test_what_does_not_is_left_alone(source):
    assert not list(executions(source))
