"""Rivals: other connections that act at an exact moment, so that a race needs no luck."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection


def elsewhere(*acts: Callable[[], Any]) -> list[Any]:
    """Runs each act in a thread with a connection of its own, all at once; what they returned."""
    barrier = Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            barrier.wait(10)
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(run, acts, timeout=30))


def just_before(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, act: Callable[[], Any]
) -> None:
    """Has `act` happen elsewhere, once, just before the next call of `module.name`."""
    real = getattr(module, name)

    def with_rival(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(module, name, real)
        elsewhere(act)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, with_rival)
