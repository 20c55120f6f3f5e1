from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import audit_admin  # noqa: F401  registers its page
from accounts.models import ApiKey, User, Workspace

admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    fieldsets = (*(DjangoUserAdmin.fieldsets or ()), ("Team", {"fields": ["workspace"]}))
    list_filter = (*DjangoUserAdmin.list_filter, "workspace")


@admin.register(Workspace)
class WorkspaceAdmin(ModelAdmin):
    list_display = ["name", "created_at"]
    search_fields = ["name"]


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    list_display = ["name", "key", "user", "created_at", "last_used_at", "revoked_at"]
    search_fields = ["name", "key", "user__username"]
    fields = ["name", "user", "key", "created_at", "last_used_at", "revoked_at"]
    readonly_fields = ["key", "created_at", "last_used_at", "revoked_at"]
    actions = ["revoke"]

    def save_model(self, request: HttpRequest, obj: ApiKey, form: object, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        issued, secret = ApiKey.issue(obj.user, obj.name)
        obj.__dict__.update(issued.__dict__)
        self.message_user(
            request,
            f"Authorization: token {issued.key}:{secret} — copy it now, it is not shown again.",
            messages.WARNING,
        )

    @admin.action(description="Revoke the selected keys")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        count = ApiKey.revoke(queryset)
        self.message_user(request, f"{count} API keys revoked.")
