"""The cart queue: requests in, and what becomes of them, in step with their jobs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Avg, Case, F, Value, When
from django.db.models.functions import Coalesce, Now
from django.utils import timezone

from accounts.models import User
from automation.site import http_host
from jobs.keys import replace_key
from jobs.models import FINISHED, Job, Status
from jobs.plans import Change
from jobs.submit import submit_job
from vendors import pool
from vendors.errors import KeyReused, RequestRefused
from vendors.models import CartItem, QueueItem, Vendor

CART_ADD = "cart_add"  # the workflow's name
TYPICAL_TIME = timedelta(seconds=30)  # the PRD's target, until a vendor has history of its own
URL_MAX_LENGTH = 1000
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

    @property
    def digest(self) -> str:
        """Equal for requests that ask for the same."""
        asked = [
            str(self.vendor.pk),
            self.product_url,
            self.product_name,
            self.product_data,
            self.user_id,
            self.priority,
        ]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def enqueue(request: CartRequest) -> QueueItem:
    """Queues the request and submits its job, or hands it to a person if the vendor needs one.
    A key that was used before answers with its item as it is now, and queues nothing.

    Raises RequestRefused for a product that is not at the vendor, and KeyReused for a key that was
    used for something else; then nothing was queued.
    """
    _refuse_foreign_url(request.vendor, request.product_url)
    if request.idempotency_key is None:
        return _insert(request)
    if found := _find_same(request):
        return found
    try:
        with transaction.atomic():
            return _insert(request)
    except IntegrityError:
        # The same request at the same time: its insert waited for the other's commit.
        if found := _find_same(request):
            return found
        raise


def _find_same(request: CartRequest) -> QueueItem | None:
    found = QueueItem.objects.filter(
        created_by=request.requested_by, idempotency_key=request.idempotency_key
    ).first()
    if found is None:
        return None
    if found.request_hash != request.digest:
        raise KeyReused(found.pk)
    found.is_replay = True
    return found


def _insert(request: CartRequest) -> QueueItem:
    item = QueueItem(
        user_id=request.user_id,
        vendor=request.vendor,
        product_url=request.product_url,
        product_name=request.product_name,
        product_data=dict(request.product_data),
        created_by=request.requested_by,
        priority=request.priority,
        idempotency_key=request.idempotency_key,
        request_hash=request.digest if request.idempotency_key else "",
    )
    with transaction.atomic():
        if reason := request.vendor.why_manual():
            item.status = QueueItem.Status.MANUAL_REQUIRED
            item.error_message, item.error_code = reason, "manual_vendor"
        else:
            item.job = submit_job_of(item)
        item.save(force_insert=True)
    return item


def submit_job_of(item: QueueItem) -> Job:
    """The job that adds the item. Part of the transaction that gives it to the item."""
    return submit_job(
        CART_ADD,
        {"queue_item": str(item.pk), "vendor": str(item.vendor_id)},
        title=f"Add {item.quantity} × {item} to the cart at {item.vendor}",
        created_by=item.created_by,
        priority=item.priority,
    )


def _refuse_foreign_url(vendor: Vendor, url: str) -> None:
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
    newest = QueueItem.objects.filter(
        vendor_id=item.vendor_id, status=QueueItem.Status.COMPLETED
    ).order_by("-id")[:50]
    typical = newest.aggregate(time=Avg(F("completed_at") - F("created_at")))["time"]
    return timezone.now() + (typical or TYPICAL_TIME)


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
    if change.job_status == Status.PENDING:
        # Run again, it has no account: it is not held back by the limits of the one that it had.
        replace_key(change.job_id, pool.ACCOUNT, None, of=pool.ADD)
    if change.step_status == Status.WAITING and not change.error:
        transaction.on_commit(partial(pool.wake_if_possible, change.job_id))
    # A cancelled job's browser may be at work for a moment yet; its end is told as well.
    if change.job_status in FINISHED and change.step_status != Status.RUNNING:
        pool.release_account(change.job_id)
        pool.wake_waiting_on_commit(change.params["vendor"])


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
    # A job that was run again finds the line of its former run, and has added nothing.
    is_new = not CartItem.objects.filter(queue_item=item).exists()
    line = CartItem(
        user_id=item.user_id,
        vendor_account_id=output["account"],
        queue_item=item,
        product_url=item.product_url,
        product_name=item.product_name,
        quantity=output["quantity"],
    )
    CartItem.objects.bulk_create(
        [line],
        update_conflicts=True,
        unique_fields=["queue_item"],
        update_fields=["vendor_account", "product_name", "quantity"],
    )
    if is_new:
        pool.count_use(output["account"])
