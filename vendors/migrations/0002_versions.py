import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

KEPT = (
    "name",
    "domain",
    "login_url",
    "cart_url",
    "selectors",
    "cart_scope",
    "login_required",
    "allow_private_network",
    "allowed_domains",
    "is_prioritized",
    "requires_captcha",
    "can_automate",
    "rate_limit_daily",
)


def keep_what_is_there(apps, schema_editor):
    """What the next save replaces can be restored, too."""
    version = apps.get_model("vendors", "VendorVersion")
    vendors = apps.get_model("vendors", "Vendor").objects.values("pk", *KEPT)
    for data in vendors.iterator():
        version.objects.create(vendor_id=data.pop("pk"), number=1, data=data)


class Migration(migrations.Migration):
    dependencies = [
        ("vendors", "0002_queue"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="VendorVersion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("data", models.JSONField()),
                (
                    "saved_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                ("saved_by", models.CharField(blank=True, max_length=150)),
                (
                    "saved_by_user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "vendor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="versions",
                        to="vendors.vendor",
                    ),
                ),
            ],
            options={
                "db_table": "vendor_versions",
                "ordering": ["-number"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("vendor", "number"), name="vendor_version_number"
                    )
                ],
            },
        ),
        migrations.RunPython(keep_what_is_there, migrations.RunPython.noop, elidable=True),
    ]
