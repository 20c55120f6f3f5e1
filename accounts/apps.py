from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "People and access"

    def ready(self) -> None:
        from accounts.keyring import get_keyring

        get_keyring()  # an unreadable key ring stops the process here, not at the first purchase
