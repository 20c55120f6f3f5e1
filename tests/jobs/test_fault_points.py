"""A process is killed at each commit that the engine makes, and another goes on.

A case is a verb and what it acts on. It is carried out once undisturbed; then again for each of its
commits, killed right before and right after, and finished by another worker: both must end alike.
The points of the cases are all commits there are in `jobs`; one without a case fails a test here.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.core import mail
from django.core.files.storage import FileSystemStorage
from django.db.models.functions import Now

from accounts.models import User
from jobs import live, sweep
from jobs.errors import NotPossible, WaitClosed
from jobs.models import (
    ArchivedJob,
    ArchiveRun,
    Artifact,
    Effect,
    Event,
    FlowLimit,
    InboundMessage,
    Job,
    Metric,
    OtpRequest,
    Process,
    Signal,
    Status,
    Step,
    Wait,
    WebhookCursor,
    WebhookDelivery,
    WebhookEndpoint,
)
from jobs.processes import FORGOTTEN, Heart
from jobs.runner import runner
from jobs.webhooks import deliveries, endpoints, notices
from jobs.webhooks.deliveries import Answer
from jobs.webhooks.outbox import fan_out
from tests.jobs.commits import find_committers, find_in
from tests.jobs.crashing import VERBS, crash, pay
from tests.jobs.fault_cases import (
    CASES,
    PAID,
    SHOP,
    TYPED,
    Case,
    claim,
    count_held,
    hold_back,
    let_postponed_be_due,
)
from tests.jobs.receivers import endpoint_at
from tests.jobs.rows import LONG_AGO, event_kinds, let_leases_expire, statuses
from tests.jobs.workflows import BEHAVIOURS, submit_toy

# ---- what another process makes of it -----------------------------------------------------------


def take_over() -> None:
    """The sweep, another worker and another sender, once all leases are over."""
    for _ in range(4):
        let_leases_expire()
        let_postponed_be_due()
        sweep.sweep()
        runner.run_ready_steps(["steps"])
        while fan_out():
            pass
        WebhookDelivery.objects.filter(lease_expires_at__isnull=False).update(
            lease_expires_at=Now() - LONG_AGO
        )
        for message in deliveries.claim_due(100):
            deliveries.record(message, Answer(status=204))


# What is told of a run of a step, or of its turn: there may be one more of these after a crash.
OF_THE_RUN = {
    "step.started",
    "step.recovered",
    "step.progress",
    "step.released",
    "step.limited",
    "step.ready",
}


def ending() -> dict[str, Any]:
    """All that must be the same with and without a crash, in words that are the same each time."""
    jobs = Job.objects.order_by("pk")
    return {
        "jobs": list(jobs.values_list("status", "progress", "result", "error", "params__chain")),
        "steps": list(
            Step.objects.order_by("job", "stage", "position").values_list(
                "name", "status", "output", "checkpoint", "flow_keys", "limited_by", "error"
            )
        ),
        "events": [sorted(kinds_of(job)) for job in jobs],
        "waits": list(Wait.objects.order_by("step", "name").values_list("name", "status")),
        "signals": sorted((row.key, row.taken_by_id is None) for row in Signal.objects.all()),
        "codes": list(OtpRequest.objects.values_list("status", "attempts_count")),
        "secrets": [row.otp_value for row in OtpRequest.objects.order_by("pk")],
        "messages": [(row.status, row.text) for row in InboundMessage.objects.order_by("pk")],
        "effects": list(Effect.objects.order_by("pk").values_list("key", "status", "result")),
        "limits": list(
            FlowLimit.objects.order_by("key").values_list(
                "key", "concurrency", "rate", "paused_by", "pause_reason"
            )
        ),
        "endpoints": [
            (row.url, row.disabled_reason, row.disabled_at is None, row.old_secret is None)
            for row in WebhookEndpoint.objects.order_by("pk")
        ],
        "deliveries": sorted(
            WebhookDelivery.objects.exclude(kind__in=OF_THE_RUN).values_list("kind", "status")
        ),
        "artifacts": Artifact.objects.count(),
        "archived": list(ArchivedJob.objects.order_by("pk").values_list("title", "status")),
        "archive runs": [(run.jobs, run.finished_at is None) for run in ArchiveRun.objects.all()],
        "paid": list(PAID),
        "typed": sorted(set(TYPED)),
    }


def kinds_of(job: Job) -> list[str]:
    kinds = job.events.exclude(kind__in=OF_THE_RUN).exclude(kind__startswith="effect.")
    return list(kinds.values_list("kind", flat=True))


def assert_nothing_is_half_done() -> None:
    for job in Job.objects.all():
        numbers = job.events.order_by("number").values_list("number", flat=True)
        assert list(numbers) == list(range(1, job.last_event + 1))
    completions = Event.objects.filter(kind="step.completed").values_list("step_id", flat=True)
    assert len(completions) == len(set(completions))
    told = WebhookDelivery.objects.values_list("endpoint", "job", "event_number")
    events = [row for row in told if row[1]]
    assert len(events) == len(set(events))


def forget_everything() -> None:
    for table in (Effect, Job, Signal, InboundMessage, FlowLimit, WebhookEndpoint, Artifact):
        table.objects.all().delete()
    for table in (ArchivedJob, ArchiveRun, WebhookCursor, LogEntry):
        table.objects.all().delete()
    BEHAVIOURS.clear()
    PAID.clear()
    TYPED.clear()


FAULTS = [
    pytest.param(case, nth, moment, id=f"{name}-{moment} {point} ({nth})")
    for name, case in CASES.items()
    for nth, point in enumerate(case.points, 1)
    for moment in ("before", "after")
]


@pytest.fixture(autouse=True)
def no_broker(monkeypatch):
    """Its calls are hints, and all of them are lost here."""
    monkeypatch.setattr(live, "send_wakes", lambda queue, calls: None)
    monkeypatch.setattr(live, "count_waiting_calls", lambda queue: 0)


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch, tmp_path):
    field = Artifact._meta.get_field("file")
    monkeypatch.setattr(field, "storage", FileSystemStorage(tmp_path))
    PAID.clear()
    TYPED.clear()


ENDINGS: dict[Case, dict[str, Any]] = {}  # of the cases that were carried out once


def undisturbed(case: Case, folder: Path) -> dict[str, Any]:
    if case not in ENDINGS:
        args, kwargs = case.prepare(folder)
        VERBS[case.verb](*args, **kwargs)
        take_over()
        ENDINGS[case] = ending()
        forget_everything()
    return ENDINGS[case]


@pytest.mark.parametrize(("case", "nth", "moment"), FAULTS)
@pytest.mark.django_db(transaction=True)
def test_verb_killed_at_its_commit_ends_as_if_it_was_not(case, nth, moment, tmp_path):
    expected = undisturbed(case, tmp_path)
    args, kwargs = case.prepare(tmp_path)

    point = crash(moment, case.verb, *args, nth=nth, **kwargs)

    assert point == case.points[nth - 1]
    if moment in case.repeats:
        try:
            VERBS[case.verb](*args, **kwargs)
        except (NotPossible, WaitClosed):
            assert moment == "after"  # it is done, and says so
    take_over()
    assert ending() == expected
    assert_nothing_is_half_done()


@pytest.mark.django_db(transaction=True)
def test_without_the_sweep_what_was_killed_between_two_commits_would_wait_for_ever():
    """The twin: there is something for others to take over."""
    hold_back(2)

    crash("after", "resume key", SHOP, by="alice")

    runner.run_ready_steps(["steps"])
    assert count_held() == 2
    take_over()
    assert count_held() == 0


# ---- what is no case of the table ---------------------------------------------------------------

JOURNEY = (
    "statements.claiming.claim_next",
    "statements.completing.complete_steps",
    "statements.claiming.report_progress",
    "effects.begin",
    "effects._change",
    "steps.save_checkpoint",
    "statements.completing.complete_steps",
    "statements.claiming.claim_next",
    "statements.completing.complete_steps",
    "statements.completing.complete_steps",
    "statements.completing.complete_steps",
    "statements.claiming.claim_next",
)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("nth", range(1, len(JOURNEY) + 1))
@pytest.mark.django_db(transaction=True)
def test_worker_killed_at_each_commit_of_a_job_pays_once(nth, moment, tmp_path):
    """The handlers run in the process that is killed; the site that they pay at is a file."""
    ledger = tmp_path / "ledger"
    job = submit_toy([["a"], ["pay"], ["b", "c"], ["d"]], ledger=ledger)

    point = crash(moment, "run steps", ["steps"], nth=nth)

    assert point == JOURNEY[nth - 1]
    BEHAVIOURS["pay"] = pay
    take_over()
    assert (tmp_path / "site").read_text() == "paid\n"
    assert set(statuses(job).values()) == {Status.COMPLETED}
    assert event_kinds(job).count("job.completed") == 1
    assert Effect.objects.get().status == Effect.Status.CONFIRMED
    assert_nothing_is_half_done()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.django_db(transaction=True)
def test_step_of_a_cancelled_job_ends_once_whoever_ends_it(moment):
    claimed = claim()
    VERBS["cancel"](claimed.job_id, by="alice")

    point = crash(moment, "stop", claimed)

    assert point == "steps.stop"
    take_over()
    job = Job.objects.get()
    assert set(statuses(job).values()) == {Status.CANCELLED}
    ends = job.events.filter(step_id=claimed.id, kind__in=["step.stopped", "step.cancelled"])
    assert ends.count() == 1
    assert_nothing_is_half_done()


LIFE = (
    "processes.Heart._beat",  # the first beat: nothing to change yet,
    "processes.Heart._beat",  # what has vanished is forgotten,
    "processes.Heart._beat",  # and the row is made
    "tally.Tally.save",
    "processes.Heart._beat",
    "tally.Tally.save",
    "processes.Heart.end",
)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("nth", range(1, len(LIFE) + 1))
@pytest.mark.django_db(transaction=True)
def test_process_killed_at_a_beat_is_forgotten_and_has_counted_what_it_saved(nth, moment):
    point = crash(moment, "live and end", nth=nth)

    assert point == LIFE[nth - 1]
    Process.objects.update(beat_at=Now() - FORGOTTEN)
    heart = Heart(Process.Kind.WORKER, ["steps"])
    heart.beat()
    assert [row.pk for row in Process.objects.all()] == [heart.id]
    saves = LIFE[: nth if moment == "after" else nth - 1].count("tally.Tally.save")
    counted = Metric.objects.filter(name="step_retries", labels={"handler": "toy.victim"})
    assert sum(counted.values_list("value", flat=True)) == saves


@pytest.mark.parametrize(("moment", "told_later"), [("before", 1), ("after", 0)])
@pytest.mark.django_db(transaction=True)
def test_admins_are_never_told_twice_that_a_webhook_was_disabled(
    moment, told_later, settings, tmp_path
):
    """What was claimed may have gone out, and is not repeated; the inbox says it all the time."""
    settings.MAIL_FROM = "cartwright@example.com"
    admin = User.objects.create_user("olga", email="olga@example.com", is_staff=True)
    endpoint = endpoint_at()
    endpoints.disable(endpoint.pk, "410 Gone", for_failing=True)

    point = crash(moment, "tell admins", tmp_path)

    assert point == "webhooks.notices._tell"
    assert [sent.read_text() for sent in tmp_path.iterdir()] == [""]  # the way was open, no more
    assert notices.tell_admins() == len(mail.outbox) == told_later
    assert notices.tell_admins() == 0
    assert [row["id"] for row in notices.read_disabled(admin)] == [str(endpoint.pk)]


# ---- that nothing is missing --------------------------------------------------------------------

ELSEWHERE = {*JOURNEY, *LIFE, "steps.stop", "webhooks.notices._tell"}

PART_OF_A_CASE = {
    "archive.DailyArchive._work.note": "of the batch that it counts",
    "archive._replace": "of the batch; its own transaction is a savepoint in it",
    "control._reset": "of running again",
    "control._restart": "of running again",
    "control._take_from_person": "of cancelling",
    "control._use_present_handlers": "of running again",
    "effects._take": "of intending",
    "effects.confirm_left_open": "of whoever completes by hand",
    "events.append_events": "of the verb that causes the events",
    "flow._save_or_delete": "of the change of a limit",
    "otp.messages.take_kept_message": "of beginning to wait",
    "otp.requests._open_request": "of beginning to wait",
    "otp.requests.give_code": "of the message, or of entering a code",
    "processes.Heart.beat": "a beat and what was counted, each its own",
    "records.record_job": "of what causes it",
    "records.record_more": "of what causes it",
    "statements.base.run": "carries out the statements of others, which are named",
    "statements.claiming.claim_limited": "of claiming with a limit",
    "statements.intending.change_effect": "of settling, or of intending again",
    "statements.intending.intend": "of intending",
    "statements.keying.replace_key": "of whoever holds the locks",
    "statements.limits.hold_back": "of claiming with a limit",
    "statements.waiting.answer_waits": "of whoever answers",
    "statements.waiting.make_due_ready": "of sweeping what is due",
    "statements.waiting.make_job_ready": "of hastening a job",
    "steps._cancel": "of the verb that ends the job",
    "steps._end": "of the verb that ends the job",
    "steps._write": "of the verb whose outcome it is",
    "waits.answer": "of choosing, entering a code, or a message",
    "waits.open_waits": "of beginning to wait",
    "waits.take_kept_signal": "of beginning to wait",
    "webhooks.deliveries._claim_of": "of claiming deliveries",
    "webhooks.deliveries._note_health": "of recording a delivery",
    "webhooks.outbox._look": "of fanning out, or of enabling a webhook",
    "webhooks.outbox._make_deliveries": "of fanning out, or of enabling a webhook",
    "webhooks.outbox.lock_cursor": "of enabling or deleting a webhook",
}
NO_ROWS_OF_THE_ENGINE = {
    "consumers.ChangeReader.read": "a set in memory",
    "consumers.ListConsumer.jobs_changed": "a set in memory",
    "live.Courier.post": "a set in memory",
    "listing.count_by_status": "only reads",
    "otp.admin.InboundSourceForm.save": "a form's row, in the admin's own transaction",
    "webhooks.admin.WebhookEndpointAdmin.save_model": "an object in memory; the verbs write",
}


def test_every_commit_of_the_engine_has_a_fault_point():
    """A function that is missing here commits, or may: give it a case, or say whose part it is."""
    points = {point for case in CASES.values() for point in case.points} | ELSEWHERE
    excused = PART_OF_A_CASE.keys() | NO_ROWS_OF_THE_ENGINE.keys()

    assert find_committers() - points - excused == set()
    assert points - find_committers() == set()
    assert points & excused == set()


def test_every_verb_that_can_be_killed_is():
    """By a case here, or by a test of its own."""
    killed = {case.verb for case in CASES.values()}
    others = {"run steps", "stop", "live and end", "tell admins", "save"}

    assert killed | others == VERBS.keys()


def test_commit_that_nobody_named_is_found(tmp_path):
    """The twin: what a new verb would look like."""
    source = tmp_path / "verbs.py"
    source.write_text(
        "def hide(job):\n    with transaction.atomic():\n        pass\n"
        "class Shelf:\n    def put(self, row):\n        row.save()\n"
        "def look():\n    return run('SELECT 1 FOR NO KEY UPDATE')\n"
        "def push():\n    run('UPDATE jobs_step SET priority = 1')\n"
    )

    found = set(find_in(source, "verbs", ModuleType("verbs")))

    assert found == {"verbs.hide", "verbs.Shelf.put", "verbs.push"}
