"""Setting up cards, sites and log-ins over REST, for admins."""

from typing import Any, ClassVar

from django.db import IntegrityError, transaction
from django.db.models import Model, ProtectedError, QuerySet
from django.shortcuts import get_object_or_404
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.errors import Refusal
from accounts.api.permissions import IsAdmin
from payments.api import setup_schema as schema
from payments.api.setup_serializers import (
    CardSerializer,
    SetupSerializer,
    SiteAccountSerializer,
    SiteSerializer,
)
from payments.api.views import id_of, user_of
from payments.models import Card, PaymentSite, SiteAccount


class SetupView(APIView):
    """Rows of one kind. A subclass says of which, and documents its operations."""

    permission_classes = [IsAdmin]
    kind: ClassVar[type[SetupSerializer]]
    plural: ClassVar[str]
    taken: ClassVar[tuple[str, str]]  # code and sentence, where the row is there already
    in_use: ClassVar[tuple[str, str]]
    is_shared: ClassVar[bool] = False  # by all workspaces

    def rows(self, request: Request) -> QuerySet[Any]:
        raise NotImplementedError

    def list_rows(self, request: Request) -> Response:
        found = self.kind(self.rows(request), many=True)
        return Response({self.plural: found.data})

    def create_row(self, request: Request) -> Response:
        saved = self._save(self.kind(data=request.data), request)
        return Response(saved.data, status=status.HTTP_201_CREATED)

    def change_row(self, request: Request, pk: str) -> Response:
        row = self._find(request, pk)
        return Response(self._save(self.kind(row, data=request.data, partial=True), request).data)

    def delete_row(self, request: Request, pk: str) -> Response:
        row = self._find(request, pk)
        try:
            with transaction.atomic():
                row.delete()
        except ProtectedError as error:
            raise Refusal(*self.in_use, status.HTTP_409_CONFLICT) from error
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _find(self, request: Request, pk: str) -> Model:
        found: Model = get_object_or_404(self.rows(request), pk=id_of(pk))
        return found

    def _save(self, serializer: SetupSerializer, request: Request) -> SetupSerializer:
        serializer.is_valid(raise_exception=True)
        is_new = serializer.instance is None
        own = {"workspace_id": user_of(request).workspace_id}
        try:
            with transaction.atomic():
                serializer.save(**(own if is_new and not self.is_shared else {}))
        except IntegrityError as error:
            raise Refusal(*self.taken, status.HTTP_409_CONFLICT) from error
        return serializer


class SiteSetup(SetupView):
    kind, plural, is_shared = SiteSerializer, "sites", True
    taken = schema.SITE_TAKEN
    in_use = schema.SITE_IN_USE

    def rows(self, request: Request) -> QuerySet[PaymentSite]:
        return PaymentSite.objects.all()


class SitesView(SiteSetup):
    @schema.list_sites
    def get(self, request: Request) -> Response:
        return self.list_rows(request)

    @schema.create_site
    def post(self, request: Request) -> Response:
        return self.create_row(request)


class SiteView(SiteSetup):
    @schema.update_site
    def put(self, request: Request, pk: str) -> Response:
        return self.change_row(request, pk)

    @schema.delete_site
    def delete(self, request: Request, pk: str) -> Response:
        return self.delete_row(request, pk)


class AccountSetup(SetupView):
    kind, plural = SiteAccountSerializer, "accounts"
    taken = schema.ACCOUNT_TAKEN
    in_use = schema.ACCOUNT_IN_USE

    def rows(self, request: Request) -> QuerySet[SiteAccount]:
        accounts = SiteAccount.objects.filter(workspace=user_of(request).workspace_id)
        return accounts.defer("password")


class AccountsView(AccountSetup):
    @schema.list_accounts
    def get(self, request: Request) -> Response:
        return self.list_rows(request)

    @schema.create_account
    def post(self, request: Request) -> Response:
        return self.create_row(request)


class AccountView(AccountSetup):
    @schema.update_account
    def put(self, request: Request, pk: str) -> Response:
        return self.change_row(request, pk)

    @schema.delete_account
    def delete(self, request: Request, pk: str) -> Response:
        return self.delete_row(request, pk)


class CardSetup(SetupView):
    kind, plural = CardSerializer, "cards"
    taken = schema.CARD_TAKEN
    in_use = schema.CARD_IN_USE

    def rows(self, request: Request) -> QuerySet[Card]:
        cards = Card.objects.filter(workspace=user_of(request).workspace_id)
        return cards.defer("number", "expiry")


class CardsView(CardSetup):
    @schema.list_cards
    def get(self, request: Request) -> Response:
        return self.list_rows(request)

    @schema.create_card
    def post(self, request: Request) -> Response:
        return self.create_row(request)


class CardView(CardSetup):
    @schema.update_card
    def put(self, request: Request, pk: str) -> Response:
        return self.change_row(request, pk)

    @schema.delete_card
    def delete(self, request: Request, pk: str) -> Response:
        return self.delete_row(request, pk)
