"""/health: what is wrong and what to do; and the beats by which processes make themselves known."""

from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections
from django.db.models.functions import Now
from django.test import Client

from accounts.models import User
from jobs import health, processes
from jobs.health import HealthReader, State
from jobs.models import Process, Status, Step
from jobs.processes import Heart, host_queue
from jobs.tally import tally
from tests.jobs.workers import running_scheduler, running_worker
from tests.jobs.workflows import submit_toy
from tests.waiting import wait_until

HALF_A_MINUTE = timedelta(seconds=30)
GOOD = State(workers=2, sweep_age=1.0, oldest_ready=3.0, oldest_overdue=None, unserved_queues=[])


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch):
    monkeypatch.setattr(health, "reader", HealthReader())
    monkeypatch.setattr(health, "FRESH_SECONDS", -1.0)
    monkeypatch.setattr("jobs.watch.reader", health.reader)


def beat(kind, *queues, age=timedelta(0)):
    heart = Heart(kind, queues)
    heart.beat()
    Process.objects.filter(pk=heart.id).update(beat_at=Now() - age)
    return heart


def asked():
    answer = Client().get("/health")
    body = answer.json()
    wrong = {name for name, check in body["checks"].items() if not check["ok"]}
    assert (answer.status_code, body["status"]) == ((503, "trouble") if wrong else (200, "ok"))
    return wrong


def message(check):
    return Client().get("/health").json()["checks"][check]["message"]


# --- /health ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_all_is_well_while_a_worker_and_a_scheduler_beat(broker):
    beat("worker", "steps")
    beat("scheduler")
    submit_toy([["a"]])

    assert asked() == set()
    assert set(Client().get("/health").json()["checks"]) == {
        "database",
        "broker",
        "workers",
        "sweep",
        "oldest_due_step",
    }


@pytest.mark.django_db(transaction=True)
def test_nothing_runs_and_it_says_what_to_start(broker):
    assert asked() == {"workers", "sweep"}
    assert "celery -A config worker" in message("workers")
    assert "jobs_sweep --forever" in message("sweep")


@pytest.mark.django_db(transaction=True)
def test_processes_that_stopped_beating_are_not_believed_to_be_alive(broker):
    beat("worker", "steps", age=HALF_A_MINUTE)
    beat("scheduler", age=HALF_A_MINUTE)

    assert asked() == {"workers", "sweep"}
    assert "last alive 30 s ago" in message("sweep")


@pytest.mark.django_db(transaction=True)
def test_queue_that_no_worker_serves_is_named(broker):
    beat("worker", "steps")
    beat("scheduler")
    submit_toy([["a"]], options={"a": {"queue": "browsers"}})

    assert asked() == {"workers"}
    assert message("workers").endswith("-Q browsers")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("status", "age", "word"),
    [(Status.READY, 301, "workers are too few"), (Status.WAITING, 31, "scheduler's log")],
)
def test_late_step_says_whose_fault_it_is(broker, status, age, word):
    beat("worker", "steps")
    beat("scheduler")
    job = submit_toy([["a"]])
    late = Step.objects.filter(job=job)
    late.update(due_at=Now() - timedelta(seconds=age - 2))
    if status == Status.WAITING:
        late.update(status=Status.RUNNING, lease_expires_at=Now())
        late.update(status=status)
    assert asked() == set()

    late.update(due_at=Now() - timedelta(seconds=age))

    assert asked() == {"oldest_due_step"}
    assert word in message("oldest_due_step")


@pytest.mark.django_db(transaction=True)
def test_broker_that_is_gone_is_the_only_thing_that_is_wrong(settings):
    beat("worker", "steps")
    beat("scheduler")
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    assert asked() == {"broker"}
    assert "REDIS_URL" in message("broker")


@pytest.mark.django_db(transaction=True)
def test_database_that_is_gone_is_said_and_the_rest_is_not_known(broker, monkeypatch):
    nowhere = connection.get_connection_params() | {"host": "127.0.0.1", "port": 1}
    monkeypatch.setattr(connections["default"], "get_connection_params", nowhere.copy)

    assert asked() == {"database", "workers", "sweep", "oldest_due_step"}
    checks = Client().get("/health").json()["checks"]
    assert checks["database"]["ok"] is False
    assert "DATABASE_URL" in checks["database"]["message"]
    assert checks["workers"] == {"ok": None, "message": health.UNKNOWN.message}


def test_live_says_only_that_the_process_answers_and_asks_nobody():
    """Without the database: any query would fail this test."""
    answer = Client().get("/health/live")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.django_db(transaction=True)
def test_many_who_ask_at_once_share_one_answer(broker, monkeypatch):
    monkeypatch.setattr(health, "FRESH_SECONDS", 60.0)
    asked = []
    read = health.read_health
    monkeypatch.setattr(health, "read_health", lambda: asked.append(1) or read())

    for _ in range(3):
        Client().get("/health")

    assert asked == [1]


@pytest.mark.django_db(transaction=True)
def test_page_shows_staff_the_same_and_the_processes(broker):
    beat("worker", "steps", "browsers")
    gone = beat("scheduler", age=timedelta(minutes=5))
    client = Client()
    client.force_login(User.objects.create_user("alice", is_staff=True))

    page = client.get("/health/")

    text = page.content.decode()
    assert page.status_code == 200
    assert "The scheduler was last alive 300 s ago." in text
    assert "Vanished 5\xa0minutes ago" in text
    assert gone.name in text
    assert "browsers, steps" in text


@pytest.mark.django_db
def test_page_is_for_staff_only():
    client = Client()
    client.force_login(User.objects.create_user("bob"))

    assert client.get("/health/").status_code == 302
    assert Client().get("/health/").status_code == 302


def test_decisions_at_their_limits():
    assert health.decide_sweep(State(1, 30.0, None, None, [])).ok
    assert not health.decide_sweep(State(1, 30.1, None, None, [])).ok
    assert health.decide_oldest_due(State(1, 0.0, 300.0, 30.0, [])).ok
    assert not health.decide_oldest_due(State(1, 0.0, 300.1, None, [])).ok
    assert not health.decide_oldest_due(State(1, 0.0, None, 30.1, [])).ok
    assert all(
        check.ok
        for check in (
            health.decide_database(GOOD),
            health.decide_workers(GOOD),
            health.decide_sweep(GOOD),
            health.decide_oldest_due(GOOD),
        )
    )


# --- Beats -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_beat_renews_the_row_of_its_process_and_no_other():
    mine, other = beat("worker", "steps", age=HALF_A_MINUTE), beat("worker", age=HALF_A_MINUTE)

    mine.beat()

    alive = dict(processes.find_processes().values_list("pk", "is_alive"))
    assert alive == {mine.id: True, other.id: False}
    assert Process.objects.get(pk=mine.id).queues == ["steps"]


@pytest.mark.django_db
def test_process_that_ends_takes_its_row_away_and_one_that_begins_those_of_long_ago():
    ended, killed = beat("worker"), beat("worker", age=timedelta(hours=2))

    ended.end()
    assert list(Process.objects.values_list("pk", flat=True)) == [killed.id]

    begun = beat("worker")
    assert list(Process.objects.values_list("pk", flat=True)) == [begun.id]


@pytest.mark.django_db
def test_row_that_was_taken_away_comes_back_with_the_next_beat():
    heart = beat("worker", "steps")
    Process.objects.all().delete()

    heart.beat()

    assert Process.objects.get().queues == ["steps"]


@pytest.mark.django_db
def test_beat_outlives_a_database_that_is_away_and_keeps_what_was_counted(monkeypatch):
    heart = beat("worker")

    def refuse():
        raise OperationalError("the server is gone")

    tally.count("sweeps")
    with monkeypatch.context() as away:
        away.setattr(heart, "_beat", refuse)
        heart.beat()

    assert tally._counts["sweeps", ()] == 1
    heart.beat()
    assert tally._counts["sweeps", ()] == 0


@pytest.mark.django_db(transaction=True)
def test_real_worker_and_scheduler_make_themselves_known_and_go_in_good_order(broker, tmp_path):
    with running_worker(tmp_path, "worker") as worker:
        known = wait_until(lambda: Process.objects.filter(kind="worker").first())
        assert known.name.endswith(f":{worker.process.pid}")
        assert known.queues == [host_queue(), "steps"]
        with running_scheduler(tmp_path):
            wait_until(lambda: Process.objects.filter(kind="scheduler").exists())
            assert asked() == set()
        worker.process.terminate()
        assert worker.process.wait(20) == 0

    assert not Process.objects.filter(kind="worker").exists()
