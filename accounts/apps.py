from typing import Any

from django.apps import AppConfig
from django.apps import apps as current_apps
from django.apps.registry import Apps
from django.db.models.signals import post_migrate


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "People and access"

    def ready(self) -> None:
        from accounts.keyring import get_keyring

        get_keyring()  # an unreadable key ring stops the process here, not at the first purchase
        post_migrate.connect(make_first_workspace, sender=self)


def make_first_workspace(*, apps: Apps = current_apps, using: str, **_: Any) -> None:
    from accounts.models import FIRST_WORKSPACE

    try:
        workspaces = apps.get_model("accounts", "Workspace").objects.using(using)
    except LookupError:
        return  # migrated back to before there were any
    workspaces.get_or_create(pk=FIRST_WORKSPACE, defaults={"name": "Our team"})
