"""The table of docs/engine-rules.md names tests that exist, and that say which rule they show."""

import ast
import re

import pytest
from django.conf import settings

TABLE = (settings.BASE_DIR / "docs" / "engine-rules.md").read_text()
ROWS = {
    int(number): re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cells)
    for number, cells in re.findall(r"^\| (\d+) \|(.*)$", TABLE, re.MULTILINE)
}
NAMED = [(rule, path, name) for rule, tests in ROWS.items() for path, name in tests]


def test_each_rule_has_tests():
    assert list(ROWS) == list(range(1, 12))
    assert all(ROWS.values())


@pytest.mark.parametrize(("rule", "path", "name"), NAMED)
def test_named_test_exists_and_names_its_rule(rule, path, name):
    module = ast.parse((settings.BASE_DIR / path).read_text())
    functions = {
        each.name: each
        for each in module.body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert name in functions
    told = (ast.get_docstring(module) or "") + (ast.get_docstring(functions[name]) or "")
    assert f"Rule {rule}:" in told
