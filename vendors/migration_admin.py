"""Migrations on the admin's pages: begun from an account, looked at, taken back. Both acts show
what they would do first."""

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from accounts.models import User
from jobs.admin import ReadOnly, shortened, status_badge, time_column
from vendors import pool
from vendors.cart_lines import Marked, mark_ordered
from vendors.errors import MigrationRefused
from vendors.migration import start_migration
from vendors.migration_plan import plan_options
from vendors.migration_undo import undo_migration
from vendors.models import (
    AccountMigration,
    AccountMigrationQuerySet,
    CartItem,
    CartMove,
    VendorAccount,
)

MOVE_COLOURS = {
    CartMove.Status.MOVED: "success",
    CartMove.Status.FAILED: "danger",
    CartMove.Status.PENDING: "info",
}
SHOWN = 10  # lines on the page that asks


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the admin lets nobody else in
    return request.user


def _posted(request: HttpRequest) -> list[tuple[str, str]]:
    """What the list posted, to be posted once more."""
    return [
        (name, value)
        for name in ("action", "select_across", helpers.ACTION_CHECKBOX_NAME)
        for value in request.POST.getlist(name)
    ]


class MigratesAccounts:
    """The actions of the accounts' list that are about what stands in their carts."""

    @admin.action(description="Move the selected account's cart to another", permissions=["change"])
    def migrate(
        self, request: HttpRequest, queryset: QuerySet[VendorAccount]
    ) -> HttpResponse | None:
        accounts = list(queryset.select_related("vendor").defer(*pool.SECRETS)[:2])
        if len(accounts) != 1:
            messages.error(request, "Select one account: each cart is moved by itself.")
            return None
        (account,) = accounts
        try:
            if chosen := request.POST.get("new_account"):
                new = get_object_or_404(VendorAccount, pk=chosen)
                return _begin(request, account, new)
            return _ask(request, account)
        except MigrationRefused as error:
            messages.error(request, str(error))
            return None

    @admin.action(
        description="Mark the selected accounts' carts as ordered", permissions=["change"]
    )
    def mark_ordered(self, request: HttpRequest, queryset: QuerySet[VendorAccount]) -> None:
        tell_marked(request, mark_ordered(queryset, by=_person(request)))


def tell_marked(request: HttpRequest, marked: Marked) -> None:
    messages.success(request, f"Lines marked as gone: {marked.done}.")
    if marked.moving:
        messages.warning(
            request,
            f"{marked.moving} are being moved to another account; undo that migration first.",
        )


def _begin(request: HttpRequest, account: VendorAccount, new: VendorAccount) -> HttpResponse:
    begun = start_migration(account.pk, new.pk, by=_person(request))
    said = f"{len(begun.migrated_items)} lines are being moved to {new}."
    messages.success(request, f"They are under way already: {said}" if begun.is_replay else said)
    return redirect("admin:vendors_accountmigration_change", begun.pk)


def _ask(request: HttpRequest, account: VendorAccount) -> HttpResponse:
    in_cart = CartItem.objects.in_cart().filter(vendor_account=account).order_by("pk")
    context = {
        **admin.site.each_context(request),
        "title": f"Move the cart of {account}",
        "account": account,
        "options": plan_options(account),
        "count": in_cart.count(),
        "first": in_cart[:SHOWN],
        "more": max(in_cart.count() - SHOWN, 0),
        "posted": _posted(request),
    }
    return render(request, "vendors/migrate.html", context)


class MoveInline(ReadOnly, TabularInline):
    model = CartMove
    fields = ["product", "state", "error_message", "job_page"]
    readonly_fields = fields
    hide_title = True
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[CartMove]:
        moves: QuerySet[CartMove] = super().get_queryset(request)
        return moves.select_related("line", "job")

    @display(description="Line")
    def product(self, move: CartMove) -> str:
        return shortened(move.line)

    @display(description="Status")
    def state(self, move: CartMove) -> str:
        return status_badge(move, MOVE_COLOURS)

    @display(description="Job")
    def job_page(self, move: CartMove) -> str:
        if move.job is None:
            return "In the archive"
        return format_html(
            '<a class="text-link" href="{}">{}</a>', move.job.get_absolute_url(), move.job
        )


@admin.register(AccountMigration)
class AccountMigrationAdmin(ReadOnly, ModelAdmin):
    list_display = ["accounts", "vendor", "counts", "by", time_column("migrated_at")]
    list_filter = ["old_account__vendor", "is_automatic"]
    search_fields = ["old_account__email", "new_account__email"]
    actions = ["undo"]
    inlines = [MoveInline]
    fields = [
        ("old_account", "new_account"),
        "counts",
        ("by", "migrated_at"),
        ("undone_by", "undone_at"),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccountMigration]:
        migrations: AccountMigrationQuerySet = super().get_queryset(request)
        related = migrations.with_counts().select_related("old_account__vendor", "new_account")
        return related.defer(
            "old_account__vendor__selectors",
            *(f"{side}_account__{name}" for side in ("old", "new") for name in pool.SECRETS),
        )

    @display(description="Migration")
    def accounts(self, migration: AccountMigration) -> str:
        return str(migration)

    @display(description="Vendor", ordering="old_account__vendor__name")
    def vendor(self, migration: AccountMigration) -> str:
        return migration.old_account.vendor.name

    @display(description="Lines")
    def counts(self, migration: AccountMigration) -> str:
        told = {
            "moved": migration.moved,
            "pending": migration.pending,
            "with a person": migration.failed,
            "undone": migration.undone,
        }
        return ", ".join(f"{count} {word}" for word, count in told.items() if count)

    @display(description="Begun by")
    def by(self, migration: AccountMigration) -> str:
        return (
            f"{migration.started_by}, by itself"
            if migration.is_automatic
            else (migration.started_by)
        )

    def has_undo_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("vendors.change_vendoraccount")

    @admin.action(description="Undo the selected migration", permissions=["undo"])
    def undo(
        self, request: HttpRequest, queryset: QuerySet[AccountMigration]
    ) -> HttpResponse | None:
        migrations = list(queryset[:2])
        if len(migrations) != 1:
            messages.error(request, "Select one migration to undo.")
            return None
        (migration,) = migrations
        if "confirmed" not in request.POST:
            context = {
                **admin.site.each_context(request),
                "title": f"Undo: {migration}",
                "migration": migration,
                "back": reverse("admin:vendors_accountmigration_changelist"),
                "posted": _posted(request),
            }
            return render(request, "vendors/undo_migration.html", context)
        undone = undo_migration(migration.pk, by=_person(request))
        messages.success(
            request,
            f"{undone.restored} lines are {migration.old_account}'s again, and {undone.stopped} "
            "are not moved any more.",
        )
        for name, reason in undone.kept[:SHOWN]:
            messages.warning(request, f"{name} stays: {reason}.")
        if undone.in_cart or undone.maybe_in_cart:
            messages.warning(request, undone.describe_cart())
        return None
