from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0013_cheaper_triggers"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="effect",
            name="effect_unknown",
        ),
        migrations.AddIndex(
            model_name="effect",
            index=models.Index(
                condition=models.Q(("status__in", ["intended", "unknown"])),
                fields=["workspace", "id"],
                name="effect_open",
            ),
        ),
    ]
