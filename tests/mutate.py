"""Finds a place in the code by its structure, changes it, and runs a test on what comes of it."""

import ast
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]


class Mutation(NamedTuple):
    """One way to break the code.

    Layout, comments and line breaks do not matter: code is compared as a syntax tree.

    Attributes:
      place: `path` of a module, or `path::Class.method` to look in a class or a function alone.
      old: An expression or a statement that is there once. `...` stands for any expression, for all
        arguments of a call where it is the only one, and for all statements of a block where it is
        the only one.
      new: Takes its place. `OLD` is the expression that was there.
      test: Node id of the test that has to fail.
    """

    place: str
    old: str
    new: str
    test: str

    @property
    def path(self) -> str:
        """The module that is changed."""
        return self.place.partition("::")[0]


def mutated(mutation: Mutation, source: str) -> str:
    """The source of the mutation's module after the change.

    Raises:
      ValueError: The place is not there, or `old` is not there exactly once.
    """
    tree = ast.parse(source)
    change = _Change(mutation)
    change.generic_visit(_scope(tree, mutation))
    if change.found != 1:
        raise ValueError(f"{mutation.place}: {mutation.old!r} is there {change.found} times")
    return ast.unparse(ast.fix_missing_locations(tree))


def copy_tracked(directory: Path) -> None:
    """The tracked files, as they are now."""
    command = ["git", "ls-files", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.split("\0")[:-1]:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, directory / name)


def failed_tests(directory: Path, tests: list[str]) -> list[str]:
    """Node ids of the tests that fail, up to the first; a test that cannot start is not one.

    Raises:
      RuntimeError: Something else is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="hiertcn_jax_mutations_") as parent:
        report = Path(parent) / "report.xml"
        # This form of the report names files, so that a node id can be put together again.
        asked = [f"--junitxml={report}", "-o", "junit_family=xunit1"]
        options = ["-n0", "-x", "--color=no", "-p", "no:cacheprovider", *asked]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        cases = ElementTree.parse(report).iter("testcase") if report.exists() else ()
        failed = [
            f"{case.get('file')}::{case.get('name')}"
            for case in cases
            if case.find("failure") is not None
        ]
    if done.returncode != (1 if failed else 0):
        raise RuntimeError(f"pytest {' '.join(tests)}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return failed


def _scope(tree: ast.Module, mutation: Mutation) -> ast.Module | ast.ClassDef | ast.FunctionDef:
    """The module, class or function that the mutation looks in."""
    scope: ast.Module | ast.ClassDef | ast.FunctionDef = tree
    for name in filter(None, mutation.place.partition("::")[2].split(".")):
        inner = [
            node
            for node in scope.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name
        ]
        if len(inner) != 1:
            raise ValueError(f"{mutation.place}: {name} is there {len(inner)} times")
        (scope,) = inner
    return scope


class _Change(ast.NodeTransformer):
    """Puts `new` where `old` is, and counts how often."""

    def __init__(self, mutation: Mutation) -> None:
        self.found = 0
        (self._old,) = ast.parse(mutation.old).body
        self._new = ast.parse(mutation.new).body
        is_expression = [isinstance(node, ast.Expr) for node in (self._old, *self._new)]
        if is_expression == [True, True]:
            self._old, self._new = self._old.value, self._new[0].value

    def visit(self, node: ast.AST) -> Any:
        if not _matches(self._old, node):
            return self.generic_visit(node)
        self.found += 1
        if isinstance(self._new, list):
            return self._new
        return _WithOld(node).visit(self._new)


class _WithOld(ast.NodeTransformer):
    """Puts an expression where `OLD` stands."""

    def __init__(self, old: ast.AST) -> None:
        self._old = old

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._old if node.id == "OLD" else node


def _matches(pattern: Any, found: Any) -> bool:
    """Whether a part of a syntax tree is as the pattern says."""
    if _is_any(pattern):
        return isinstance(found, ast.expr)
    if isinstance(pattern, list):
        if len(pattern) == 1 and isinstance(pattern[0], ast.Expr) and _is_any(pattern[0].value):
            return isinstance(found, list)
        return (
            isinstance(found, list)
            and len(pattern) == len(found)
            and all(map(_matches, pattern, found))
        )
    if not isinstance(pattern, ast.AST):
        return type(pattern) is type(found) and pattern == found
    if type(pattern) is not type(found):
        return False
    if isinstance(pattern, ast.Call) and len(pattern.args) == 1 and _is_any(pattern.args[0]):
        return _matches(pattern.func, found.func)
    return all(_matches(getattr(pattern, name), getattr(found, name)) for name in pattern._fields)


def _is_any(pattern: Any) -> bool:
    return isinstance(pattern, ast.Constant) and pattern.value is Ellipsis
