"""Signed, retried on the standard's schedule, sent again after a crash, and nobody held up."""

import json
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from standardwebhooks import WebhookVerificationError

from jobs import steps
from jobs.errors import BusinessError
from jobs.models import Job, Step, WebhookDelivery, WebhookEndpoint
from jobs.runner import runner
from jobs.webhooks import deliveries, endpoints
from jobs.webhooks.deliveries import Answer, Message, claim_due, decide_delay, record
from jobs.webhooks.errors import EndpointDisabled
from jobs.webhooks.outbox import fan_out
from jobs.webhooks.payload import make_body
from jobs.webhooks.sending import BackgroundSender
from tests.jobs.clients import times_parsed
from tests.jobs.receivers import (
    endpoint_at,
    get_delivery,
    receiving,
    running_sender,
    send,
    send_due,
)
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import get_job, let_waits_end
from tests.jobs.workers import running_scheduler
from tests.jobs.workflows import submit_toy
from tests.waiting import wait_until

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def own_network(settings):
    """The receivers of these tests are on this machine."""
    settings.WEBHOOKS_ALLOW_PRIVATE = True


@pytest.fixture
def receiver():
    with receiving() as receiver:
        yield receiver


def new_delivery(endpoint: WebhookEndpoint, **fields) -> WebhookDelivery:
    delivery = deliveries.send_test(endpoint)
    WebhookDelivery.objects.filter(pk=delivery.pk).update(**fields)
    return delivery


def let_leases_end() -> None:
    WebhookDelivery.objects.update(lease_expires_at=Now() - HOUR)


def make_due() -> None:
    WebhookDelivery.objects.update(due_at=Now())


def due_in() -> float:
    """Seconds until the one delivery is due again."""
    rows = WebhookDelivery.objects.annotate(wait=F("due_at") - Now())
    return rows.values_list("wait", flat=True).get().total_seconds()


# --- What is sent -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_message_is_signed_and_says_what_happened(receiver):
    endpoint = endpoint_at(receiver.url, "job.completed", "step.started")
    job = submit_toy([["a"]])
    runner.run_ready_steps(["steps"])
    fan_out()

    send_due()

    step, job = Step.objects.get(job=job), get_job(job)
    messages = {m["type"]: m for m in (r.verified(endpoint.secret) for r in receiver.received)}
    completed, started = messages["job.completed"], messages["step.started"]
    for message in (completed, started):  # PostgreSQL writes no zeros at the end of a second
        message["data"] = {what: times_parsed(part) for what, part in message["data"].items()}
    event = job.events.get(kind="job.completed")
    assert completed == {
        "type": "job.completed",
        "timestamp": event.at.isoformat(),
        "data": {
            "job": {
                "id": str(job.pk),
                "workflow": "toy",
                "title": "Toy",
                "created_at": job.created_at,
                "status": "completed",
                "progress": 100,
                "result": {"ran": "a"},
                "error": None,
                "started_at": job.started_at,
                "finished_at": job.finished_at,
            },
            "step": None,
            "event": {"number": 4, "message": "Toy"},
        },
    }
    # As it was right then, though the job has ended since.
    assert started["data"]["job"]["status"] == "running"
    assert started["data"]["job"]["result"] is None
    assert started["data"]["step"] == {
        "id": str(step.pk),
        "name": "a",
        "title": "Step a",
        "status": "running",
        "attempt": 1,
        "progress": 0,
        "phase": "",
        "error": None,
        "due_at": None,
        "started_at": step.started_at,
        "finished_at": None,
    }
    assert {r.headers["content-type"] for r in receiver.received} == {"application/json"}
    assert set(receiver.ids) == set(WebhookDelivery.objects.values_list("pk", flat=True))
    assert set(WebhookDelivery.objects.values_list("status", "attempt", "response_status")) == {
        ("delivered", 1, 204)
    }


@pytest.mark.django_db
def test_failure_is_told_with_its_error_and_without_the_parameters():
    endpoint_at("https://erp.example/", "job.failed")
    job = submit_toy([["a"]], options={"a": {"params": {"password": "geheim-4711"}}})
    claimed = steps.claim_next(["steps"], worker="alice")
    steps.fail(claimed, BusinessError("out_of_stock", "Sold out."))
    fan_out()

    body = make_body(get_delivery())

    data = json.loads(body)["data"]
    assert data["job"]["status"] == "failed"
    assert data["job"]["error"] == {"code": "out_of_stock", "message": "Sold out."}
    assert data["event"] == {"number": get_job(job).last_event, "message": "Sold out."}
    assert "geheim-4711" not in body


@pytest.mark.django_db
def test_result_that_is_too_large_is_left_out():
    endpoint_at("https://erp.example/", "job.completed")
    submit_toy([["a"]])
    steps.complete(
        steps.claim_next(["steps"], worker="alice"), {"x": "y" * 20_000}, queues=[], worker="alice"
    )
    fan_out()

    body = make_body(get_delivery())

    job = json.loads(body)["data"]["job"]
    assert (job["result"], job["result_omitted"]) == (None, True)
    assert len(body) < 20_000


@pytest.mark.django_db
def test_every_attempt_has_the_same_id_and_body_and_a_time_of_its_own(receiver, time_machine):
    endpoint = endpoint_at(receiver.url, "step.started")
    submit_toy([["a"], ["b"]])
    steps.claim_next(["steps"], worker="alice")
    fan_out()
    receiver.status = 500

    time_machine.move_to(datetime(2026, 1, 1, 12, tzinfo=UTC), tick=False)
    send_due()
    runner.run_ready_steps(["steps"])  # the job goes on meanwhile
    let_waits_end()
    make_due()
    time_machine.move_to(datetime(2026, 1, 1, 12, 30, tzinfo=UTC), tick=False)
    receiver.status = 200
    send_due()

    first, second = receiver.received
    assert (first.id, first.body) == (second.id, second.body)
    times = [int(r.headers["webhook-timestamp"]) for r in receiver.received]
    assert times[1] - times[0] == 1800
    assert second.verified(endpoint.secret)["type"] == "step.started"


@pytest.mark.django_db
def test_both_secrets_sign_until_the_old_one_ends(receiver):
    endpoint = endpoint_at(receiver.url)
    old = endpoint.secret
    rotated = endpoints.rotate_secret(endpoint.pk)
    new = rotated.secret

    new_delivery(endpoint)
    send_due()
    WebhookEndpoint.objects.update(old_secret_expires_at=Now())
    new_delivery(endpoint)
    send_due()

    during, after = receiver.received
    assert old != new
    assert during.headers["webhook-signature"].count("v1,") == 2
    assert during.verified(old) == during.verified(new)
    assert after.headers["webhook-signature"].count("v1,") == 1
    assert after.verified(new)["type"] == "webhook.test"
    with pytest.raises(WebhookVerificationError):
        after.verified(old)
    assert endpoints.forget_old_secrets() == 1
    assert WebhookEndpoint.objects.get().old_secret is None


@pytest.mark.django_db
def test_secret_that_has_leaked_ends_at_once(receiver):
    endpoint = endpoint_at(receiver.url)
    old = endpoint.secret

    new = endpoints.rotate_secret(endpoint.pk, keep_old=timedelta(0)).secret
    new_delivery(endpoint)
    send_due()

    assert receiver.received[0].verified(new)
    with pytest.raises(WebhookVerificationError):
        receiver.received[0].verified(old)


@pytest.mark.django_db
def test_secrets_are_sealed_in_the_database():
    endpoint = endpoint_at()
    first = endpoint.secret
    second = endpoints.rotate_secret(endpoint.pk).secret

    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(w)::text FROM jobs_webhookendpoint w")
        stored = cursor.fetchone()[0]

    for secret in (first, second):
        assert secret.startswith("whsec_")
        assert secret.encode().hex() not in stored
        assert secret not in stored
    kept = WebhookEndpoint.objects.get()
    assert (kept.secret, kept.old_secret) == (second, first)


# --- The schedule -----------------------------------------------------------------------------


def test_schedule_is_the_standards():
    failed = Answer(status=500)

    delays = [decide_delay(failed, tries, 0.0) for tries in range(1, 11)]

    hours = [delay.total_seconds() / 3600 for delay in delays[3:-1]]
    assert delays[:3] == [timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30)]
    assert hours == [2, 5, 10, 14, 20, 24]
    assert delays[-1] is None
    assert decide_delay(failed, 1, 1.0) == timedelta(seconds=5.5)


@pytest.mark.parametrize(
    ("answer", "delay"),
    [
        (Answer(status=410), None),
        (Answer(status=503, retry_after=timedelta(minutes=10)), timedelta(minutes=10)),
        (Answer(status=429, retry_after=timedelta(seconds=1)), timedelta(seconds=5)),
        (Answer(status=503, retry_after=timedelta(days=400)), DAY),
        (Answer(error="No whole answer within 15 s."), timedelta(seconds=5)),
    ],
)
def test_answer_decides_about_the_next_attempt(answer, delay):
    assert decide_delay(answer, 1, 0.0) == delay


@pytest.mark.django_db
def test_failed_attempt_is_due_again_as_a_row(receiver):
    endpoint = endpoint_at(receiver.url)
    new_delivery(endpoint)
    receiver.status, receiver.body = 500, b"Oh\0 no " + b"!" * 2000

    send_due()

    delivery = get_delivery()
    assert (delivery.status, delivery.attempt, delivery.response_status) == ("pending", 1, 500)
    assert delivery.response_body == ("Oh� no " + "!" * 2000)[:1000]
    assert delivery.error == "The receiver answered 500 Internal Server Error"
    assert delivery.lease_expires_at is None
    assert 4 < due_in() <= 5.5
    assert WebhookEndpoint.objects.get().failing_since is not None
    assert claim_due(100) == []

    make_due()
    receiver.status = 201
    send_due()

    delivery = get_delivery()
    assert (delivery.status, delivery.attempt, delivery.error) == ("delivered", 2, "")
    assert delivery.delivered_at is not None
    assert WebhookEndpoint.objects.get().failing_since is None


@pytest.mark.django_db
def test_every_attempt_is_kept_with_its_answer_and_the_time_it_took(receiver):
    new_delivery(endpoint_at(receiver.url))
    receiver.status, receiver.body = 500, b"Oh no " + b"!" * 400
    send_due()
    make_due()
    receiver.status, receiver.body = 204, b""
    send_due()

    failed, delivered = get_delivery().history
    assert 0 < failed.pop("seconds") < 15
    assert 0 < delivered.pop("seconds") < 15
    times = [datetime.fromisoformat(each.pop("at")) for each in (failed, delivered)]
    assert get_delivery().created_at <= times[0] <= times[1]
    assert failed == {
        "attempt": 1,
        "status": 500,
        "body": "Oh no " + "!" * 294,
        "error": "The receiver answered 500 Internal Server Error",
    }
    assert delivered == {"attempt": 2, "status": 204, "body": "", "error": ""}


@pytest.mark.django_db
def test_only_the_newest_attempts_are_kept():
    new_delivery(endpoint_at())
    for _ in range(22):
        make_due()
        [message] = claim_due(100)
        assert record(message, Answer(error="No whole answer within 15 s."))
        deliveries.redeliver(get_delivery())

    kept = [attempt["attempt"] for attempt in get_delivery().history]
    assert kept == list(range(3, 23))


@pytest.mark.django_db
def test_attempt_of_a_killed_sender_is_missing_and_a_late_one_adds_nothing():
    new_delivery(endpoint_at())
    [killed] = claim_due(100)
    let_leases_end()
    [current] = claim_due(100)

    assert record(killed, Answer(status=200)) is False
    assert get_delivery().history == []
    assert record(current, Answer(status=200, seconds=0.5)) is True

    assert [(one["attempt"], one["seconds"]) for one in get_delivery().history] == [(2, 0.5)]


@pytest.mark.django_db
def test_receiver_that_says_when_is_heeded(receiver):
    new_delivery(endpoint_at(receiver.url))
    receiver.status, receiver.headers = 503, {"Retry-After": "3600"}

    send_due()

    assert 3590 < due_in() <= 3600


@pytest.mark.django_db
def test_redirect_is_a_failure_and_not_followed(receiver):
    new_delivery(endpoint_at(receiver.url))
    with receiving() as other:
        receiver.status, receiver.headers = 307, {"Location": other.url}
        send_due()
        assert other.received == []

    delivery = get_delivery()
    assert (delivery.status, delivery.response_status) == ("pending", 307)
    assert other.url in delivery.error


@pytest.mark.django_db
def test_receiver_that_is_gone_is_disabled_and_sent_nothing_more(receiver):
    endpoint = endpoint_at(receiver.url)
    receiver.status = 410
    new_delivery(endpoint)
    send_due()

    endpoint.refresh_from_db()
    assert endpoint.disabled_at is not None
    assert endpoint.disabled_reason == "The receiver answered 410 Gone: it wants nothing more."
    assert get_delivery().status == "failed"
    submit_toy([["a"]])
    fan_out()
    assert WebhookDelivery.objects.count() == 1
    with pytest.raises(EndpointDisabled):
        deliveries.redeliver(WebhookDelivery.objects.get())
    assert get_delivery().status == "failed"


@pytest.mark.django_db
@pytest.mark.parametrize(("failing_for", "is_disabled"), [(DAY, False), (3 * DAY, True)])
def test_last_failure_disables_an_endpoint_that_took_nothing_for_days(
    receiver, failing_for, is_disabled
):
    endpoint = endpoint_at(receiver.url)
    new_delivery(endpoint, attempt=9)
    WebhookEndpoint.objects.update(failing_since=Now() - failing_for)
    receiver.status = 500

    send_due()

    endpoint.refresh_from_db()
    assert get_delivery().status == "failed"
    assert get_delivery().attempt == 10
    assert (endpoint.disabled_at is not None) is is_disabled
    assert endpoint.disabled_reason == (
        "Nothing could be delivered for 3 days." if is_disabled else ""
    )


@pytest.mark.django_db
def test_what_is_pending_waits_while_its_endpoint_is_disabled(receiver):
    endpoint = endpoint_at(receiver.url)
    new_delivery(endpoint)
    endpoints.disable(endpoint.pk, "Disabled by alice.")
    assert claim_due(100) == []

    endpoints.enable(endpoint.pk)
    send_due()

    assert get_delivery().status == "delivered"


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["failed", "delivered"])
def test_message_sent_anew_keeps_its_id_and_begins_its_schedule_again(receiver, status):
    endpoint = endpoint_at(receiver.url)
    delivery = new_delivery(endpoint, status=status, attempt=10, due_at=Now() - HOUR)
    assert claim_due(100) == []
    receiver.status = 500

    deliveries.redeliver(WebhookDelivery.objects.get())
    send_due()

    assert receiver.ids == [delivery.pk]
    assert (get_delivery().status, get_delivery().attempt) == ("pending", 11)
    assert 4 < due_in() <= 5.5


@pytest.mark.django_db
def test_message_of_a_job_that_is_gone_fails_and_blames_nobody():
    endpoint_at()
    job = submit_toy([["a"]])
    fan_out()
    # As the archive does it, without the cascade.
    Step.objects.filter(job=job).delete()
    job.events.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM jobs_job")

    send_due()

    delivery = get_delivery()
    assert (delivery.status, delivery.error) == (
        "failed",
        "The job and its events have been deleted, so there is nothing to send any more.",
    )
    assert WebhookEndpoint.objects.get().failing_since is None
    assert Job.objects.count() == 0


@pytest.mark.django_db
def test_secret_that_cannot_be_opened_stops_only_its_own_endpoint(receiver):
    broken, sound = endpoint_at(receiver.url), endpoint_at(receiver.url)
    new_delivery(broken), new_delivery(sound)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE jobs_webhookendpoint SET secret = %s WHERE id = %s",
            [bytes(WebhookEndpoint.objects.get(pk=sound.pk).__dict__["secret"]), broken.pk],
        )

    send_due()

    assert sound.deliveries.get().status == "delivered"
    assert broken.deliveries.get().status == "pending"
    assert "jobs_webhookendpoint.secret" in broken.deliveries.get().error


@pytest.mark.django_db
def test_old_deliveries_are_forgotten():
    endpoint = endpoint_at()
    new_delivery(endpoint, created_at=Now() - 31 * DAY, status="delivered")
    kept = new_delivery(endpoint, created_at=Now() - 29 * DAY, status="delivered")

    assert deliveries.forget_old() == 1

    assert get_delivery().pk == kept.pk


# --- Several senders, and crashes -------------------------------------------------------------


@pytest.mark.django_db
def test_killed_senders_message_goes_out_again_with_its_id(receiver):
    new_delivery(endpoint_at(receiver.url))
    [killed] = claim_due(100)
    send(killed)  # and dies before it can write that down
    assert claim_due(100) == []  # its lease holds

    let_leases_end()
    send_due()

    assert receiver.ids == [killed.id, killed.id]
    assert (get_delivery().status, get_delivery().attempt) == ("delivered", 2)


@pytest.mark.django_db
def test_late_sender_changes_nothing():
    new_delivery(endpoint_at())
    [late] = claim_due(100)
    let_leases_end()
    [current] = claim_due(100)
    assert (late.id, late.attempt, current.attempt) == (current.id, 1, 2)

    assert record(late, Answer(status=410)) is False
    assert get_delivery().status == "pending"
    assert get_delivery().lease_expires_at is not None
    assert WebhookEndpoint.objects.get().disabled_at is None

    assert record(current, Answer(status=200)) is True
    assert record(current, Answer(status=500)) is False
    assert get_delivery().status == "delivered"


@pytest.mark.django_db(transaction=True)
def test_senders_share_what_is_due_and_no_endpoint_gets_more_than_four_at_once():
    first, second = endpoint_at(), endpoint_at()
    for _ in range(10):
        new_delivery(first), new_delivery(second)

    claimed = elsewhere(*[lambda: claim_due(100)] * 3)
    claimed.append(claim_due(100))  # for who was turned away by another's lock

    ids = [message.id for messages in claimed for message in messages]
    assert len(ids) == len(set(ids)) == 8
    assert first.deliveries.filter(attempt=1).count() == 4
    assert second.deliveries.filter(attempt=1).count() == 4


@pytest.mark.django_db
def test_claim_takes_no_more_than_the_sender_has_room_for():
    endpoint = endpoint_at()
    for _ in range(4):
        new_delivery(endpoint)

    assert [len(claim_due(3)), len(claim_due(3)), len(claim_due(3))] == [3, 1, 0]


@pytest.mark.django_db(transaction=True)
def test_slow_receiver_has_four_at_once_and_holds_up_no_other(receiver):
    with receiving() as slow:
        slow.gate.clear()
        slow_one, quick_one = endpoint_at(slow.url), endpoint_at(receiver.url)
        for _ in range(12):
            new_delivery(slow_one), new_delivery(quick_one)

        with running_sender():
            wait_until(lambda: len(receiver.received) == 12)
            wait_until(lambda: len(slow.received) == 4)
            wait_until(lambda: quick_one.deliveries.filter(status="delivered").count() == 12)
            assert slow_one.deliveries.filter(status="delivered").count() == 0
            slow.gate.set()
            wait_until(lambda: slow_one.deliveries.filter(status="delivered").count() == 12)

    assert slow.most_waiting == 4
    assert len(set(slow.ids)) == len(slow.ids) == 12


@pytest.mark.django_db(transaction=True)
def test_sender_that_is_stopped_finishes_what_it_sends_and_begins_nothing(receiver):
    receiver.gate.clear()
    endpoint = endpoint_at(receiver.url)
    for _ in range(6):
        new_delivery(endpoint)

    sender = BackgroundSender(allow_private=True)
    wait_until(lambda: len(receiver.received) == 4)
    stopping = threading.Thread(target=sender.stop)
    stopping.start()
    wait_until(sender._running[1].cancelling)
    receiver.gate.set()
    stopping.join(10)

    assert sorted(endpoint.deliveries.values_list("status", "attempt")) == [
        *[("delivered", 1)] * 4,
        *[("pending", 0)] * 2,
    ]


@pytest.mark.django_db(transaction=True)
def test_scheduler_sends_without_a_broker_and_sweeps_while_a_receiver_is_slow(
    receiver, tmp_path, monkeypatch
):
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")  # nobody is there
    monkeypatch.setenv("WEBHOOKS_ALLOW_PRIVATE", "true")
    endpoint = endpoint_at(receiver.url, "job.created")
    waiting = submit_toy([["a"]])
    claimed = steps.claim_next(["steps"], worker="alice")
    receiver.gate.clear()

    with running_scheduler(tmp_path):
        wait_until(lambda: receiver.received)
        steps.postpone(claimed, delay=timedelta(seconds=0.1), reason="Not now.")
        wait_until(lambda: Step.objects.get(job=waiting).status == "ready")
        assert get_delivery().status == "pending"
        receiver.gate.set()
        wait_until(lambda: get_delivery().status == "delivered")

    assert receiver.received[0].verified(endpoint.secret)["data"]["job"]["id"] == str(waiting.pk)


# --- Where it goes ----------------------------------------------------------------------------


def message_to(url: str) -> Message:
    secrets = ["whsec_" + "c2VjcmV0" * 4]
    return Message("msg_1", 1, 1, url, datetime.now(UTC), secrets=secrets, body='{"type":"x"}')


def resolving(*addresses: str):
    """A resolver that gives one list of addresses after another, and then none at all."""
    answers = [address.split() for address in addresses]

    async def resolve(host: str, port: int) -> list[str]:
        return answers.pop(0)

    return resolve


def test_private_address_is_refused_and_not_connected_to(receiver):
    [answer] = send(message_to(receiver.url), allow_private=False)

    assert answer.status is None
    assert answer.error == (
        "127.0.0.1 is the private address 127.0.0.1. Set WEBHOOKS_ALLOW_PRIVATE=true if your "
        "receiver is on your own network."
    )
    assert receiver.connections == 0


def test_name_with_one_private_address_is_refused_whole(receiver):
    url = f"http://rebind.example:{receiver.port}/"
    resolve = resolving("93.184.216.34 127.0.0.1")

    [answer] = send(message_to(url), allow_private=False, resolve=resolve)

    assert "rebind.example is the private address 127.0.0.1" in answer.error
    assert receiver.connections == 0


def test_connection_goes_to_the_address_that_was_checked(receiver):
    url = f"http://erp.example:{receiver.port}/hooks?a=b"

    [answer] = send(message_to(url), resolve=resolving("127.0.0.1"))  # which answers once only

    assert answer.status == 204
    assert receiver.received[0].path == "/hooks?a=b"
    assert receiver.received[0].headers["host"] == f"erp.example:{receiver.port}"


def test_next_address_is_tried_when_nobody_is_at_the_first(receiver):
    url = f"http://erp.example:{receiver.port}/"

    [answer] = send(message_to(url), resolve=resolving("::1 127.0.0.1"))

    assert answer.status == 204


def test_certificate_must_be_of_the_name(tmp_path, monkeypatch):
    certificate = make_certificate(tmp_path, "erp.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with receiving(context) as receiver:
        right = message_to(f"https://erp.example:{receiver.port}/")
        wrong = message_to(f"https://other.example:{receiver.port}/")

        [answer] = send(right, resolve=resolving("127.0.0.1"))
        [refused] = send(wrong, resolve=resolving("127.0.0.1"))

        assert answer.status == 204
        assert "not valid for 'other.example'" in refused.error
        assert len(receiver.received) == 1


TOO_SLOW = Answer(
    error="No whole answer within 0.2 s. The receiver has to answer first and do its work "
    "afterwards."
)


def test_receiver_that_does_not_answer_in_time_has_failed(receiver):
    receiver.gate.clear()

    [answer] = send(message_to(receiver.url), seconds=0.2)

    assert answer == TOO_SLOW


def test_answer_that_drips_for_ever_has_failed(receiver):
    receiver.status, receiver.is_endless = 200, True

    [answer] = send(message_to(receiver.url), seconds=0.2)

    assert answer == TOO_SLOW


def test_answer_without_end_is_read_only_as_far_as_it_is_kept(receiver):
    receiver.status, receiver.is_endless, receiver.body = 200, True, b"x" * 100_000

    [answer] = send(message_to(receiver.url), seconds=10)

    assert (answer.status, answer.body) == (200, "x" * 1000)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://127.0.0.1:1/", "ConnectError"),
        ("http://name.invalid/", "The name cannot be resolved"),
    ],
)
def test_failure_to_connect_is_an_answer_too(url, error):
    [answer] = send(message_to(url))

    assert answer.status is None
    assert answer.error.startswith(error)
    assert "Check" in answer.error
    assert answer.error.endswith("the webhook's URL.")


def make_certificate(folder, name):
    """A file with a self-signed certificate for `name`, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path
