"""The mutations of `tests.mutations` can be made, and their tests are there."""

import ast

import pytest

from tests import mutations
from tests.mutate import ROOT, Mutation, failed_tests, mutated
from tests.mutations import DOCS, MUTATIONS, with_docs_table
from tests.volume import mostly_thorough


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=list(MUTATIONS))
def test_a_mutation_changes_its_module_and_its_test_is_there(mutation):
    source = (ROOT / mutation.path).read_text(encoding="utf-8")
    changed = ast.parse(mutated(mutation, source))
    assert ast.dump(changed) != ast.dump(ast.parse(source))
    path, name = mutation.test.split("[")[0].split("::")
    tests = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    assert name in [node.name for node in tests if isinstance(node, ast.FunctionDef)]


def test_the_table_in_the_docs_is_current():
    docs = DOCS.read_text(encoding="utf-8")
    assert with_docs_table(docs) == docs, "python -m tests.mutations --write_docs writes it"


SOURCE = """
class A:
    def f(self, x):
        # Layout and comments do not matter.
        if (x
                > 1):
            return self.g(
                x, y=2,
            )
        return None

    def g(self, x, y):
        return x > 1

def f(x):
    with x:
        return g(x)
"""


@pytest.mark.parametrize(
    ("place", "old", "new", "there"),
    [
        ("A.f", "x > 1", "False", "if False:"),
        ("A.f", "if x > 1: ...", "pass", "        pass\n        return None"),
        ("A.f", "return None", "x = 1\nreturn x", "        x = 1\n        return x"),
        ("A.f", "self.g(...)", "OLD + 1", "return self.g(x, y=2) + 1"),
        ("A", "self.g(..., y=2)", "0", "return 0"),
        ("A.g", "... > 1", "y", "return y"),
        ("A.g", "x > 1", "x > 2", "return x > 2"),
    ],
)
def test_a_place_is_found_by_its_structure(place, old, new, there):
    changed = mutated(Mutation(f"a.py::{place}", old, new, ""), SOURCE)
    assert there in changed
    assert changed != ast.unparse(ast.parse(SOURCE))


@pytest.mark.parametrize(
    ("place", "old", "problem"),
    [
        ("a.py::A", "x > 1", "'x > 1' is there 2 times"),
        ("a.py::A.f", "x > 2", "'x > 2' is there 0 times"),
        ("a.py::A.h", "x > 1", "h is there 0 times"),
        ("a.py::f", "x", "'x' is there 2 times"),
    ],
)
def test_a_place_that_is_not_there_exactly_once_is_an_error(place, old, problem):
    with pytest.raises(ValueError, match=problem):
        mutated(Mutation(place, old, "0", ""), SOURCE)


@pytest.fixture
def project(tmp_path):
    """A project with one function, and a test of a part of what it does."""
    (tmp_path / "half.py").write_text("def half(x):\n    return x / 2 if x > 0 else 0\n")
    (tmp_path / "test_half.py").write_text(
        "from half import half\n\ndef test_half():\n    assert half(4) == 2\n"
    )
    return tmp_path


@pytest.mark.thorough
def test_what_a_test_sees_is_told_from_what_it_does_not(project, monkeypatch, capsys):
    def copy(directory):
        directory.mkdir()
        for path in project.iterdir():
            (directory / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(mutations, "copy_tracked", copy)
    test = "test_half.py::test_half"
    cases = {
        "seen": Mutation("half.py", "x / 2", "x / 3", test),
        "unseen": Mutation("half.py", "... if x > 0 else 0", "OLD or 1", test),
    }
    monkeypatch.setattr(mutations, "MUTATIONS", cases)
    assert mutations.main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"seen: {test}", "unseen: NO TEST FAILS", "2 mutations, 1 of them unseen",
    ]  # fmt: skip
    assert mutations.main(["seen"]) == 0


@pytest.mark.parametrize(
    "name", mostly_thorough(["a b", "x[0] - 'y::z' < 1 & 2", "é\n"], "x[0] - 'y::z' < 1 & 2")
)
def test_a_test_may_be_called_whatever_pytest_allows(project, name):
    """Of two cases that fail the one that is asked for is run, and named in full."""
    (project / "test_half.py").write_text(
        "import pytest\nfrom half import half\n\n"
        f"@pytest.mark.parametrize('x', [6, 8], ids=['other', {name!r}])\n"
        "def test_half(x):\n    assert half(x) == 2, 'some - words'\n"
    )
    shown = name if name.isascii() else ascii(name)[1:-1]
    test = f"test_half.py::test_half[{shown}]"
    assert failed_tests(project, [test]) == [test]


def test_a_fixture_that_fails_is_not_a_test_that_fails(project):
    (project / "test_half.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef broken():\n    raise OSError\n\n"
        "def test_half(broken):\n    pass\n"
    )
    with pytest.raises(RuntimeError, match="OSError"):
        failed_tests(project, ["test_half.py::test_half"])


def test_a_program_that_does_not_run_is_not_a_test_that_fails(project):
    (project / "half.py").write_text("def half(x)\n")
    with pytest.raises(RuntimeError, match="SyntaxError"):
        failed_tests(project, ["test_half.py::test_half"])
