"""The backends that the suite runs over."""

import contextlib

import pytest
from support.backends import READABLE, WRITABLE


@pytest.fixture
def opened():
    """Open what is closed, and checked, at the end of the test."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture(params=WRITABLE)
def make(request, opened):
    """A function that makes, of contents, a tree behind each backend that can be written."""
    return lambda contents: opened(WRITABLE[request.param](contents))


@pytest.fixture(params=READABLE)
def make_readable(request, opened):
    """The same for each that can be read."""
    return lambda contents: opened(READABLE[request.param](contents))
