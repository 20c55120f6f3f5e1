import django.contrib.postgres.fields
import django.core.validators
import django.db.models.functions.datetime
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

# Steps of jobs that were submitted before: what their plan would say of their workflow now.
KEYS_OF_UNFINISHED_STEPS = """
UPDATE jobs_step SET flow_keys = ARRAY['workflow:' || jobs_job.workflow]
FROM jobs_job
WHERE jobs_job.id = jobs_step.job_id
    AND jobs_step.status IN ('pending', 'ready', 'running', 'waiting')
"""


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0006_processes_and_archive"),
    ]

    operations = [
        migrations.CreateModel(
            name="FlowLimit",
            fields=[
                (
                    "key",
                    models.CharField(
                        help_text="workflow:NAME, vendor:ID or account:ID.",
                        max_length=200,
                        primary_key=True,
                        serialize=False,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z_]+:[^\\s/]+\\Z",
                                'A flow key is a kind and a name, such as "workflow:cart_add".',
                            )
                        ],
                    ),
                ),
                (
                    "concurrency",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="At most so many of its steps run at once.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                    ),
                ),
                (
                    "rate",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="At most so many of its steps start in each period.",
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000),
                        ],
                    ),
                ),
                (
                    "period_seconds",
                    models.PositiveIntegerField(
                        default=60,
                        help_text="The period of the rate, in seconds. It slides: any so many seconds count.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(2678400),
                        ],
                    ),
                ),
                (
                    "starts",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.DateTimeField(),
                        default=list,
                        editable=False,
                        help_text="The newest starts, as many as the rate allows; oldest first.",
                        size=None,
                    ),
                ),
                ("paused_at", models.DateTimeField(editable=False, null=True)),
                ("paused_by", models.CharField(blank=True, editable=False, max_length=150)),
                ("pause_reason", models.CharField(blank=True, editable=False, max_length=300)),
                (
                    "changed_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
            ],
            options={
                "ordering": ["key"],
            },
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name="step",
            name="step_status",
        ),
        migrations.AddField(
            model_name="step",
            name="ages_from",
            field=models.DateTimeField(
                help_text="Ready or held back: since when its priority has not risen.", null=True
            ),
        ),
        migrations.AddField(
            model_name="step",
            name="flow_keys",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=200),
                default=list,
                help_text="What may limit it.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="step",
            name="limited_by",
            field=models.CharField(
                blank=True,
                help_text="The flow key that held it back, since it became ready and until it starts.",
                max_length=200,
            ),
        ),
        migrations.AlterField(
            model_name="step",
            name="priority",
            field=models.SmallIntegerField(
                default=0,
                help_text="The job's, raised by a level for each while that it was ready.",
            ),
        ),
        migrations.AddIndex(
            model_name="step",
            index=models.Index(
                models.F("limited_by"),
                models.OrderBy(models.F("priority"), descending=True),
                models.F("id"),
                condition=models.Q(
                    ("status__in", ["ready", "waiting"]),
                    models.Q(("limited_by", ""), _negated=True),
                ),
                name="step_limited",
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="step",
            trigger=pgtrigger.compiler.Trigger(
                name="step_status",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    declare="DECLARE _is_valid_transition BOOLEAN;",
                    func='SELECT CONCAT(OLD."status", \':\', NEW."status") = ANY(\'{pending:ready,pending:running,pending:cancelled,ready:running,ready:waiting,ready:cancelled,running:completed,running:failed,running:waiting,running:ready,running:cancelled,waiting:ready,waiting:cancelled,completed:ready,completed:pending,failed:ready,failed:pending,cancelled:ready,cancelled:pending}\'::text[]) INTO _is_valid_transition; IF (_is_valid_transition IS FALSE AND OLD."status" IS DISTINCT FROM NEW."status") THEN RAISE EXCEPTION \'pgtrigger: Invalid transition of field "status" from "%" to "%" on table %\', OLD."status", NEW."status", TG_TABLE_NAME; ELSE RETURN NEW; END IF;',
                    hash="33b1b918a8b4900fc90968cd17377ebe0dc8ef98",
                    operation="UPDATE",
                    pgid="pgtrigger_step_status_d18a2",
                    table="jobs_step",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="flowlimit",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("concurrency__isnull", True), ("concurrency__gte", 1), _connector="OR"
                    ),
                    models.Q(("rate__isnull", True), ("rate__range", (1, 1000)), _connector="OR"),
                    ("period_seconds__range", (1, 2678400)),
                ),
                name="flow_limit_numbers",
            ),
        ),
        migrations.RunSQL(KEYS_OF_UNFINISHED_STEPS, migrations.RunSQL.noop),
    ]
