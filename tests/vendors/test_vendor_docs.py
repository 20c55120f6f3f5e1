"""docs/vendors.md names every selector, with examples that would be accepted."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from automation.shop.check import STEPS, Outcome
from automation.site import SELECTOR_KEYS, is_xpath, site_problems

TEXT = (Path(__file__).parents[2] / "docs" / "vendors.md").read_text()
EXAMPLES = re.findall(r"^\| `(\w+)` \| `([^`]*)` \| `([^`]*)` \|$", TEXT, re.MULTILINE)


def test_every_selector_has_an_example_of_css_and_of_xpath():
    assert {key for key, _, _ in EXAMPLES} == set(SELECTOR_KEYS)
    assert all(is_xpath(xpath) and not is_xpath(css) for _, css, xpath in EXAMPLES)


@pytest.mark.parametrize("column", [1, 2])
def test_examples_are_accepted(column):
    selectors = {example[0]: example[column] for example in EXAMPLES}

    assert site_problems({"name": "V", "domain": "v.example", "selectors": selectors}) == {}


def test_what_a_check_says_is_explained():
    told = set(re.findall(r"`(\w+)`", TEXT))

    assert {*STEPS, *Outcome} <= told


def test_commands_that_are_named_exist():
    named = set(re.findall(r"\./run manage (\w+)", TEXT))

    assert len(named) == 6
    assert named <= set(get_commands())
