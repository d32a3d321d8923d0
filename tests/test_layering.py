"""The import arrows: experiments -> both libraries, data_pipelines -> the batch, nothing back."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("hiertcn_jax", "data_pipelines", "experiments", "benchmarks")

SVD = {f"hiertcn_jax.baselines.{name}" for name in ("cooccurrence", "events", "item_vectors")}

MEMORY = {f"hiertcn_jax.memory.{name}" for name in ("clock", "config", "levels", "memory")}

DOOR = ROOT / "hiertcn_jax" / "__init__.py"
"""`hiertcn_jax.load`: its function imports what runs are made of, when it is called."""

ALLOWED = {
    "hiertcn_jax": {"hiertcn_jax"},
    # Flags are made of settings; the SVD of rankers makes embeddings where a log has none; loaders
    # ask memory for the lists of a batch. These are numpy, scipy and numba alone.
    "data_pipelines": {
        "data_pipelines",
        "hiertcn_jax.batch",
        "hiertcn_jax.settings",
        *SVD,
        *MEMORY,
    },
    "experiments": {"hiertcn_jax", "data_pipelines", "experiments"},
    "benchmarks": {"hiertcn_jax", "data_pipelines", "experiments", "benchmarks"},
}


def imported(path):
    """Every module that a file imports, in full."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            # `from package import name`: the name may be a module of the package.
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (ROOT / (inner.replace(".", "/") + ".py")).exists()
                yield inner if is_module else node.module


def within(module, allowed):
    return any(module == name or module.startswith(name + ".") for name in allowed)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        for module in imported(path):
            allowed = ALLOWED[package] | ({"experiments.service"} if path == DOOR else set())
            if within(module, PACKAGES):
                assert within(module, allowed), f"{path} imports {module}"


def test_private_names_of_jax_are_read_in_one_module():
    """By import or by attribute; docs/architecture.md says why there."""
    reading = {
        path.relative_to(ROOT).as_posix()
        for package in (*PACKAGES, "tests")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr == "_src")
        or (isinstance(node, ast.Import | ast.ImportFrom) and "._src" in ast.unparse(node))
    }
    assert reading == {"experiments/processes/notes.py"}


def arrows(folder):
    """What a folder's `__init__` says it imports, in full."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    _, found, listed = text.rpartition("Imports: ")
    assert found, f"{folder}/__init__.py: says nothing of what it imports"
    package = folder.parent.name
    names = [name.strip() for name in listed.rstrip(".").replace("\n", " ").split(",")]
    return {name if within(name, PACKAGES) else f"{package}.{name}" for name in names}


FOLDERS = [
    path.parent
    for package in ("hiertcn_jax", "data_pipelines", "experiments")
    for path in sorted((ROOT / package).glob("*/__init__.py"))
]


@pytest.mark.parametrize(
    "folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}"
)
def test_each_folder_says_what_it_imports(folder):
    """All of it, and nothing that it no longer does."""
    own = f"{folder.parent.name}.{folder.name}"
    used = {
        ".".join(module.split(".")[:2])
        for path in folder.rglob("*.py")
        for module in imported(path)
        if within(module, PACKAGES) and not within(module, {own})
    }
    assert used == arrows(folder)


def test_the_data_pipelines_do_no_device_work():
    for path in (ROOT / "data_pipelines").rglob("*.py"):
        assert not any(within(module, {"jax", "flax"}) for module in imported(path)), path


WITHOUT_JAX = (
    *(f"hiertcn_jax.memory.{name}" for name in ("clock", "config", "lists", "memory")),
    *(f"hiertcn_jax.serving.{name}" for name in ("event_rows", "frames", "user_states")),
    *(f"hiertcn_jax.exported.{name}" for name in ("onnx_stream", "reading", "users")),
    "experiments.serve",
)
"""What servers without JAX use."""


def test_servers_need_no_jax():
    """Neither these modules nor anything that they import."""
    done, left = set(), set(WITHOUT_JAX)
    while left:
        module = left.pop()
        done.add(module)
        path = ROOT / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        found = set() if path == DOOR else set(imported(path))
        assert not any(within(name, {"jax", "flax", "jaxtyping"}) for name in found), path
        left |= {name for name in found if within(name, PACKAGES)} - done


def test_only_the_edge_reads_flags_and_prints():
    """The library takes values; flags, print and progress bars are the runners'."""
    for path in (ROOT / "hiertcn_jax").rglob("*.py"):
        assert not any(within(module, {"absl", "rich", "tqdm"}) for module in imported(path)), path
        calls = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        ]
        assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), path


def test_there_are_no_cycles():
    graph = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            graph[name] = {module for module in imported(path) if within(module, PACKAGES)}
    graph["hiertcn_jax"] = set()

    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done or module not in graph:
            return
        path.append(module)
        for other in sorted(graph[module]):
            visit(other)
        path.pop()
        done.add(module)

    for module in sorted(graph):
        visit(module)
