"""The same for many queue items: which ones a filter means, and then one after another.

Each item is its own transaction, by the verbs of `queue_control.py`: whoever stops in the middle
has done what was done, and doing it again goes on with the rest.
"""

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import QuerySet

from vendors import queue_control
from vendors.errors import InvalidFilter, NotPossible
from vendors.models import QueueItem

BATCH = 200
MOST_NAMED = 20  # of those that were skipped; the rest is a number


class Action(StrEnum):
    RETRY = "retry"
    CANCEL = "cancel"
    MANUAL = "manual"
    COMPLETE = "complete"
    FAIL = "fail"


# Which items an action is for when the filter names no status, and which it may name.
MEANT: Mapping[Action, frozenset[QueueItem.Status]] = {
    Action.RETRY: frozenset({QueueItem.Status.FAILED}),
    Action.CANCEL: queue_control.CANCELLED,
    Action.MANUAL: frozenset({QueueItem.Status.PENDING}),
    Action.COMPLETE: queue_control.SETTLED_FROM,
    Action.FAIL: queue_control.SETTLED_FROM,
}
# What a person works on is retried, and what failed is routed, only where somebody asks for that.
POSSIBLE = {
    **MEANT,
    Action.RETRY: queue_control.RETRIED,
    Action.MANUAL: queue_control.ROUTED_FROM,
}


@dataclass(frozen=True)
class ItemFilter:
    """Which items are meant: those for which all of it holds. Empty, it means none."""

    ids: Collection[uuid.UUID] = ()
    status: Collection[str] = ()
    vendor_id: uuid.UUID | None = None
    error_code: str = ""
    date_from: datetime | None = None
    date_to: datetime | None = None

    @property
    def is_empty(self) -> bool:
        return not any(getattr(self, each.name) for each in fields(self))

    def items(self, action: Action) -> QuerySet[QueueItem]:
        """The items that the action is for. Raises InvalidFilter."""
        if self.is_empty:
            raise InvalidFilter("Say which items: an empty filter means none.")
        if wrong := set(self.status) - POSSIBLE[action]:
            able = ", ".join(sorted(POSSIBLE[action]))
            raise InvalidFilter(
                f"Items that are {', '.join(sorted(wrong))} cannot be named here: "
                f"{action} is for items that are {able}."
            )
        conditions: dict[str, Any] = {
            "pk__in": self.ids,
            "vendor": self.vendor_id,
            "error_code": self.error_code,
            "created_at__gte": self.date_from,
            "created_at__lt": self.date_to,
        }
        items = QueueItem.objects.filter(status__in=self.status or MEANT[action])
        return items.filter(**{name: value for name, value in conditions.items() if value})


@dataclass(frozen=True)
class Skipped:
    item_id: uuid.UUID
    sentence: str


@dataclass
class Applied:
    """What became of it. `last`: the item it came to; None once there is none left."""

    done: int = 0
    skipped: int = 0
    examples: list[Skipped] = field(default_factory=list)
    last: uuid.UUID | None = None


def apply(
    action: Action,
    items: QuerySet[QueueItem],
    *,
    by: str,
    reason: str = "",
    after: uuid.UUID | None = None,
    most: int | None = None,
) -> Applied:
    """Does it to each of the `items`, oldest first, from the one after `after` and to `most`.

    What cannot be done with an item, which may have changed since it was looked up, is skipped and
    said. Items that come meanwhile are left alone. Safe to repeat.
    """
    applied = Applied()
    verb = _verb(action, by, reason)
    for item_id in _one_by_one(items, after):
        if applied.done + applied.skipped == most:
            return applied
        applied.last = item_id
        try:
            verb(item_id)
            applied.done += 1
        except QueueItem.DoesNotExist:
            _skip(applied, item_id, "It has been archived.")
        except NotPossible as error:
            _skip(applied, item_id, str(error))
    applied.last = None
    return applied


def _verb(action: Action, by: str, reason: str) -> Callable[[uuid.UUID], QueueItem]:
    match action:
        case Action.RETRY:
            return lambda item_id: queue_control.retry_item(item_id, by=by)
        case Action.CANCEL:
            return lambda item_id: queue_control.cancel_item(item_id, by=by, reason=reason)
        case Action.MANUAL:
            return lambda item_id: queue_control.route_to_manual(item_id, by=by, reason=reason)
        case Action.COMPLETE:
            return lambda item_id: queue_control.complete_by_hand(item_id, by=by, reason=reason)
        case Action.FAIL:
            return lambda item_id: queue_control.fail_by_hand(item_id, by=by, reason=reason)


def _one_by_one(items: QuerySet[QueueItem], after: uuid.UUID | None) -> Iterator[uuid.UUID]:
    """Each item once, though it may fit the filter again as soon as it was dealt with."""
    newest = items.order_by("-pk").values_list("pk", flat=True).first()
    while newest is not None:
        rows = items.filter(pk__lte=newest).order_by("pk")
        page = rows.filter(pk__gt=after) if after else rows
        batch = list(page.values_list("pk", flat=True)[:BATCH])
        yield from batch
        if len(batch) < BATCH:
            return
        after = batch[-1]


def _skip(applied: Applied, item_id: uuid.UUID, sentence: str) -> None:
    applied.skipped += 1
    if len(applied.examples) < MOST_NAMED:
        applied.examples.append(Skipped(item_id, sentence))
