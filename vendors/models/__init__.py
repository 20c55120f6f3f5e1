"""The PRD's tables (section 7), under its names. Columns that it does not have say why."""

from vendors.models.accounts import (
    VENDORS_DAY,
    AccountUsage,
    VendorAccount,
    VendorAccountQuerySet,
    vendors_today,
)
from vendors.models.cart import CartItem, QueueItem
from vendors.models.registry import Vendor, VendorQuerySet

__all__ = [
    "VENDORS_DAY",
    "AccountUsage",
    "CartItem",
    "QueueItem",
    "Vendor",
    "VendorAccount",
    "VendorAccountQuerySet",
    "VendorQuerySet",
    "vendors_today",
]
