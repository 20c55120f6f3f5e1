"""Migrations: cart records that move from a blocked account to its replacement. Written by
`vendors/migration.py` and by the jobs that carry the moves out."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Count, Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from accounts.models import Workspace
from jobs.models import Job
from jobs.models.transitions import only_transitions
from vendors.models.accounts import VendorAccount
from vendors.models.cart import CartItem


class AccountMigrationQuerySet(models.QuerySet["AccountMigration"]):
    def with_counts(self) -> AccountMigrationQuerySet:
        """Annotates how many of its lines stand where, by the names of the statuses."""
        counts: dict[str, Any] = {
            status: Count("moves", filter=Q(moves__status=status)) for status in CartMove.Status
        }
        return self.annotate(**counts)


class AccountMigration(models.Model):
    """Lines of one account's cart that are to stand in another's. Each is a move of its own."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    old_account = models.ForeignKey(
        VendorAccount, on_delete=models.PROTECT, related_name="migrations_away"
    )
    new_account = models.ForeignKey(
        VendorAccount, on_delete=models.PROTECT, related_name="migrations_here"
    )
    migrated_items = models.JSONField(
        help_text="The lines as they stood when it began: "
        '[{"id", "queue_id", "product_url", "product_name", "quantity", "added_at"}].'
    )
    migrated_at = models.DateTimeField(db_default=Now(), editable=False)
    # Who asked for it, and that it can be taken back, the PRD has no columns for.
    started_by = models.CharField(max_length=150)
    is_automatic = models.BooleanField(
        default=False, help_text="By the vendor's switch, not by a person."
    )
    undone_at = models.DateTimeField(null=True)
    undone_by = models.CharField(max_length=150, blank=True)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.PROTECT, related_name="+", help_text="Whose inbox is asked."
    )
    job = models.OneToOneField(
        Job,
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Bears its events, which webhooks are made from; archived after its time.",
    )

    objects = AccountMigrationQuerySet.as_manager()

    is_replay = False  # on what was under way when it was asked for again

    # Only where `with_counts` was asked for.
    pending: int
    moved: int
    failed: int
    undone: int

    class Meta:
        db_table = "account_migrations"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.old_account} to {self.new_account}"


class CartMove(models.Model):
    """One line's way into the new account's cart. Its job carries it out; until that has found it
    there, the old line is the active one."""

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        MOVED = "moved", "Moved"
        FAILED = "failed", "Failed: a person looks"
        UNDONE = "undone", "Undone"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    migration = models.ForeignKey(AccountMigration, on_delete=models.CASCADE, related_name="moves")
    line = models.ForeignKey(CartItem, on_delete=models.PROTECT, related_name="moves")
    new_line = models.OneToOneField(
        CartItem, null=True, on_delete=models.PROTECT, related_name="moved_by"
    )
    variant = models.JSONField(null=True, help_text="What the request has chosen.")
    status = models.CharField(max_length=16, choices=Status, default=Status.PENDING)
    error_code = models.CharField(max_length=50, blank=True)
    error_message = models.TextField(blank=True)
    job = models.OneToOneField(Job, null=True, on_delete=models.SET_NULL, related_name="cart_move")
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "cart_moves"
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["line"], condition=Q(status="pending"), name="cart_move_pending_once"
            ),
            models.UniqueConstraint(fields=["migration", "line"], name="cart_move_once"),
            models.CheckConstraint(
                condition=~Q(status="moved") | Q(new_line__isnull=False), name="cart_move_arrived"
            ),
        ]
        triggers = [
            only_transitions(
                "cart_move_status",
                [
                    ("pending", "moved"),
                    ("pending", "failed"),
                    ("pending", "undone"),
                    # A person has its job run again.
                    ("failed", "pending"),
                    ("failed", "undone"),
                    ("moved", "undone"),
                ],
            )
        ]

    def __str__(self) -> str:
        return f"{self.line} to {self.migration.new_account}"
