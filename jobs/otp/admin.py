"""Where messages come from and how they are read, to be edited; what came in, to be looked at."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordToggleWidget

from jobs.models import InboundMessage, InboundSource, OtpRule


class InboundSourceForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    new_secret = forms.CharField(
        label="Secret",
        required=False,
        widget=UnfoldAdminPasswordToggleWidget({"autocomplete": "new-password"}),
        help_text="The signing key of SMS Gateway, or Twilio's auth token. It is never shown; "
        "leave it empty to keep the one that is there.",
    )

    class Meta:
        model = InboundSource
        fields = ("name", "kind", "phone_number", "is_active")

    def save(self, commit: bool = True) -> InboundSource:
        if secret := self.cleaned_data["new_secret"]:
            self.instance.secret = secret
        source: InboundSource = super().save(commit=commit)
        return source


@admin.register(InboundSource)
class InboundSourceAdmin(ModelAdmin):
    form = InboundSourceForm
    list_display = ["name", "kind", "phone_number", "is_active"]
    fields = ["name", "kind", "phone_number", "new_secret", "is_active", "address"]
    readonly_fields = ["address"]

    @display(description="Address for its messages")
    def address(self, source: InboundSource) -> str:
        if source._state.adding:
            return "Save it first; its address is shown then."
        return f"{settings.PUBLIC_URL.geturl().rstrip('/')}/api/otp/inbound?source={source.pk}"

    def save_model(self, request: HttpRequest, obj: InboundSource, form: Any, change: bool) -> None:
        if not change:
            obj.workspace_id = request.user.workspace_id  # type: ignore[union-attr]
        super().save_model(request, obj, form, change)


@admin.register(OtpRule)
class OtpRuleAdmin(ModelAdmin):
    list_display = ["service", "sender", "pattern", "origin"]
    fields = ["service", "sender", "pattern", "origin"]
    search_fields = ["service", "sender"]

    def save_model(self, request: HttpRequest, obj: OtpRule, form: Any, change: bool) -> None:
        if not change:
            obj.workspace_id = request.user.workspace_id  # type: ignore[union-attr]
        super().save_model(request, obj, form, change)


@admin.register(InboundMessage)
class InboundMessageAdmin(ModelAdmin):
    """Neither text nor code: a page would show what is secret."""

    list_display = ["received_at", "sender", "recipient", "service", "status", "given_to"]
    list_filter = ["status"]
    fields = [
        *("received_at", "sent_at", "source", "sender", "recipient", "service", "context"),
        *("status", "reason", "given_to"),
    ]
    readonly_fields = fields
    list_select_related = ["given_to"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
