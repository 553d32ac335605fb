"""The backends that the suite runs over."""

import contextlib

import pytest
from support.backends import WRITABLE


@pytest.fixture
def opened():
    """Open what is closed, and checked, at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture(params=WRITABLE)
def make(request, opened):
    """A function that makes, of contents, a tree behind each backend that can be written."""
    return lambda contents: opened(WRITABLE[request.param](contents))
