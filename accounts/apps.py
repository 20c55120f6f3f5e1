from typing import Any

from django.apps import AppConfig
from django.apps import apps as current_apps
from django.apps.registry import Apps
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "People and access"

    def ready(self) -> None:
        from accounts import audit
        from accounts.keyring import get_keyring

        audit.register_models()
        get_keyring()  # an unreadable key ring stops the process here, not at the first purchase
        post_migrate.connect(make_first_workspace, sender=self)


def make_first_workspace(*, apps: Apps = current_apps, using: str, **_: Any) -> None:
    from accounts.models import FIRST_WORKSPACE

    try:
        workspace = apps.get_model("accounts", "Workspace")
    except LookupError:
        return  # migrated back to before there were any
    # Nobody's act, so past `save()`, which would have it audited.
    workspace.objects.using(using).bulk_create(
        [workspace(pk=FIRST_WORKSPACE, name="Our team")], ignore_conflicts=True
    )
