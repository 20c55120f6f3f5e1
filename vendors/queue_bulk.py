"""The same for many queue items: which ones a filter means, and then one after another.

Each item is its own transaction, by the verbs of `queue_control.py`: whoever stops in the middle
has done what was done, and doing it again goes on with the rest.
"""

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import QuerySet

from jobs.bulk import Applied, apply_each, check_status
from jobs.errors import InvalidFilter
from vendors import queue_control
from vendors.models import QueueItem


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
        check_status(action, self.status, POSSIBLE[action], noun="item")
        conditions: dict[str, Any] = {
            "pk__in": self.ids,
            "vendor": self.vendor_id,
            "error_code": self.error_code,
            "created_at__gte": self.date_from,
            "created_at__lt": self.date_to,
        }
        items = QueueItem.objects.filter(status__in=self.status or MEANT[action])
        return items.filter(**{name: value for name, value in conditions.items() if value})


def apply(
    action: Action,
    items: QuerySet[QueueItem],
    *,
    by: str,
    reason: str = "",
    after: uuid.UUID | None = None,
    most: int | None = None,
) -> Applied:
    """As `jobs.bulk.apply_each`."""
    verb = _verb(action, by, reason)
    gone = "It has been archived."
    return apply_each(items, verb, title="product_name", gone=gone, after=after, most=most)


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
