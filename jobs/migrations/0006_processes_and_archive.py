import django.contrib.postgres.fields
import django.core.serializers.json
import django.db.models.functions.datetime
import uuid_utils.compat
from django.db import migrations, models

# Steps and jobs are updated several times and then never again. With room left in each page (the
# default leaves none) an update leaves fewer dead rows behind and moves less often to another page:
# of steps a quarter to two fifths fewer, and a tenth to two fifths less often, measured in two runs
# of 400 jobs of 5 steps that report their progress, for a table that is a third larger. The share
# of updates that spare the indexes is the same, 57 % of steps and 88 % of jobs.
#
# Vacuum by default waits until a fifth of a table is dead: 200,000 rows where a million finished
# steps are kept, and those that were ready are in the index that each claim reads first. Events are
# only ever added, and deleted by the archive. Vacuum's numbers follow from that; what they cost or
# spare was not measured.
STORAGE = """
ALTER TABLE jobs_step SET (
    fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE jobs_job SET (
    fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE jobs_event SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05);
"""
DEFAULTS = """
ALTER TABLE jobs_step RESET (
    fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
    autovacuum_analyze_scale_factor);
ALTER TABLE jobs_job RESET (
    fillfactor, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
    autovacuum_analyze_scale_factor);
ALTER TABLE jobs_event RESET (
    autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor,
    autovacuum_analyze_scale_factor);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0005_control"),
    ]

    operations = [
        migrations.CreateModel(
            name="ArchivedJob",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        editable=False, help_text="The job's.", primary_key=True, serialize=False
                    ),
                ),
                ("workspace_id", models.UUIDField()),
                ("workflow", models.CharField(max_length=100)),
                ("title", models.CharField(max_length=300)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("running", "Running"),
                            ("waiting", "Waiting"),
                            ("completed", "Completed"),
                            ("failed", "Failed"),
                            ("manual", "With a person"),
                            ("cancelled", "Cancelled"),
                        ],
                        max_length=16,
                    ),
                ),
                ("created_by", models.CharField(blank=True, max_length=150)),
                ("created_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField()),
                (
                    "archived_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "snapshot",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder,
                        help_text="The job, its parameters, its steps and its subject.",
                    ),
                ),
                (
                    "timeline",
                    models.JSONField(
                        encoder=django.core.serializers.json.DjangoJSONEncoder,
                        help_text="All of its events.",
                    ),
                ),
            ],
            options={"verbose_name": "archived job", "ordering": ["-id"]},
        ),
        migrations.CreateModel(
            name="ArchiveRun",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("jobs", models.PositiveIntegerField(default=0, help_text="Moved to the archive.")),
                (
                    "artifacts",
                    models.PositiveIntegerField(
                        default=0, help_text="Deleted, their files as well."
                    ),
                ),
                (
                    "started_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "reached_at",
                    models.DateTimeField(
                        help_text="The last job that was looked at had finished then.", null=True
                    ),
                ),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={"ordering": ["-day"]},
        ),
        migrations.CreateModel(
            name="Metric",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=100)),
                ("labels", models.JSONField(default=dict)),
                ("value", models.FloatField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Process",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("worker", "Worker"), ("scheduler", "Scheduler")], max_length=16
                    ),
                ),
                ("name", models.CharField(help_text="Host and process number.", max_length=100)),
                (
                    "queues",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=100),
                        blank=True,
                        default=list,
                        size=None,
                    ),
                ),
                (
                    "running",
                    models.PositiveIntegerField(default=0, help_text="Steps that it was running."),
                ),
                (
                    "started_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "beat_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(),
                        help_text="When it was last alive.",
                    ),
                ),
            ],
            options={"verbose_name_plural": "processes", "ordering": ["kind", "name"]},
        ),
        migrations.AddConstraint(
            model_name="metric",
            constraint=models.UniqueConstraint(fields=("name", "labels"), name="metric_series"),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(fields=["workflow", "id"], name="job_workflow_id"),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                fields=["finished_at"],
                condition=models.Q(("finished_at__isnull", False)),
                name="job_finished",
            ),
        ),
        migrations.RunSQL(STORAGE, DEFAULTS),
    ]
