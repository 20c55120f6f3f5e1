"""Finished jobs leave the hot tables after their time, and nothing else does."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
import time_machine
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import ProtectedError
from django.db.models.functions import Now
from django.test import Client

from accounts.models import FIRST_WORKSPACE, User
from jobs import archive, effects, steps
from jobs.archive import DailyArchive, archive_all, archive_batch
from jobs.errors import BusinessError
from jobs.events import read_events
from jobs.models import (
    ArchivedJob,
    ArchiveRun,
    Artifact,
    Effect,
    Event,
    InboundMessage,
    Job,
    Signal,
    Step,
)
from jobs.otp.messages import Inbound, receive
from jobs.runner import runner
from jobs.waits import send_signal
from tests.jobs.rivals import elsewhere, just_before
from tests.jobs.rows import all_rows
from tests.jobs.workers import running_scheduler
from tests.jobs.workflows import submit_toy
from tests.waiting import wait_until
from vendors.models import QueueItem, Vendor, VendorAccount

MONTH = timedelta(days=30)
LONG_AGO = timedelta(days=31)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    field = Artifact._meta.get_field("file")
    monkeypatch.setattr(field, "storage", FileSystemStorage(tmp_path))
    return tmp_path


def finished(chain=(("a",), ("b",)), *, ago=LONG_AGO, **submission):
    job = submit_toy([list(group) for group in chain], **submission)
    runner.run_ready_steps(["steps"])
    age(job, ago)
    return job


def age(job, ago):
    Job.objects.filter(pk=job.pk).update(finished_at=Now() - ago)


def keep(job, *, expires_in=timedelta(days=7)):
    return Artifact.objects.create(
        job=job,
        step=job.steps.first(),
        attempt=1,
        kind=Artifact.Kind.PAGE,
        file=ContentFile(b"<p>", name="page.html"),
        expires_at=Now() + expires_in,
    )


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def archive_now(**options):
    return [batch.jobs for batch in archive_all(MONTH, **options)]


# --- What is moved, and what is left ---------------------------------------------------------


@pytest.mark.django_db
def test_old_job_leaves_its_tables_and_is_kept_with_its_timeline(folder):
    bob = User.objects.create_user("bob")
    job = finished(created_by=bob, idempotency_key="k1")
    keep(job)
    timeline = read_events(job.pk, after=0)

    assert sum(archive_now()) == 1

    assert [model.objects.count() for model in (Job, Step, Event, Artifact)] == [0, 0, 0, 0]
    assert files(folder) == []
    kept = ArchivedJob.objects.get(pk=job.pk)
    assert (kept.workflow, kept.title, kept.status, kept.created_by) == (
        "toy",
        "Toy",
        "completed",
        "bob",
    )
    assert kept.workspace_id == job.workspace_id
    assert kept.snapshot["job"]["params"] == job.params
    assert kept.snapshot["job"]["idempotency_key"] == "k1"
    assert kept.snapshot["job"]["result"] == {"ran": "b"}
    assert [step["output"] for step in kept.snapshot["steps"]] == [{"ran": "a"}, {"ran": "b"}]
    assert [event["number"] for event in kept.timeline] == [1, 2, 3, 4, 5, 6]
    assert [event["kind"] for event in kept.timeline] == [event["kind"] for event in timeline]


@pytest.mark.django_db
def test_young_and_unfinished_jobs_are_not_touched(folder):
    young = finished(ago=timedelta(days=29))
    keep(young)
    submit_toy([["a"]])
    steps.claim_next(["steps"], worker="alice")
    before = all_rows()

    assert archive_now() == [0]

    assert all_rows() == before
    assert len(files(folder)) == 1
    assert not ArchivedJob.objects.exists()


@pytest.mark.django_db
def test_failed_job_whose_other_step_still_runs_is_left_until_that_has_ended():
    job = submit_toy([["a", "b"]])
    running = steps.claim_next(["steps"], worker="alice")
    other = steps.claim_next(["steps"], worker="bob")
    steps.fail(other, BusinessError("out_of_stock", "It is sold out."))
    age(job, LONG_AGO)

    assert sum(archive_now()) == 0
    steps.complete(running, {}, queues=[], worker="alice")
    assert sum(archive_now()) == 1


@pytest.mark.django_db
def test_expired_evidence_goes_before_its_job(folder):
    job = finished(ago=timedelta(days=1))
    keep(job, expires_in=-timedelta(seconds=1))
    current = keep(job)

    assert archive_now() == [0]

    assert list(Artifact.objects.values_list("pk", flat=True)) == [current.pk]
    assert len(files(folder)) == 1
    assert Job.objects.count() == 1


@pytest.mark.django_db
def test_queue_item_and_account_of_an_archived_job_stay_and_let_go_of_it():
    job = finished()
    vendor = Vendor.objects.create(name="Vendor Co", domain="vendor.example")
    account = VendorAccount.objects.create(
        vendor=vendor, email="one@vendor.example", password="p", held_by=job
    )
    item = QueueItem.objects.create(
        vendor=vendor, product_url="https://vendor.example/p", status="completed", job=job
    )

    assert sum(archive_now()) == 1

    item.refresh_from_db()
    account.refresh_from_db()
    assert (item.status, item.job, account.held_by) == ("completed", None, None)


def effect_of(job, status):
    return Effect.objects.create(
        workspace=job.workspace,
        job=job,
        step=job.steps.first(),
        key=f"pay:{job.pk}",
        title="Pay",
        status=status,
    )


@pytest.mark.django_db
def test_what_an_archived_job_has_done_is_never_done_again():
    effect = effect_of(finished(), Effect.Status.CONFIRMED)
    archive_now()
    again = submit_toy([["a"]])
    claimed = steps.claim_next(["steps"], worker="one")

    with pytest.raises(effects.EffectTaken, match="which is archived"):
        effects.begin(claimed, effect.key, title="Pay", intent={})

    assert Effect.objects.get().status == "confirmed"
    assert again.effects.count() == 0


@pytest.mark.django_db
def test_job_with_an_act_that_nobody_has_settled_stays():
    job = finished()
    effect = effect_of(job, Effect.Status.UNKNOWN)

    assert sum(archive_now()) == 0

    effect.status = Effect.Status.CONFIRMED
    effect.save()
    assert sum(archive_now()) == 1


@pytest.mark.django_db
def test_old_signals_and_messages_are_deleted_and_younger_ones_are_not():
    for number in range(2):
        send_signal("voucher.issued", {"order": number}, workspace_id=FIRST_WORKSPACE)
        receive(Inbound("GYFTR", f"OTP 48291{number}"), workspace_id=FIRST_WORKSPACE)
    old_signal, old_message = Signal.objects.all()[0], InboundMessage.objects.all()[0]
    Signal.objects.filter(pk=old_signal.pk).update(expires_at=Now() - LONG_AGO)
    InboundMessage.objects.filter(pk=old_message.pk).update(received_at=Now() - LONG_AGO)

    archive_now()

    assert old_signal not in Signal.objects.all()
    assert old_message not in InboundMessage.objects.all()
    assert (Signal.objects.count(), InboundMessage.objects.count()) == (1, 1)


@pytest.mark.django_db
def test_job_that_something_will_not_let_go_is_left_and_the_others_are_moved(monkeypatch):
    protected, free = finished(), finished()
    delete = Job.objects._queryset_class.delete

    def refuse(jobs):
        if jobs.model is Job and protected.pk in jobs.values_list("pk", flat=True):
            raise ProtectedError("An invoice needs it.", {protected})
        return delete(jobs)

    monkeypatch.setattr(Job.objects._queryset_class, "delete", refuse)

    assert sum(archive_now()) == 1

    assert Job.objects.get() == protected
    assert ArchivedJob.objects.get().pk == free.pk


# --- Batches ---------------------------------------------------------------------------------


@pytest.mark.django_db
def test_batches_go_on_where_the_last_one_ended(monkeypatch):
    monkeypatch.setattr(archive, "BATCH", 2)
    for day in range(5):
        finished([["a"]], ago=LONG_AGO + timedelta(days=day))

    assert archive_now() == [2, 2, 1, 0]
    assert ArchivedJob.objects.count() == 5


@pytest.mark.django_db
def test_batch_of_evidence_leaves_nothing_behind(monkeypatch, folder):
    monkeypatch.setattr(archive, "BATCH", 2)
    job = finished()
    for _ in range(5):
        keep(job)

    assert sum(archive_now()) == 1
    assert files(folder) == []


@pytest.mark.django_db(transaction=True)
def test_locked_job_is_passed_over_and_nobody_waits():
    locked, free = finished([["a"]]), finished([["a"]])

    with transaction.atomic():
        Step.objects.select_for_update().get(job=locked)
        [first] = elsewhere(lambda: sum(archive_now()))

    assert first == 1
    assert Job.objects.get() == locked
    assert ArchivedJob.objects.get().pk == free.pk
    assert sum(archive_now()) == 1


@pytest.mark.django_db(transaction=True)
def test_two_at_once_archive_each_job_once():
    jobs = {finished([["a"]], ago=LONG_AGO + timedelta(hours=hour)).pk for hour in range(6)}

    moved = elsewhere(lambda: sum(archive_now()), lambda: sum(archive_now()))

    assert sum(moved) == 6
    assert set(ArchivedJob.objects.values_list("pk", flat=True)) == jobs
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_job_that_is_run_again_just_before_stays(monkeypatch):
    job = finished([["a"]])

    def run_again():
        with connection.cursor() as cursor:  # as a rerun does, whose own checks are not in question
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute("UPDATE jobs_job SET status = 'running', finished_at = NULL")

    just_before(monkeypatch, archive, "_lock_records", transaction.atomic(run_again))

    assert sum(archive_now()) == 0
    assert Job.objects.get() == job
    assert not ArchivedJob.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_crash_after_the_files_and_before_the_commit_is_made_up_for(monkeypatch, folder):
    keep(finished())

    def crash(_records):
        raise OSError("killed")

    with monkeypatch.context() as crashing:
        crashing.setattr(archive, "_replace_jobs", crash)
        with pytest.raises(OSError, match="killed"):
            archive_now()
    assert (Job.objects.count(), ArchivedJob.objects.count()) == (1, 0)

    assert sum(archive_now()) == 1
    assert files(folder) == []


# --- Every day -------------------------------------------------------------------------------


def work_through(daily):
    turns = 0
    while daily.work():
        turns += 1
    return turns


@pytest.mark.django_db
def test_days_work_is_done_in_batches_and_once_a_day(monkeypatch):
    monkeypatch.setattr(archive, "BATCH", 2)
    for hour in range(3):
        keep(finished([["a"]], ago=LONG_AGO + timedelta(hours=hour)))

    assert work_through(DailyArchive()) == 2

    run = ArchiveRun.objects.get()
    assert (run.jobs, run.artifacts) == (3, 3)
    assert run.finished_at is not None
    finished([["a"]])
    assert work_through(DailyArchive()) == 0  # a restart does not repeat it
    assert Job.objects.count() == 1


@pytest.mark.django_db
def test_run_that_was_cut_off_goes_on_after_a_restart(monkeypatch):
    monkeypatch.setattr(archive, "BATCH", 1)
    for hour in range(3):
        finished([["a"]], ago=LONG_AGO + timedelta(hours=hour))
    assert DailyArchive().work()

    assert work_through(DailyArchive()) == 2

    run = ArchiveRun.objects.get()
    assert (run.jobs, ArchivedJob.objects.count()) == (3, 3)


@pytest.mark.django_db
def test_next_day_has_a_run_of_its_own_and_is_noticed(monkeypatch):
    daily = DailyArchive()
    with time_machine.travel(datetime(2026, 11, 21, 12, tzinfo=UTC), tick=False) as clock:
        monkeypatch.setattr(archive, "_today", lambda: datetime.now(UTC).date())
        monkeypatch.setattr(archive, "monotonic", lambda: datetime.now(UTC).timestamp())
        work_through(daily)
        finished([["a"]])
        clock.shift(timedelta(hours=11))
        assert work_through(daily) == 0

        clock.shift(timedelta(hours=2))
        assert work_through(daily) == 1

    assert [run.jobs for run in ArchiveRun.objects.order_by("day")] == [0, 1]


@pytest.mark.django_db(transaction=True)
def test_scheduler_archives_by_itself(broker, tmp_path):
    finished()

    with running_scheduler(tmp_path):
        wait_until(lambda: ArchiveRun.objects.filter(finished_at__isnull=False).exists())

    assert ArchivedJob.objects.count() == 1


# --- The command and the page ----------------------------------------------------------------


def told(*arguments):
    output = StringIO()
    call_command("jobs_archive", *arguments, stdout=output)
    return output.getvalue().strip()


@pytest.mark.django_db
def test_dry_run_counts_and_changes_nothing(folder):
    keep(finished())
    finished(ago=timedelta(days=10))
    before = all_rows()

    assert told("--dry-run") == (
        "1 jobs to archive (1 completed) with 2 steps and 6 events; 1 pieces of evidence to delete"
    )
    assert told("--dry-run", "--days", "5").startswith("2 jobs to archive (2 completed)")

    assert all_rows() == before
    assert len(files(folder)) == 1


@pytest.mark.django_db
def test_command_archives_and_says_how_much():
    keep(finished())

    assert told() == "1 jobs archived, 1 pieces of evidence deleted"
    assert told() == "0 jobs archived, 0 pieces of evidence deleted"


@pytest.mark.django_db
def test_archived_job_is_found_by_its_id_in_the_admin():
    job = finished()
    finished()
    archive_now()
    client = Client()
    client.force_login(User.objects.create_superuser("alice"))

    found = client.get(f"/admin/jobs/archivedjob/?q={job.pk}")
    page = client.get(f"/admin/jobs/archivedjob/{job.pk}/change/")

    assert found.context["cl"].result_count == 1
    assert page.status_code == 200
    assert "step.completed" in page.content.decode()


@pytest.mark.django_db
def test_batch_costs_a_fixed_number_of_queries(django_assert_max_num_queries):
    for _ in range(20):
        finished([["a"]])

    with django_assert_max_num_queries(40):
        assert archive_batch(MONTH).jobs == 20


# --- The hot tables --------------------------------------------------------------------------


@pytest.mark.django_db
def test_hot_tables_leave_room_in_their_pages_and_are_vacuumed_early():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, reloptions FROM pg_class "
            "WHERE relname IN ('jobs_job', 'jobs_step', 'jobs_event')"
        )
        options = {name: set(reloptions or []) for name, reloptions in cursor.fetchall()}

    for table in ("jobs_job", "jobs_step"):
        assert {"fillfactor=80", "autovacuum_vacuum_scale_factor=0.01"} <= options[table]
    assert "autovacuum_vacuum_scale_factor=0.02" in options["jobs_event"]
