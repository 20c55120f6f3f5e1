from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = "Jobs"

    def ready(self) -> None:
        from jobs import telemetry

        telemetry.check()
        # Parts of the room that are packages have their own admin.
        autodiscover_modules("otp.admin", "webhooks.admin", "flow_admin")
