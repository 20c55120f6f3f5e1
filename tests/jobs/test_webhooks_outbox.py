"""Every event that matches gets its delivery, exactly one, whatever order commits come in."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction

from accounts.models import User, Workspace
from jobs.events import NewEvent, append_events
from jobs.models import Event, Job, WebhookCursor, WebhookDelivery, WebhookEndpoint
from jobs.runner import runner
from jobs.webhooks import endpoints, outbox
from jobs.webhooks.errors import InvalidEvents
from jobs.webhooks.outbox import fan_out
from tests.jobs.receivers import endpoint_at
from tests.jobs.rivals import elsewhere, just_before
from tests.jobs.workflows import submit_toy
from tests.waiting import wait_until


def append(job: Job, message: str = "It happened") -> None:
    """An event, as the engine's verbs write one: under the lock on the job's row."""
    job = Job.objects.select_for_update(no_key=True).get(pk=job.pk)
    append_events(job, [NewEvent("job.tested", message)])


@contextmanager
def uncommitted(job: Job, *, roll_back: bool = False) -> Iterator[None]:
    """Another connection writes an event of `job` now, and commits at the end of the block."""
    written, end = threading.Event(), threading.Event()

    def write() -> None:
        try:
            with transaction.atomic():
                append(job, "late")
                written.set()
                end.wait(30)
                transaction.set_rollback(roll_back)
        finally:
            connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    assert written.wait(10)
    try:
        yield
    finally:
        end.set()
        thread.join(10)


def commit(job: Job, message: str = "It happened") -> None:
    with transaction.atomic():
        append(job, message)


def told() -> list[tuple[str, int]]:
    rows = WebhookDelivery.objects.order_by("id")
    return [(row.kind, row.event_number) for row in rows]


def told_of(job: Job) -> list[int]:
    rows = WebhookDelivery.objects.filter(job=job).order_by("event_number")
    return list(rows.values_list("event_number", flat=True))


def holes() -> int:
    """Those among this test's own events: before them are ids that other tests have used."""
    first_event = Event.objects.order_by("pk").values_list("pk", flat=True)[0]
    return sum(last >= first_event for _, last, _ in WebhookCursor.objects.get().holes)


def no_holes() -> bool:
    """A transaction of anybody on the server may keep one open for a while."""
    fan_out()
    return holes() == 0


# --- What matches -----------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("events", "kinds"),
    [
        (["job.completed"], {"job.completed"}),
        (["job.*"], {"job.created", "job.completed"}),
        (["step.started", "job.created"], {"step.started", "job.created"}),
        (["*"], {"job.created", "job.completed", "step.started", "step.completed"}),
        (["jobs.*", "step.start", "wait.*"], set()),
    ],
)
def test_endpoint_is_told_of_the_kinds_it_asked_for(events, kinds):
    endpoint_at("https://erp.example/hooks", *events)
    job = submit_toy([["a"]])
    runner.run_ready_steps(["steps"])

    assert fan_out() == 4

    deliveries = list(WebhookDelivery.objects.all())
    assert {delivery.kind for delivery in deliveries} == kinds
    for delivery in deliveries:
        event = Event.objects.get(job=job, number=delivery.event_number)
        assert (delivery.kind, delivery.status, delivery.attempt) == (event.kind, "pending", 0)


@pytest.mark.django_db
def test_only_the_workspace_of_the_job_is_told():
    ours = endpoint_at()
    others = Workspace.objects.create(name="Others")
    theirs = endpoints.add_endpoint(others, "https://others.example/", events=["*"])
    bob = User.objects.create_user("bob", workspace=others)
    mine, his = submit_toy([["a"]]), submit_toy([["a"]], created_by=bob)

    fan_out()

    assert list(ours.deliveries.values_list("job", flat=True)) == [mine.pk]
    assert list(theirs.deliveries.values_list("job", flat=True)) == [his.pk]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "pattern", ["", "job", "job.", ".*", "*.completed", "Job.*", "j b.*", "a" * 51]
)
def test_pattern_that_nothing_could_match_is_refused(pattern):
    with pytest.raises(InvalidEvents):
        endpoint_at("https://erp.example/hooks", "job.*", pattern)

    assert WebhookEndpoint.objects.count() == 0


# --- Late commits -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_event_that_commits_after_a_younger_one_was_told_is_told_too():
    endpoint_at()
    slow, quick = submit_toy([["a"]]), submit_toy([["a"]])
    fan_out()

    with uncommitted(slow):
        commit(quick)
        fan_out()
        assert (told_of(slow), told_of(quick)) == ([1], [1, 2])
        position = WebhookCursor.objects.get().position
    # What is lost with a cursor alone: it has passed the event's id by.
    assert not Event.objects.filter(pk__gt=position).exists()
    assert Event.objects.get(message="late").pk < position
    fan_out()

    assert (told_of(slow), told_of(quick)) == ([1, 2], [1, 2])
    wait_until(no_holes)


@pytest.mark.django_db(transaction=True)
def test_hole_stays_open_for_as_long_as_its_transaction_runs():
    endpoint_at()
    slow, quick = submit_toy([["a"]]), submit_toy([["a"]])
    fan_out()

    with uncommitted(slow):
        for _ in range(5):
            commit(quick)
            fan_out()
        assert holes() == 1
    fan_out()

    assert told_of(slow) == [1, 2]
    assert told_of(quick) == [1, 2, 3, 4, 5, 6]


@pytest.mark.django_db(transaction=True)
def test_hole_of_a_transaction_that_was_rolled_back_is_closed():
    endpoint_at()
    slow, quick = submit_toy([["a"]]), submit_toy([["a"]])
    fan_out()

    with uncommitted(slow, roll_back=True):
        commit(quick)
        fan_out()
        assert holes() == 1

    wait_until(no_holes)
    assert told_of(slow) == [1]


@pytest.mark.django_db(transaction=True)
def test_filled_hole_is_closed_though_another_transaction_still_runs():
    endpoint_at()
    slow, late, quick = submit_toy([["a"]]), submit_toy([["a"]]), submit_toy([["a"]])
    fan_out()

    with uncommitted(slow):
        commit(quick)
        with uncommitted(late):
            commit(quick)
            fan_out()
            assert holes() == 2
        fan_out()
        assert holes() == 1  # `slow` runs since before this one was seen
    assert told_of(late) == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_many_writers_while_the_outbox_looks_lose_nothing():
    endpoint_at()
    jobs = [submit_toy([["a"]]) for _ in range(4)]

    def write(job: Job) -> None:
        for _ in range(40):
            commit(job)

    def look() -> None:
        for _ in range(60):
            fan_out()

    elsewhere(*[lambda job=job: write(job) for job in jobs], look, look)
    fan_out()
    fan_out()

    assert [told_of(job) for job in jobs] == [list(range(1, 42))] * 4
    wait_until(no_holes)


# --- Exactly one ------------------------------------------------------------------------------


@pytest.mark.django_db
def test_event_that_is_looked_at_again_has_one_delivery():
    endpoint_at()
    submit_toy([["a"]])
    fan_out()
    WebhookCursor.objects.update(position=0)

    fan_out()

    assert told() == [("job.created", 1)]


@pytest.mark.django_db
def test_outbox_that_dies_before_its_commit_has_done_nothing(monkeypatch):
    endpoint_at()
    submit_toy([["a"]])

    class Died(Exception):
        pass

    def die(self, **options):
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr(WebhookCursor, "save", die)
        with pytest.raises(Died):
            fan_out()
    assert told() == []

    fan_out()
    assert told() == [("job.created", 1)]


@pytest.mark.django_db(transaction=True)
def test_second_outbox_leaves_the_cursor_to_the_first(monkeypatch):
    endpoint_at()
    submit_toy([["a"]])
    rivals_count = []
    just_before(monkeypatch, outbox, "_make_deliveries", lambda: rivals_count.append(fan_out()))

    assert fan_out() == 1

    assert rivals_count == [0]
    assert told() == [("job.created", 1)]


@pytest.mark.django_db
def test_more_events_than_a_batch_are_told_in_several(monkeypatch):
    monkeypatch.setattr(outbox, "BATCH", 3)
    endpoint_at("https://erp.example/hooks", "job.*")
    for _ in range(5):
        submit_toy([["a"]])

    assert [fan_out(), fan_out(), fan_out()] == [3, 2, 0]
    assert told() == [("job.created", 1)] * 5


# --- From when on -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_new_endpoint_is_told_of_nothing_that_was_before_it(monkeypatch):
    monkeypatch.setattr(outbox, "BATCH", 3)
    for _ in range(8):
        submit_toy([["a"]])
    endpoint_at()
    after = submit_toy([["a"]])

    fan_out()

    assert list(WebhookDelivery.objects.values_list("job", flat=True)) == [after.pk]


@pytest.mark.django_db(transaction=True)
def test_new_endpoint_is_told_of_what_commits_after_it_though_it_was_written_before():
    slow, quick = submit_toy([["a"]]), submit_toy([["a"]])
    with uncommitted(slow):
        commit(quick)
        endpoint_at()

    fan_out()

    assert (told_of(slow), told_of(quick)) == ([2], [])


@pytest.mark.django_db
def test_endpoint_misses_what_happens_while_it_is_disabled():
    endpoint = endpoint_at()
    before = submit_toy([["a"]])
    fan_out()
    endpoints.disable(endpoint.pk, "Disabled by alice.")
    submit_toy([["a"]])
    endpoints.enable(endpoint.pk)
    after = submit_toy([["a"]])

    fan_out()

    told_jobs = endpoint.deliveries.order_by("id").values_list("job", flat=True)
    assert list(told_jobs) == [before.pk, after.pk]


@pytest.mark.django_db(transaction=True)
def test_endpoint_is_deleted_with_its_deliveries():
    endpoint = endpoint_at()
    submit_toy([["a"]])
    fan_out()

    endpoints.delete_endpoint(endpoint.pk)

    assert (WebhookEndpoint.objects.count(), WebhookDelivery.objects.count()) == (0, 0)
