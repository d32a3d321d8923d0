"""The examples (`>>>`) in docstrings do what they say."""

import doctest
import importlib

import pytest

from tests.mutate import ROOT

PACKAGES = ("hiertcn_jax", "data_pipelines", "experiments")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert attempted
    assert not failed
