from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from jobs import live
from tests.jobs import workflows


@dataclass
class Hints:
    """What would have been sent: a wake-up call for each queue's step, and the changed jobs."""

    wakes: Counter[str] = field(default_factory=Counter)
    changed: list[str] = field(default_factory=list)

    def post(self, wakes: Iterable[str] = (), changed: Iterable[str] = ()) -> None:
        self.wakes.update(wakes)
        self.changed.extend(changed)

    def clear(self) -> None:
        self.wakes.clear()
        self.changed.clear()


@pytest.fixture(autouse=True)
def hints(monkeypatch: pytest.MonkeyPatch) -> Hints:
    """Hints are noted, not sent: nothing that must hold may depend on one."""
    hints = Hints()
    monkeypatch.setattr(live.messenger, "post", hints.post)
    return hints


@pytest.fixture(autouse=True)
def plain_toys() -> Iterator[None]:
    """Every toy step succeeds at once, until a test says otherwise."""
    yield
    workflows.BEHAVIOURS.clear()
    workflows.TOLD.clear()
