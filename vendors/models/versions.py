"""Every state that a vendor's data was saved in: who saved it and when, to compare and restore."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from accounts.acting import who_acts

if TYPE_CHECKING:
    from vendors.models.registry import Vendor


class VendorVersion(models.Model):
    """A vendor's data as it was saved once. Versions count from 1 and are never changed; to
    restore one is to save its data again, as a version of its own."""

    vendor = models.ForeignKey("vendors.Vendor", on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    data = models.JSONField()
    saved_at = models.DateTimeField(db_default=Now(), editable=False)
    # The name stays though the user goes; empty: the system itself, or a program of its own.
    saved_by = models.CharField(max_length=150, blank=True)
    saved_by_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        db_table = "vendor_versions"
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["vendor", "number"], name="vendor_version_number")
        ]

    def __str__(self) -> str:
        return f"{self.vendor}, version {self.number}"

    def find_former(self) -> VendorVersion | None:
        return self.vendor.versions.filter(number=self.number - 1).first()

    @property
    def changed_keys(self) -> list[str]:
        """What this version changed of the one before, such as `selectors.add_to_cart`."""
        former = self.find_former()
        before, now = _flat(former.data if former else {}), _flat(self.data)
        return sorted(key for key in before.keys() | now if before.get(key) != now.get(key))

    def diff_to(self, other: dict[str, Any]) -> str:
        """Line by line, from `other` to this version; empty when they are the same."""
        return "\n".join(difflib.unified_diff(_lines(other), _lines(self.data), n=1, lineterm=""))


def keep_version(vendor: Vendor) -> None:
    """Part of the transaction that has saved the vendor, whose row it has locked by that. Nothing
    is kept of a save that changed nothing."""
    newest = vendor.versions.first()
    data = vendor.versioned_data()
    if newest is not None and newest.data == data:
        return
    acting = who_acts()
    VendorVersion.objects.create(
        vendor=vendor,
        number=newest.number + 1 if newest else 1,
        data=data,
        saved_by=acting.by,
        saved_by_user=acting.user,
    )


def _flat(data: dict[str, Any]) -> dict[str, Any]:
    selectors = data.get("selectors") or {}
    rest = {key: value for key, value in data.items() if key != "selectors"}
    return rest | {f"selectors.{key}": value for key, value in selectors.items()}


def _lines(data: dict[str, Any]) -> list[str]:
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
