from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class PaymentsConfig(AppConfig):
    name = "payments"
    verbose_name = "Vouchers"

    def ready(self) -> None:
        # They register themselves.
        autodiscover_modules("workflows", "presentation")
