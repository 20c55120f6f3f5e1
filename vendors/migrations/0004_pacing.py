import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("vendors", "0003_migrations"),
    ]

    operations = [
        migrations.AddField(
            model_name="vendor",
            name="seconds_between_adds",
            field=models.PositiveIntegerField(
                db_default=0,
                default=0,
                help_text="For so long an account is left alone after an add.",
                validators=[django.core.validators.MaxValueValidator(86400)],
            ),
        ),
        migrations.AddField(
            model_name="vendoraccount",
            name="rate_limit_daily",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Most items it adds in a day. Empty: as many as its vendor says.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="vendoraccount",
            name="released_at",
            field=models.DateTimeField(
                editable=False,
                help_text="When a job last gave it back: the pacing's beginning.",
                null=True,
            ),
        ),
    ]
