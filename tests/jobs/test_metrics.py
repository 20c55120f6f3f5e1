"""/metrics: what Prometheus is told, who is told, and what workers on other machines add to it."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.db.models.functions import Now
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from jobs import steps, tally
from jobs.errors import TransientError
from jobs.management.commands import jobs_sweep
from jobs.models import Metric, Process, Step
from jobs.plans import Done
from jobs.processes import Heart
from jobs.runner import runner
from jobs.sweep import Swept
from jobs.tally import Tally
from tests.jobs import workflows
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import let_leases_expire
from tests.jobs.workers import running_scheduler, running_worker
from tests.jobs.workflows import submit_toy
from tests.waiting import wait_until

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def fresh_tally():
    """What earlier tests have counted in this process is not told here."""
    tally.tally._counts.clear()


def scraped(**headers):
    answer = Client().get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.content
    return {
        (sample.name.removeprefix("cartwright_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def run_all():
    runner.run_ready_steps(["steps"])


# --- What is read from the tables ------------------------------------------------------------


@pytest.mark.django_db
def test_queues_are_counted_by_status_and_the_oldest_tells_its_age():
    submit_toy([["a", "b"]])
    submit_toy([["a"]], options={"a": {"queue": "browsers"}})
    waiting = submit_toy([["c"]], priority=1)
    steps.retry(
        steps.claim_next(["steps"], worker="alice"), TransientError("x", "No."), delay=MINUTE
    )
    steps.claim_next(["steps"], worker="alice")
    Step.objects.filter(queue="browsers").update(due_at=Now() - timedelta(seconds=90))

    found = scraped()

    assert waiting.steps.get().status == "waiting"
    assert found["steps", "ready", "steps"] == 1
    assert found["steps", "running", "steps"] == 1
    assert found["steps", "steps", "waiting"] == 1
    assert found["steps", "browsers", "ready"] == 1
    assert found["oldest_due_step_seconds", "browsers"] == pytest.approx(90, abs=5)
    assert found["oldest_due_step_seconds", "steps"] < 5
    assert found["jobs", "pending"] == 1
    assert found["jobs", "running"] == 2


@pytest.mark.django_db
def test_processes_that_beat_are_counted_and_none_is_a_number_too():
    Heart(Process.Kind.WORKER).beat()
    Heart(Process.Kind.WORKER).beat()
    stale = Heart(Process.Kind.WORKER)
    stale.beat()
    Process.objects.filter(pk=stale.id).update(beat_at=Now() - timedelta(seconds=31))

    found = scraped()

    assert found["processes", "worker"] == 2
    assert found["processes", "scheduler"] == 0


@pytest.mark.django_db
def test_scrape_takes_as_many_queries_as_it_has_readers(django_assert_num_queries):
    for _ in range(3):
        submit_toy([["a"]])

    with django_assert_num_queries(10):  # five of the engine's, five of the vendors'
        scraped()


# --- What processes count --------------------------------------------------------------------


@pytest.mark.django_db
def test_attempts_are_timed_by_handler_and_their_retries_counted():
    job = submit_toy([["a"], ["b"]])

    def fail_once(context):
        if context.attempt == 1:
            raise TransientError("site_timeout", "No answer.")
        return Done({})

    workflows.BEHAVIOURS["a"] = fail_once
    run_all()
    Step.objects.filter(job=job, name="a").update(status="ready")
    run_all()
    tally.tally.save()

    found = scraped()

    assert found["step_seconds_count", "toy.step"] == 3
    assert found["step_seconds_bucket", "+Inf", "toy.step"] == 3
    assert found["step_seconds_bucket", "300", "toy.step"] == 3
    assert 0 < found["step_seconds_sum", "toy.step"] < 10
    assert found["step_retries_total", "toy.step"] == 1
    assert found["sweeps_total",] == 0


@pytest.mark.django_db
def test_lost_lease_is_counted():
    submit_toy([["a"]])

    def lose_it(context):
        let_leases_expire()
        Step.objects.filter(pk=context.claim.id).update(fence=99)
        return Done({})

    workflows.BEHAVIOURS["a"] = lose_it
    run_all()
    tally.tally.save()

    assert scraped()["leases_lost_total", "toy.step"] == 1


@pytest.mark.django_db
def test_what_sweeps_found_is_counted():
    jobs_sweep._count(Swept(due=3, recovered=2, woken=1))
    jobs_sweep._count(Swept())
    tally.tally.save()

    found = scraped()

    assert found["sweeps_total",] == 2
    assert found["steps_made_due_total",] == 3
    assert found["steps_recovered_total",] == 2
    assert found["workers_woken_total",] == 1


@pytest.mark.django_db
def test_buckets_hold_what_is_at_most_their_limit():
    counted = Tally()
    for seconds in (0.005, 0.0051, 300, 301):
        counted.observe("step_seconds", seconds, handler="h")
    counted.save()

    found = scraped()

    assert found["step_seconds_bucket", "0.005", "h"] == 1
    assert found["step_seconds_bucket", "0.01", "h"] == 2
    assert found["step_seconds_bucket", "300", "h"] == 3
    assert found["step_seconds_bucket", "+Inf", "h"] == 4
    assert found["step_seconds_sum", "h"] == pytest.approx(601.0101)


@pytest.mark.django_db(transaction=True)
def test_processes_that_add_at_once_lose_nothing_and_wait_for_nobody_twice():
    def add_much():
        counted = Tally()
        for number in range(20):
            counted.count("step_retries", handler=f"h{number % 7}")
            counted.count("sweeps")
            counted.save()

    elsewhere(*[add_much] * 4)

    assert Metric.objects.get(name="sweeps").value == 80
    retries = Metric.objects.filter(name="step_retries")
    assert sum(retries.values_list("value", flat=True)) == 80


@pytest.mark.django_db
def test_what_could_not_be_saved_is_kept_and_saved_once(monkeypatch):
    counted = Tally()
    counted.count("sweeps", 2)

    def refuse():
        raise OperationalError("the server is gone")

    with monkeypatch.context() as away:
        away.setattr(tally.connection, "cursor", refuse)
        with pytest.raises(OperationalError):
            counted.save()
    counted.count("sweeps")
    counted.save()
    counted.save()

    assert Metric.objects.get().value == 3


@pytest.mark.django_db(transaction=True)
def test_real_workers_steps_and_the_schedulers_sweeps_are_told_here(broker, tmp_path):
    with running_worker(tmp_path, "worker") as worker:
        job = submit_toy([["a"], ["b"]])
        with running_scheduler(tmp_path):
            wait_until(lambda: Metric.objects.filter(name="sweeps").exists())
            wait_until(lambda: job.steps.filter(status="completed").count() == 2)
        worker.process.terminate()
        worker.process.wait(20)

    found = scraped()
    assert found["step_seconds_count", "toy.step"] == 2
    assert found["sweeps_total",] >= 1


# --- Who may read ----------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", 200),
        ("::1", 200),
        ("10.1.2.3", 200),
        ("192.168.0.9", 200),
        ("fd00::1", 200),
        ("::ffff:10.0.0.1", 200),
        ("8.8.8.8", 403),
        ("2001:4860:4860::8888", 403),
        ("::ffff:8.8.8.8", 403),
        ("", 403),
    ],
)
def test_only_this_machine_and_its_private_network_read_without_a_token(address, status):
    answer = Client(REMOTE_ADDR=address).get("/metrics")

    assert answer.status_code == status
    if status == 403:
        assert b"METRICS_TOKEN" in answer.content
        assert b"cartwright_" not in answer.content


@pytest.mark.django_db
@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_stranger_behind_a_proxy_of_ours_is_a_stranger(header):
    assert Client(REMOTE_ADDR="10.0.0.1").get("/metrics", headers={header: "x"}).status_code == 403


@pytest.mark.django_db
def test_token_opens_from_anywhere_and_a_wrong_one_from_nowhere(settings):
    settings.METRICS_TOKEN = "korrekt-Pferd"
    far, near = Client(REMOTE_ADDR="8.8.8.8"), Client()

    def status(client, token):
        return client.get("/metrics", headers={"authorization": f"Bearer {token}"}).status_code

    assert status(far, "korrekt-Pferd") == 200
    assert (status(far, "falsch"), status(near, "falsch"), status(far, "")) == (403, 403, 403)
    settings.METRICS_TOKEN = ""
    assert status(far, "") == 403
