"""The cart queue: requests in, and what becomes of them, in step with their jobs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from time import monotonic
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Avg, Case, F, Value, When
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from accounts.models import User
from automation.site import http_host
from jobs.combining import Combiner
from jobs.models import Job, Status
from jobs.plans import Change
from jobs.submit import NewJob, plan_jobs, submit_jobs
from vendors import pool, statements
from vendors.errors import KeyReused, RequestRefused
from vendors.models import CartItem, QueueItem, Vendor

CART_ADD = "cart_add"  # the workflow's name
TYPICAL_TIME = timedelta(seconds=30)  # the PRD's target, until a vendor has history of its own
TYPICAL_TIME_SECONDS = 10  # for so long what was counted is good enough
URL_MAX_LENGTH = 1000
ERPNEXT_KEY = "erpnext:"  # how the idempotency key of an ERPNext item begins, by whatever door
PENDING, MANUAL_REQUIRED = QueueItem.Status.PENDING, QueueItem.Status.MANUAL_REQUIRED
# The codes of what a person said of an item.
ROUTED, FAILED_BY_PERSON = "routed_by_person", "failed_by_person"


@dataclass(frozen=True)
class CartRequest:
    """A request to add a product to a vendor's cart, its parts checked one by one already."""

    vendor: Vendor
    product_url: str
    product_name: str | None = None
    product_data: Mapping[str, Any] = field(default_factory=dict)
    user_id: str = "system"
    requested_by: User | None = None
    priority: int = 0
    idempotency_key: str | None = None  # of this caller: the same key is the same item

    @cached_property
    def digest(self) -> str:
        """Equal for requests of a key that ask for the same. The key of an ERPNext item comes by
        several doors, which call the product and themselves differently: what is bought counts."""
        if self.idempotency_key is None:
            return ""
        bought = [str(self.vendor.pk), self.product_url]
        if self.idempotency_key.startswith(ERPNEXT_KEY):
            data = self.product_data
            asked = [*bought, data.get("quantity", 1), data.get("variant") or None]
        else:
            rest = [self.product_name, self.product_data, self.user_id, self.priority]
            asked = [*bought, *rest]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def enqueue(request: CartRequest) -> QueueItem:
    """Queues the request and submits its job, or hands it to a person if the vendor needs one.
    A key that was used before answers with its item as it is now, and queues nothing.

    Raises RequestRefused for a product that is not at the vendor, and KeyReused for a key that was
    used for something else; then nothing was queued.
    """
    if transaction.get_connection().in_atomic_block:
        (item,) = enqueue_all([request])
    else:
        check_product(request)  # before it meets others, who have nothing to do with it
        item = _together.call(request)
    if item.request_hash != request.digest:
        raise KeyReused(item.pk)
    return item


def enqueue_all(requests: Sequence[CartRequest]) -> list[QueueItem]:
    """The item of each request, in one statement: all are queued, or none. One whose key was used
    before `is_replay`; what was asked for then may be something else.

    Raises RequestRefused.
    """
    for request in requests:
        check_product(request)
    return _queue_all(requests)


def _queue_all(requests: Sequence[CartRequest]) -> list[QueueItem]:
    if not requests:
        return []
    items = [_item_of(request) for request in requests]
    automated = [item for item in items if item.status == PENDING]
    planned = plan_jobs(CART_ADD, [_new_job(item) for item in automated])
    for item, job in zip(automated, planned.jobs, strict=True):
        item.job = job
    # In the order of their keys: two statements with the same keys wait for each other in turn.
    in_order = sorted(items, key=lambda item: (item.created_by_id or 0, item.idempotency_key or ""))
    created = statements.queue_items(in_order, planned)
    planned.announce(
        {item.job_id: created[item.pk] for item in automated if item.job_id and item.pk in created}
    )
    return [_written(item, created) for item in items]


def _written(item: QueueItem, created: Mapping[UUID, datetime]) -> QueueItem:
    """The item as it stands in the queue now: as it was written, or as its key was used before."""
    if item.pk not in created:
        rows = QueueItem.objects.filter(created_by=item.created_by_id)
        found = rows.get(idempotency_key=item.idempotency_key)
        found.is_replay = True
        return found
    item.created_at = item.updated_at = created[item.pk]
    item._state.adding, item._state.db = False, DEFAULT_DB_ALIAS
    return item


def _item_of(request: CartRequest) -> QueueItem:
    reason = request.vendor.why_manual()
    return QueueItem(
        user_id=request.user_id,
        vendor=request.vendor,
        product_url=request.product_url,
        product_name=request.product_name,
        product_data=dict(request.product_data),
        status=MANUAL_REQUIRED if reason else PENDING,
        error_message=reason,
        error_code="manual_vendor" if reason else "",
        created_by=request.requested_by,
        priority=request.priority,
        idempotency_key=request.idempotency_key,
        request_hash=request.digest,
    )


# Requests that come at the same time, however they came, are queued by one statement.
_together = Combiner(_queue_all, most=32)


def submit_job_of(item: QueueItem) -> Job:
    """The job that adds the item. Part of the transaction that gives it to the item."""
    (job,) = submit_jobs(CART_ADD, [_new_job(item)])
    return job


def _new_job(item: QueueItem) -> NewJob:
    return NewJob(
        {"queue_item": str(item.pk), "vendor": str(item.vendor_id)},
        title=f"Add {item.quantity} × {item} to the cart at {item.vendor}",
        # One level: whoever waits for a while by the side of them comes to their turn.
        priority=item.priority + int(item.vendor.is_prioritized),
        created_by=item.created_by,
    )


def check_product(request: CartRequest) -> None:
    """Raises RequestRefused for a product that is not at the request's vendor."""
    vendor, url = request.vendor, request.product_url
    if len(url) > URL_MAX_LENGTH:
        raise RequestRefused(
            "URL_TOO_LONG",
            f"product_url has {len(url)} characters; at most {URL_MAX_LENGTH} can be kept. "
            "Leave out what follows the product's path.",
        )
    host = http_host(url)
    if host is None or "\\" in url:  # browsers read \ as /, so the host would be another one
        raise RequestRefused(
            "INVALID_PRODUCT_URL",
            "product_url must be a full http or https address, such as "
            f"https://{vendor.domain}/product/123.",
        )
    if not vendor.site().contains(url):
        raise RequestRefused(
            "FOREIGN_PRODUCT_URL",
            f"product_url is on {host}, but {vendor.name} is {vendor.domain}. "
            "Send the product's address at this vendor, or another vendor_id.",
        )


def estimate_completion(item: QueueItem) -> datetime:
    """When the item will probably be done: as long as the vendor's newest items took."""
    return timezone.now() + _typical_time(item.vendor_id)


def _typical_time(vendor_id: UUID) -> timedelta:
    """Counted anew every few seconds: it is an estimate, and asked for with each request."""
    known = _typical_times.get(vendor_id)
    if known is None or monotonic() > known[0] + TYPICAL_TIME_SECONDS:
        known = _typical_times[vendor_id] = (monotonic(), _count_typical_time(vendor_id))
    return known[1]


_typical_times: dict[UUID, tuple[float, timedelta]] = {}


def _count_typical_time(vendor_id: UUID) -> timedelta:
    completed = QueueItem.objects.filter(vendor=vendor_id, status=QueueItem.Status.COMPLETED)
    time = Avg(F("completed_at") - F("created_at"))
    taken: timedelta | None = completed.order_by("-id")[:50].aggregate(time=time)["time"]
    return taken or TYPICAL_TIME


def follow_job(change: Change) -> None:
    """Keeps the item in step with its job; runs in the transaction of each of the job's changes."""
    items = QueueItem.objects.filter(job_id=change.job_id)
    if change.job_status == Status.CANCELLED:
        items = items.exclude(status=QueueItem.Status.COMPLETED)  # by hand
    fields: dict[str, Any] = {
        "status": decide_status(change.job_status, change.step_status),
        "updated_at": Now(),
    }
    if change.job_status == Status.CANCELLED:
        # What a person said of it stands: its last step may only stop now.
        routed = When(error_code=ROUTED, then=Value(QueueItem.Status.MANUAL_REQUIRED))
        fields["status"] = Case(routed, default=Value(fields["status"]))
    if change.step_name == pool.ADD:
        fields["attempts"] = change.attempt
    if change.step_status == Status.READY and change.attempt == 0:
        # From its start, or once more from there: what was is no longer so.
        fields |= {"error_message": None, "error_code": "", "completed_at": None}
    if change.error:
        fields |= {"error_message": change.error["message"], "error_code": change.error["code"]}
    if change.step_name == pool.RESERVE and change.output:
        fields["assigned_account"] = change.output["account"]
    if change.job_status == Status.COMPLETED and change.output:
        fields |= {"completed_at": Now(), "error_message": None, "error_code": ""}
        fields["assigned_account"] = change.output["account"]
        # The cart knows the name of what was asked for by its address alone.
        fields["product_name"] = Coalesce(
            "product_name", Value(change.output["line"]["name"][:500])
        )
    items.update(**fields)
    if change.job_status == Status.COMPLETED and change.output:
        _record_cart_item(items.get(), change.output)
    pool.follow_job(change)


def decide_status(job: Status, step: Status) -> QueueItem.Status:
    """The PRD's word for where a job and its step stand. What waits for its next attempt is
    pending again: nobody works on it."""
    match job:
        case Status.COMPLETED:
            return QueueItem.Status.COMPLETED
        case Status.MANUAL:
            return QueueItem.Status.MANUAL_REQUIRED
        case Status.FAILED | Status.CANCELLED:
            return QueueItem.Status.FAILED
    if step in (Status.WAITING, Status.READY):
        return QueueItem.Status.PENDING
    return QueueItem.Status.PROCESSING


def _record_cart_item(item: QueueItem, output: Mapping[str, Any]) -> None:
    lines = CartItem.objects.filter(item_id=item.pk)
    if found := lines.active().first():
        # A job that was run again has added nothing. Its line may be another account's by now.
        QueueItem.objects.filter(pk=item.pk).update(assigned_account=found.vendor_account_id)
        return
    CartItem.objects.create(
        user_id=item.user_id,
        vendor_account_id=output["account"],
        queue_item=item,
        item_id=item.pk,
        product_url=item.product_url,
        product_name=item.product_name,
        quantity=output["quantity"],
    )
    pool.count_use(output["account"])
