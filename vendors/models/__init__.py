"""The PRD's tables (section 7), under its names. Columns that it does not have say why."""

from vendors.models.accounts import (
    VENDORS_DAY,
    AccountUsage,
    VendorAccount,
    VendorAccountQuerySet,
    vendors_today,
)
from vendors.models.alerts import Alert
from vendors.models.cart import CartItem, QueueItem
from vendors.models.erpnext import ErpnextConnection, ErpnextLine
from vendors.models.migrations import AccountMigration, AccountMigrationQuerySet, CartMove
from vendors.models.queue import ArchivedQueueItem
from vendors.models.registry import Vendor, VendorQuerySet
from vendors.models.versions import VendorVersion

__all__ = [
    "VENDORS_DAY",
    "AccountMigration",
    "AccountMigrationQuerySet",
    "AccountUsage",
    "Alert",
    "ArchivedQueueItem",
    "CartItem",
    "CartMove",
    "ErpnextConnection",
    "ErpnextLine",
    "QueueItem",
    "Vendor",
    "VendorAccount",
    "VendorAccountQuerySet",
    "VendorQuerySet",
    "VendorVersion",
    "vendors_today",
]
