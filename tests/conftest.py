"""Fixtures for the tests of every room. What one room alone needs is in that room's folder."""

from collections.abc import Iterator

import pytest
import redis
from django.conf import settings
from django.test import TransactionTestCase

from tests.emptying import empty_tables

TransactionTestCase._fixture_teardown = empty_tables


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    """The database of Valkey that REDIS_URL names, empty before the test and after it.

    The tests take it for their own, as they do with their PostgreSQL database.
    """
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()
