"""How queue items are shown: as rows of a live list, and as what a cart_add job is about."""

import uuid
from collections.abc import Iterable
from datetime import datetime, time
from typing import Any

from django.db.models import QuerySet
from django.urls import reverse

from jobs.listing import Listing, count_by_status, current_step, now_doing
from jobs.subjects import Fact, Subject, register_subject
from vendors.cart_queue import CART_ADD
from vendors.models import VENDORS_DAY, QueueItem, vendors_today

# Large, and secret or of no use here; a saved session alone is tens of kilobytes.
UNUSED = ("vendor__selectors", "assigned_account__password", "assigned_account__session_data")
UNUSED_OF_JOB = ("job__params", "job__result")


class QueueListing(Listing):
    name = "items"
    statuses = QueueItem.Status.choices

    def visible_to(self, user: Any) -> QuerySet[QueueItem]:
        return self._ready(QueueItem.objects.visible_to(user))

    def of_jobs(self, job_ids: Iterable[uuid.UUID]) -> QuerySet[QueueItem]:
        return self._ready(QueueItem.objects.filter(job__in=job_ids))

    def _ready(self, items: QuerySet[QueueItem]) -> QuerySet[QueueItem]:
        related = items.select_related("vendor", "assigned_account", "job")
        used = related.defer(*UNUSED, *UNUSED_OF_JOB)
        return used.annotate(step_now=current_step("job"))

    def row(self, instance: Any) -> dict[str, Any]:
        item: QueueItem = instance
        return {
            "id": item.pk,
            "product_name": item.product_name,
            "product_url": item.product_url,
            "quantity": item.quantity,
            "variant": item.product_data.get("variant"),
            "vendor_name": item.vendor.name,
            "status": item.status,
            "account_email": item.assigned_account.email if item.assigned_account else None,
            "attempts": item.attempts,
            "max_attempts": item.max_attempts,
            "error_message": item.error_message,
            "error_code": item.error_code,
            "created_at": item.created_at,
            "completed_at": item.completed_at,
            "job": item.job_id,
            "progress": item.job.progress if item.job else 0,
            **now_doing(instance.step_now),
            "url": page_of(item),
        }

    def stats(self) -> dict[str, int]:
        """Besides: what was completed, and what failed, since midnight in London."""
        midnight = datetime.combine(vendors_today(), time.min, VENDORS_DAY)
        counted = count_by_status(
            QueueItem,
            [status for status, _ in self.statuses],
            changed_at="updated_at",
            since=midnight,
        )
        return {
            **{status: count.total for status, count in counted.items()},
            "completed_today": counted[QueueItem.Status.COMPLETED].recent,
            "failed_today": counted[QueueItem.Status.FAILED].recent,
        }


def page_of(item: QueueItem) -> str:
    """Where to read on: its job; what never had one, in the admin."""
    if item.job_id:
        return reverse("jobs:detail", args=[item.job_id])
    return reverse("admin:vendors_queueitem_change", args=[item.pk])


# What to do about an item that ended with this code. Its sentence says what happened; this says
# where to put it right.
ADVICE = {
    "captcha": "Open the product at the shop and add it by hand, signed in as one of our accounts.",
    "manual_vendor": "Open the product at the shop and add it by hand.",
    "no_usable_account": "Unblock or add an account of this vendor, then send the request again.",
    "cart_out_of_reach": "Sign in by hand as that account, look into its cart, and say in the "
    "inbox whether the item is there. If it is not, another account adds it.",
    "account_blocked": "Sign in by hand to see what the shop wants, then unblock the account.",
    "wrong_credentials": "Correct the account's password here and unblock it.",
    "out_of_stock": "Order it elsewhere, or send the request again when the shop has it.",
    "option_unavailable": "Look at the product page for the options it has, and send one of those.",
    "quantity_refused": "Send the request again with a quantity that the shop takes.",
    "product_not_found": "Look the product up at the shop, and send its new address.",
    "address_refused": "Check the product's address. If the shop needs that host, allow it in the "
    "vendor's data.",
    "page_changed": "Correct the vendor's selectors by the screenshot, then send it again.",
    "unknown_outcome": "Look into the account's cart at the shop, and say in the inbox whether the "
    "item is there.",
    "cart_mismatch": "Look into the account's cart at the shop before sending the request again.",
}
ANY_FAILURE = "Look at the evidence below, and send the request again when the cause is gone."


def describe_cart_add(job_id: uuid.UUID) -> Subject | None:
    items = QueueItem.objects.select_related("vendor", "assigned_account", "created_by")
    item = items.defer(*UNUSED).filter(job=job_id).first()
    if item is None:
        return None
    vendor, account = item.vendor, item.assigned_account
    facts = [
        Fact("Product", str(item), item.product_url),
        Fact("Quantity", str(item.quantity)),
        Fact("Variant", str(item.product_data.get("variant") or "")),
        Fact("Vendor", vendor.name, reverse("admin:vendors_vendor_change", args=[vendor.pk])),
        Fact(
            "Account",
            account.email,
            reverse("admin:vendors_vendoraccount_change", args=[account.pk]),
        )
        if account
        else Fact("Account", ""),
        Fact("ERPNext item", str(item.product_data.get("erpnext_item_id") or "")),
        Fact("Requested by", item.created_by.get_username() if item.created_by else item.user_id),
        Fact("Queue item", str(item.pk), reverse("admin:vendors_queueitem_change", args=[item.pk])),
    ]
    return Subject([fact for fact in facts if fact.text], decide_advice(item))


def decide_advice(item: QueueItem) -> str:
    match item.status:
        case QueueItem.Status.FAILED | QueueItem.Status.MANUAL_REQUIRED:
            return ADVICE.get(item.error_code, ANY_FAILURE)
    return ""


register_subject(CART_ADD, describe_cart_add)
