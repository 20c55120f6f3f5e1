"""ERPNext sites that ask us for products, and the rows of their documents that did. Written by
`vendors/erpnext/` and the admin.

A line is also what its site is told: its row is the whole state of that, as with webhooks.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.audit import Audited
from accounts.fields import SealedTextField
from accounts.models import Workspace
from jobs.models.sending import SentRow
from jobs.models.transitions import only_transitions
from jobs.webhooks.addresses import check_url
from jobs.webhooks.errors import InvalidUrl
from vendors.models.cart import QueueItem

LONGEST_NAME = 140  # Frappe's, of a document

# What we need to know: by which key of the webhook's body it is found. A row's own value comes
# before the document's.
BODY_KEYS = {
    "document": "name",
    "rows": "items",
    "row": "name",
    "vendor": "vendor",
    "product_url": "product_url",
    "product_name": "item_name",
    "quantity": "qty",
    "variant": "variant",
    "price": "rate",
    "item_code": "item_code",
}
# What we can tell: to which field of the document it is written.
TOLD_FIELDS = ("status", "message", "queue_id", "vendor")


def default_body_keys() -> dict[str, str]:
    return dict(BODY_KEYS)


def default_told_fields() -> dict[str, str]:
    return {"status": "custom_cart_status", "message": "custom_cart_message"}


class ErpnextConnection(Audited):
    class Target(models.TextChoices):
        ROW = "row", "The row, by its name"
        DOCUMENT = "document", "The whole document, by its name"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.CASCADE, related_name="+", editable=False
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="In whose name its requests are queued, and so in whose workspace.",
    )
    name = models.CharField(max_length=100, help_text="As people call the site.")
    site_url = models.CharField(max_length=500, help_text="Such as https://erp.example.")
    is_local = models.BooleanField(
        default=False,
        help_text="The site is on our own network: http and private addresses are allowed.",
    )
    is_active = models.BooleanField(default=True, help_text="Else nothing is taken or told.")
    webhook_secret = SealedTextField()
    body_keys = models.JSONField(
        default=default_body_keys,
        help_text="By which key of the webhook's body each thing is found.",
    )
    sends_updates = models.BooleanField(
        default=False, help_text="Write the status back into the document, over the REST API."
    )
    api_key = SealedTextField(null=True)
    api_secret = SealedTextField(null=True)
    update_target = models.CharField(max_length=16, choices=Target, default=Target.ROW)
    update_doctype = models.CharField(
        max_length=LONGEST_NAME,
        default="Material Request Item",
        help_text="The DocType of what is updated: of the row, or of the document.",
    )
    told_fields = models.JSONField(
        default=default_told_fields,
        help_text=f"What is told ({', '.join(TOLD_FIELDS)}): the field it is written to.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "erpnext_connections"
        verbose_name = "ERPNext connection"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raises ValidationError by field."""
        problems: dict[str, str] = {}
        try:
            check_url(self.site_url, allow_private=self.is_local)
        except InvalidUrl as error:
            problems["site_url"] = f"{error} A site of our own network must be marked as local."
        if sentence := _why_wrong(self.body_keys, BODY_KEYS):
            problems["body_keys"] = sentence
        if sentence := _why_wrong(self.told_fields, TOLD_FIELDS):
            problems["told_fields"] = sentence
        if problems:
            raise ValidationError(problems)

    def body_key(self, what: str) -> str:
        """What is not in the mapping is where it is by default."""
        return str(self.body_keys.get(what) or BODY_KEYS[what])


def _why_wrong(mapping: Any, known: Any) -> str | None:
    example = '{"' + next(iter(known)) + '": "..."}'
    if not isinstance(mapping, dict):
        return f"Write an object, such as {example}."
    if unknown := sorted(set(mapping) - set(known)):
        return f"{unknown[0]} is not known; use {', '.join(known)}."
    if not all(isinstance(value, str) and value for value in mapping.values()):
        return f"Every value must be the name of a field, as in {example}."
    return None


class ErpnextLine(SentRow):
    """A row of a document that asked for a product: once, however often the webhook comes."""

    class Status(models.TextChoices):
        NONE = "none", "Nothing to tell"
        PENDING = "pending", "Pending"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    connection = models.ForeignKey(
        ErpnextConnection, on_delete=models.CASCADE, related_name="lines", db_index=False
    )
    document = models.CharField(max_length=LONGEST_NAME)
    row = models.CharField(
        max_length=LONGEST_NAME, blank=True, help_text="Empty where the document is the request."
    )
    # Null when the item is archived: the document is still known to have asked.
    queue_item = models.ForeignKey(
        QueueItem, null=True, on_delete=models.SET_NULL, related_name="erpnext_lines"
    )
    asked = models.JSONField(help_text="The request, as it was first mapped.")

    status = models.CharField(max_length=16, choices=Status, default=Status.NONE)
    version = models.PositiveIntegerField(
        default=0, help_text="Rises with every change: what was told may be old by now."
    )
    told = models.JSONField(null=True, help_text="What the site has taken last.")
    attempts_before = models.PositiveIntegerField(
        default=0, help_text="Those before it last changed: the schedule counts from there."
    )

    class Meta:
        db_table = "erpnext_lines"
        verbose_name = "ERPNext line"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["connection", "document", "row"], name="erpnext_line_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["connection", "due_at"],
                condition=models.Q(status="pending"),
                name="erpnext_line_due",
            ),
        ]
        triggers = [
            only_transitions(
                "erpnext_line_status",
                [
                    ("none", "pending"),
                    ("pending", "delivered"),
                    ("pending", "failed"),
                    # It changed again, or a person has it sent anew.
                    ("delivered", "pending"),
                    ("failed", "pending"),
                ],
            )
        ]

    def __str__(self) -> str:
        return f"{self.document} {self.row}".strip()

    @property
    def name_in_site(self) -> str:
        """Of what is updated there."""
        is_row = self.connection.update_target == ErpnextConnection.Target.ROW
        return self.row if is_row and self.row else self.document
