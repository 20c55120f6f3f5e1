"""Queue items as they stand after their jobs, without running any."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from vendors.models import QueueItem, Vendor


def ended(
    vendor: Vendor, status: str, count: int = 1, *, code: str = "", ago=timedelta(0), took=10.0
) -> list[QueueItem]:
    """Items that ended so long ago, each after so many seconds."""
    at = timezone.now() - ago
    fields: dict[str, Any] = {"completed_at": at} if status == "completed" else {}
    items = [
        QueueItem(
            vendor=vendor,
            product_url=f"https://{vendor.domain}/product/1",
            status=status,
            error_code=code,
            created_at=at - timedelta(seconds=took),
            updated_at=at,
            **fields,
        )
        for _ in range(count)
    ]
    return QueueItem.objects.bulk_create(items)


def waiting(vendor: Vendor, *, status: str = "pending", age: timedelta) -> QueueItem:
    return QueueItem.objects.create(
        vendor=vendor,
        product_url=f"https://{vendor.domain}/product/1",
        status=status,
        created_at=timezone.now() - age,
    )
