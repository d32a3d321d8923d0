"""The mutations of `tests.mutations` can be made, and their tests are there."""

import ast

import pytest

from tests import mutations
from tests.mutations import MUTATIONS, ROOT, Mutation, failed_tests


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=list(MUTATIONS))
def test_a_mutation_changes_one_place_of_a_program_and_its_test_is_there(mutation):
    text = (ROOT / mutation.path).read_text()
    assert text.count(mutation.old) == 1
    assert ast.dump(ast.parse(text.replace(mutation.old, mutation.new))) != ast.dump(
        ast.parse(text)
    )
    path, name = mutation.test.split("[")[0].split("::")
    functions = [
        node.name
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.FunctionDef)
    ]
    assert name in functions


def test_each_is_in_the_docs_with_its_test():
    docs = (ROOT / "docs" / "reliability.md").read_text()
    for name, mutation in MUTATIONS.items():
        path = mutation.test.split("::")[0].removeprefix("tests/")
        assert f"| {name} | `{path}` |" in docs


@pytest.fixture
def project(tmp_path):
    """A project with one function, and a test of a part of what it does."""
    (tmp_path / "half.py").write_text("def half(x):\n    return x / 2 if x > 0 else 0\n")
    (tmp_path / "test_half.py").write_text(
        "from half import half\n\ndef test_half():\n    assert half(4) == 2\n"
    )
    return tmp_path


def test_what_a_test_sees_is_told_from_what_it_does_not(project, monkeypatch, capsys):
    def copy(directory):
        directory.mkdir()
        for path in project.iterdir():
            (directory / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(mutations, "copy_tracked", copy)
    test = "test_half.py::test_half"
    cases = {
        "seen": Mutation("half.py", "x / 2", "x / 3", test),
        "unseen": Mutation("half.py", "else 0", "else 1", test),
    }
    monkeypatch.setattr(mutations, "MUTATIONS", cases)
    assert mutations.main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"seen: {test}", "unseen: NO TEST FAILS", "2 mutations, 1 of them unseen",
    ]  # fmt: skip
    assert mutations.main(["seen"]) == 0


@pytest.mark.parametrize("name", ["a b", "x[0] - 'y::z' < 1 & 2", "é\n"])
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
