"""What only reads gives what dict and list give, and refuses each change; of each backend that can be read."""

import re

import pytest
import test_mappings
import test_sequences
from support.backends import READABLE

from mmapstate import ReadOnlyError

KINDS = {"mapping": test_mappings, "sequence": test_sequences}
WRITES = re.compile(
    r"\b(__(set|del)item__|__i(add|mul)__|append|clear|extend|insert|pop|popitem|remove|reverse|setdefault|sort|update)\("
)
EACH = [(name, expression) for name, module in KINDS.items() for expression in module.EXPRESSIONS]


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize(("kind", "expression"), [each for each in EACH if not WRITES.search(each[1])])
def test_what_changes_nothing_is_as_with_dict_and_list(opened, name, kind, expression):
    module = KINDS[kind]
    node = opened(READABLE[name]({"node": module.PLAIN})).root["node"]
    assert module.outcome(expression, node) == module.outcome(expression, type(module.PLAIN)(module.PLAIN))


@pytest.mark.parametrize(("kind", "expression"), [each for each in EACH if WRITES.search(each[1])])
def test_what_would_change_something_is_refused_where_nothing_can_be_written(opened, kind, expression):
    """Or it is the mistake that it is with a dict or a list, or changes a copy, or there is nothing to change."""
    module = KINDS[kind]
    node = opened(READABLE["readonly"]({"node": module.PLAIN})).root["node"]
    result, contents = module.outcome(expression, node)
    expected, changed = module.outcome(expression, type(module.PLAIN)(module.PLAIN))
    assert contents == list(module.PLAIN.items() if kind == "mapping" else module.PLAIN)
    refused = isinstance(result, tuple) and result[0] is ReadOnlyError
    assert refused or (result == expected and changed == contents)
