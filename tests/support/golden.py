"""The golden files: each with the state that it holds."""

import yaml

from mmapstate.values import same
from support.runs import TESTS

DATA = TESTS / "data" / "format1"
NAMES = sorted(path.stem for path in DATA.glob("*.state"))


def golden(name):
    """Return a file's bytes and its state."""
    return (DATA / f"{name}.state").read_bytes(), yaml.safe_load((DATA / f"{name}.yaml").read_bytes())


def assert_same(found, expected):
    """Types, order of keys, sign of zero, NaN and time zones count."""
    assert same(found, expected), found
