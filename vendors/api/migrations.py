"""REST of migrations: begin one, see how far it is, take it back; and say what was ordered."""

from collections.abc import Mapping
from typing import Any

from rest_framework import status
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.api.permissions import IsAdmin
from accounts.models import User
from vendors import migration
from vendors.api import migrations_schema as schema
from vendors.api.migrations_serializers import NewMigrationSerializer
from vendors.api.views import described_accounts
from vendors.cart_lines import mark_ordered
from vendors.errors import MigrationRefused
from vendors.migration_undo import Undone, undo_migration
from vendors.models import AccountMigration, VendorAccount

# What is wrong with the request itself; the rest depends on how things stand.
MISTAKES = ("FOREIGN_ACCOUNT",)


class MigrateView(APIView):
    permission_classes = [IsAdmin]

    @schema.migrate_account
    def post(self, request: Request, pk: str) -> Response:
        account = get_object_or_404(described_accounts(), pk=pk)
        serializer = NewMigrationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        new = serializer.validated_data.get("new_account")
        assert isinstance(request.user, User)  # by IsAdmin
        try:
            begun = migration.start_migration(account.pk, new.pk if new else None, by=request.user)
        except MigrationRefused as error:
            is_mistake = error.code in MISTAKES
            conflict = status.HTTP_400_BAD_REQUEST if is_mistake else status.HTTP_409_CONFLICT
            raise Refusal(error.code, str(error), conflict) from error
        return Response(
            {
                "success": True,
                "migrated_items": len(begun.migrated_items),
                "migration_id": begun.pk,
            },
            headers={"Idempotent-Replayed": "true"} if begun.is_replay else None,
        )


class MigrationView(APIView):
    permission_classes = [IsAdmin]

    @schema.get_migration
    def get(self, request: Request, pk: str) -> Response:
        migrations = AccountMigration.objects.select_related("old_account", "new_account")
        found = get_object_or_404(migrations, pk=pk)
        moves = found.moves.select_related("line", "new_line").order_by("pk")
        return Response(
            migration.describe_migration(found)
            | {
                "moves": [
                    {
                        "queue_id": move.line.item_id,
                        "product_name": move.line.product_name,
                        "product_url": move.line.product_url,
                        "quantity": move.line.quantity,
                        "status": move.status,
                        "job_id": move.job_id,
                        "error_code": move.error_code or None,
                        "error_message": move.error_message or None,
                    }
                    for move in moves
                ]
            }
        )


class UndoMigrationView(APIView):
    permission_classes = [IsAdmin]

    @schema.undo_migration
    def post(self, request: Request, pk: str) -> Response:
        found = get_object_or_404(AccountMigration, pk=pk)
        assert isinstance(request.user, User)  # by IsAdmin
        return Response(describe_undone(undo_migration(found.pk, by=request.user)))


def describe_undone(undone: Undone) -> Mapping[str, Any]:
    return {
        "success": True,
        "migration_id": undone.migration.pk,
        "restored": undone.restored,
        "stopped": undone.stopped,
        "kept": [{"item": name, "reason": reason} for name, reason in undone.kept],
        "in_new_cart": undone.in_cart,
        "maybe_in_new_cart": undone.maybe_in_cart,
        "message": undone.describe_cart(),
    }


class OrderedView(APIView):
    permission_classes = [IsAdmin]

    @schema.mark_ordered
    def post(self, request: Request, pk: str) -> Response:
        account = get_object_or_404(described_accounts(), pk=pk)
        assert isinstance(request.user, User)  # by IsAdmin
        marked = mark_ordered(VendorAccount.objects.filter(pk=account.pk), by=request.user)
        return Response({"success": True, "marked": marked.done, "moving": marked.moving})
