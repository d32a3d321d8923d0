"""How much is tried: a part of it in `make test`, all of it in `make test-thorough`.

A test whose inputs, kills or seeds add nothing new from run to run tries a few of them, and all of
them with `--thorough`; one that says nothing new beside another is marked `thorough` and runs only
then.
"""

_thorough = False


def set_thorough(thorough: bool) -> None:
    """Decides for this process, before tests are collected."""
    global _thorough
    _thorough = thorough


def is_thorough() -> bool:
    """Whether everything is tried."""
    return _thorough


def few(count: int, of: int) -> int:
    """`count`, or with `--thorough` all of `of`."""
    return of if _thorough else count
