"""Gives each of pytest-xdist's workers a Valkey database of its own, as pytest-django does with
PostgreSQL. A plugin, because the settings are read before any conftest."""

import os
from urllib.parse import urlsplit

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def valkey_database(number: int) -> str:
    """The URL of another database of the Valkey that we were given."""
    return urlsplit(os.environ["REDIS_URL"])._replace(path=f"/{number}").geturl()


if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["REDIS_URL"] = valkey_database(WORKER)
