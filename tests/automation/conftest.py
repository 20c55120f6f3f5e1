"""Fixtures for the tests of automation. They need no database and no Django."""

from collections.abc import Iterator

import pytest

from automation.host import BrowserHost
from tests.automation.little_site import LittleSite


@pytest.fixture
def site() -> Iterator[LittleSite]:
    with LittleSite() as running:
        yield running


@pytest.fixture(scope="session")
def shared_host() -> Iterator[BrowserHost]:
    """One browser for all tests that leave it as it was."""
    with BrowserHost() as host:
        yield host
