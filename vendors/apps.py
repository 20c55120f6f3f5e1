from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class VendorsConfig(AppConfig):
    name = "vendors"
    verbose_name = "Vendors"

    def ready(self) -> None:
        # They register themselves.
        from vendors import (  # noqa: F401
            check_workflow,
            health_metrics,
            health_sweep,
            migration_sweep,
            migration_workflow,
            queue_archive,
            workflows,
        )

        autodiscover_modules("erpnext.admin", "erpnext.sending")
