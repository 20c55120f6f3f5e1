"""docs/prd-coverage.md has a row for each id of the PRD, and names tests that exist."""

import ast
import re
from functools import cache

import pytest
from django.conf import settings

DOCUMENT = (settings.BASE_DIR / "docs" / "prd-coverage.md").read_text()
COVERAGE, DEVIATIONS = DOCUMENT.split("\n## Deviations\n")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
ROWS = [row for row in ROW.findall(COVERAGE) if row[0] != "id"]
NAMED = sorted(set(TEST.findall(DOCUMENT)))


def numbered(start: str, most: int) -> list[str]:
    return [f"{start}{number}" for number in range(1, most + 1)]


# By section of the PRD. Where it numbers nothing itself, its rules are counted from the top.
IDS = {
    "4": ["US-001", "US-002", "US-004", "US-005", "US-006", "US-007"],  # it has no US-003
    "5.1": numbered("FR-V0", 4),
    "5.2": numbered("FR-A0", 6),
    "5.3": numbered("FR-Q0", 5),
    "5.4": numbered("FR-E0", 5),
    "8.1": [
        "POST /api/cart/add",
        "GET /api/cart/status/:queueId",
        "POST /api/cart/retry/:queueId",
        "GET /api/admin/queue",
    ],
    "8.2": [
        "GET /api/admin/vendors",
        "POST /api/admin/vendors",
        "PUT /api/admin/vendors/:id",
        "DELETE /api/admin/vendors/:id",
    ],
    "8.3": [
        "POST /api/admin/accounts",
        "GET /api/admin/accounts",
        "GET /api/admin/accounts/:id",
        "PUT /api/admin/accounts/:id",
        "DELETE /api/admin/accounts/:id",
        "POST /api/admin/accounts/:id/test",
        "POST /api/admin/accounts/:id/migrate",
    ],
    "8.4": [
        "GET /api/admin/queue/stats",
        "POST /api/admin/queue/:id/cancel",
        "POST /api/admin/queue/manual/:id/complete",
        "POST /api/admin/queue/manual/:id/fail",
    ],
    "10": [
        *numbered("10.1.", 4),
        *numbered("10.2.", 5),
        *numbered("10.3.", 4),
        *numbered("10.4.", 4),
        "10.5",
    ],
    "11": [*numbered("11.1.", 6), *numbered("11.2.", 3), *numbered("11.3.", 5)],
    "13": [
        *numbered("R1.", 4),
        *numbered("R2.", 4),
        "R3",
        "R4",
        *numbered("R5.", 4),
        "R6",
    ],
}


@cache
def functions_in(path: str) -> set[str]:
    module = ast.parse((settings.BASE_DIR / path).read_text())
    return {
        each.name
        for each in module.body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_id_of_the_prd_has_one_row_and_no_row_is_of_anything_else():
    assert [name for name, _, _ in ROWS] == [name for ids in IDS.values() for name in ids]


@pytest.mark.parametrize(("name", "shows"), [(name, shows) for name, _, shows in ROWS])
def test_row_names_tests_or_says_what_is_missing(name, shows):
    tests, _, missing = shows.partition("not yet")

    assert TEST.search(tests) or missing
    if missing:
        assert re.match(r": \w.{20,}", missing)
    assert re.fullmatch(r"[\s,;]*", TEST.sub("", tests))  # nothing is claimed besides


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_named_test_exists(path, name):
    assert name.startswith("test_")
    assert name in functions_in(path)


def test_every_deviation_has_its_reason():
    lines = [line for line in DEVIATIONS.splitlines() if line.startswith("| ")]
    reasons = [why for _, _, why in ROW.findall(DEVIATIONS)]

    assert len(reasons) == len(lines) > 20
    assert all(len(why) > 15 for why in reasons[1:])  # the first line is the table's head
