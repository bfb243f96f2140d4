"""This room compiles a sampler per test: `pytest -m slow` runs it, and so does .ci/run."""

from pathlib import Path

import jax
import pytest


@pytest.fixture
def eager():
    """Nothing is compiled but single operations, which all tests share."""
    with jax.disable_jit():
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
