"""How much is tried: a part of it in `make test`, all of it in `make test-thorough`.

A test whose inputs, kills or seeds say nothing new from run to run tries a few of them, and all of
them with `--thorough`. One that says little beside another is marked `thorough`, and runs only
then.
"""

import pytest

_thorough = False


def is_thorough() -> bool:
    """Whether everything is tried."""
    return _thorough


def few(count: int, of: int) -> int:
    """`count`, or with `--thorough` all of `of`."""
    return of if _thorough else count


def mostly_thorough(values, *always):
    """Parameters of which all but `always` run only with --thorough."""
    return [
        value if value in always else _marked(*(value if isinstance(value, tuple) else [value]))
        for value in values
    ]


def _marked(*values):
    return pytest.param(*values, marks=pytest.mark.thorough)


def pytest_addoption(parser):
    parser.addoption(
        "--thorough",
        action="store_true",
        help="all hostile input, kills and trainings (make test-thorough)",
    )


def pytest_configure(config):
    global _thorough
    _thorough = config.getoption("--thorough")
    config.addinivalue_line("markers", "thorough: runs only with --thorough")


def pytest_collection_modifyitems(config, items):
    if _thorough:
        return
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    items[:] = [item for item in items if not item.get_closest_marker("thorough")]
    config.hook.pytest_deselected(items=left_out)
