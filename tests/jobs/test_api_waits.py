"""Messages, codes, approvals and signals over REST. Alice owns the job, Bob's team is another."""

import base64
import hashlib
import hmac
import json
import time
from urllib.parse import urlsplit

import pytest
from django.test import Client as HttpClient

from accounts.models import ApiKey, User, Workspace
from jobs.models import InboundMessage, InboundSource, OtpRequest, Signal, Status
from jobs.otp.requests import otp
from jobs.plans import Done, WaitFor
from jobs.runner import runner
from jobs.waits import approval, signal
from tests.jobs.rows import all_rows, get_job, get_step
from tests.jobs.workflows import BEHAVIOURS, submit_toy

pytestmark = pytest.mark.django_db

GOOD = "482913"
NOBODY = "0198c0de-7a11-7000-8000-000000000000"
PHONE = "+91 98765 43210"
WANTED = otp("otp", otp_type="gyftr_login", service="gyftr", phone=PHONE)


class Caller:
    def __init__(self, user=None):
        self.headers = {}
        if user:
            key, secret = ApiKey.issue(user, "test")
            self.headers = {"Authorization": f"token {key.key}:{secret}"}

    def post(self, path, body=None, *, raw=None, content_type="application/json", headers=None):
        return HttpClient().post(
            path,
            data=json.dumps(body) if raw is None else raw,
            content_type=content_type,
            headers=self.headers | (headers or {}),
        )


@pytest.fixture
def alice():
    return User.objects.create_user("alice")


@pytest.fixture
def bob():
    return User.objects.create_user("bob", workspace=Workspace.objects.create(name="Bob's"))


@pytest.fixture
def caller(alice):
    return Caller(alice)


def start(user, wanted=WANTED):
    def behave(context):
        if wanted is WANTED:
            code = context.find_code("otp")
            return Done({"typed": code.value == GOOD}) if code else WaitFor([wanted], "Waiting")
        answer = context.find_answer(wanted.name)
        return Done(answer.data) if answer else WaitFor([wanted], "Waiting")

    job = submit_toy([["a"]], created_by=user)
    BEHAVIOURS["a"] = behave
    runner.run_ready_steps(["steps"])
    return job


def result(job):
    runner.run_ready_steps(["steps"])
    return get_job(job).result


def code_of(answer):
    return answer.status_code, answer.json().get("code")


# ---- messages -----------------------------------------------------------------------------------

SMS_GATEWAY = {
    "deviceId": "ffffffffceb0b1db0000018e937c815b",
    "event": "sms:received",
    "id": "Ey6ECgOkVVFjz3CL48B8C",
    "webhookId": "LreFUt-Z3sSq0JufY9uWB",
    "payload": {
        "messageId": "abc123",
        "message": f"Your OTP is {GOOD}",
        "sender": "VM-GYFTR",
        "recipient": PHONE,
        "simNumber": 1,
        "receivedAt": "2026-01-05T12:00:00.000+05:30",
    },
}


@pytest.mark.parametrize(
    "body",
    [
        {"from": "VM-GYFTR", "text": f"Your OTP is {GOOD}", "sentStamp": 1767600000000, "sim": "1"},
        {"from": "VM-GYFTR", "text": f"Your OTP is {GOOD}"},
        SMS_GATEWAY,
        {"from": "no-reply@gyftr.example", "subject": "Your code", "text": f"It is {GOOD}."},
        {
            "name": "otp/received",
            "data": {"userId": "7", "otpText": GOOD, "originating_service": "gyftr"},
        },
        {"otpText": GOOD, "originating_service": "gyftr", "context_id": None},
    ],
)
def test_the_formats_of_forwarders_are_understood(body, caller, alice):
    job = start(alice)

    answer = caller.post("/api/otp/inbound", body)

    assert (answer.status_code, answer.json()["status"]) == (200, "given")
    assert GOOD not in answer.content.decode()
    assert result(job) == {"typed": True}


def test_a_message_again_is_the_same_message(caller, alice):
    start(alice)
    first = caller.post("/api/otp/inbound", SMS_GATEWAY).json()

    assert caller.post("/api/otp/inbound", SMS_GATEWAY).json() == first
    assert InboundMessage.objects.count() == 1


def test_an_event_that_brings_no_message_is_taken_note_of(caller):
    answer = caller.post("/api/otp/inbound", SMS_GATEWAY | {"event": "sms:delivered"})

    assert answer.json() == {"success": True, "status": "ignored"}
    assert not InboundMessage.objects.exists()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"no json", "INVALID_MESSAGE"),
        (b"[]", "INVALID_MESSAGE"),
        (b'{"from": "x"}', "INVALID_MESSAGE"),
        (b"", "INVALID_MESSAGE"),
        (b'{"text": ' + b"[" * 100_000, "INVALID_MESSAGE"),
    ],
)
def test_what_is_no_message_is_refused(raw, code, caller):
    assert code_of(caller.post("/api/otp/inbound", raw=raw)) == (400, code)
    assert not InboundMessage.objects.exists()


def test_who_is_not_known_may_not_send_messages(alice):
    job = start(alice)

    answer = Caller().post("/api/otp/inbound", {"from": "x", "text": f"OTP {GOOD}"})

    assert code_of(answer) == (401, "NOT_AUTHENTICATED")
    assert get_step(job, "a").status == Status.WAITING
    assert not InboundMessage.objects.exists()


def test_another_teams_message_is_not_for_our_request(alice, bob):
    job = start(alice)

    answer = Caller(bob).post("/api/otp/inbound", {"from": "x", "text": f"OTP {GOOD}"})

    assert answer.json()["status"] == "kept"
    assert get_step(job, "a").status == Status.WAITING


# ---- signed sources -----------------------------------------------------------------------------


def gateway_headers(raw, *, key=b"s3cret", at=None):
    timestamp = str(int(at or time.time()))
    signature = hmac.new(key, raw + timestamp.encode(), hashlib.sha256).hexdigest()
    return {"X-Signature": signature, "X-Timestamp": timestamp}


@pytest.fixture
def phone():
    return InboundSource.objects.create(
        name="Phone", kind="sms_gateway", secret="s3cret", phone_number=PHONE
    )


def test_a_signed_message_needs_no_key(alice, phone):
    job = start(alice)
    raw = json.dumps(SMS_GATEWAY).encode()

    answer = Caller().post(
        f"/api/otp/inbound?source={phone.pk}", raw=raw, headers=gateway_headers(raw)
    )

    assert answer.json()["status"] == "given"
    assert result(job) == {"typed": True}


@pytest.mark.parametrize("wrong", ["key", "body", "old", "absent"])
def test_a_message_with_a_wrong_signature_is_refused(wrong, alice, phone):
    job = start(alice)
    raw = json.dumps(SMS_GATEWAY).encode()
    headers = {
        "key": lambda: gateway_headers(raw, key=b"other"),
        "body": lambda: gateway_headers(raw + b" "),
        "old": lambda: gateway_headers(raw, at=time.time() - 400),
        "absent": dict,
    }[wrong]()

    answer = Caller().post(f"/api/otp/inbound?source={phone.pk}", raw=raw, headers=headers)

    assert code_of(answer) == (401, "INVALID_SIGNATURE")
    assert get_step(job, "a").status == Status.WAITING
    assert not InboundMessage.objects.exists()


def test_a_key_does_not_replace_a_signature(caller, phone):
    answer = caller.post(f"/api/otp/inbound?source={phone.pk}", SMS_GATEWAY)

    assert code_of(answer) == (401, "INVALID_SIGNATURE")


@pytest.mark.parametrize(("token", "status"), [("token", 200), ("other", 401)])
def test_twilio_signs_address_and_fields(token, status, alice, settings):
    settings.PUBLIC_URL = urlsplit("https://cartwright.example")
    start(alice)
    number = InboundSource.objects.create(name="Twilio", kind="twilio", secret="token")
    path = f"/api/otp/inbound?source={number.pk}"
    signed = (
        f"https://cartwright.example{path}BodyYour OTP is {GOOD}FromGYFTRMessageSidSM77To{PHONE}"
    )
    digest = hmac.new(token.encode(), signed.encode(), hashlib.sha1).digest()

    answer = Caller().post(
        path,
        raw=f"To=%2B91+98765+43210&From=GYFTR&MessageSid=SM77&Body=Your+OTP+is+{GOOD}",
        content_type="application/x-www-form-urlencoded",
        headers={"X-Twilio-Signature": base64.b64encode(digest).decode()},
    )

    assert answer.status_code == status


@pytest.mark.parametrize("source", ["nonsense", NOBODY])
def test_an_unknown_source_is_refused(source, caller):
    assert code_of(caller.post(f"/api/otp/inbound?source={source}", SMS_GATEWAY)) == (
        404,
        "UNKNOWN_SOURCE",
    )


def test_another_teams_source_is_unknown(bob):
    theirs = InboundSource.objects.create(name="SIM", kind="sms_forwarder")

    answer = Caller(bob).post(f"/api/otp/inbound?source={theirs.pk}", SMS_GATEWAY)

    assert code_of(answer) == (404, "UNKNOWN_SOURCE")


# ---- a code by hand -----------------------------------------------------------------------------


def test_a_code_is_given_to_its_request(caller, alice):
    job = start(alice)
    request = job.otp_requests.get()

    answer = caller.post(
        "/api/jobs/otp-received", {"otpRequestId": str(request.pk), "otpValue": GOOD}
    )

    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert result(job) == {"typed": True}


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ({"otpValue": ""}, (400, "INVALID_REQUEST")),
        ({"otpValue": "no code at all"}, (400, "INVALID_OTP")),
        ({"otpRequestId": NOBODY}, (404, "NOT_FOUND")),
        ({"otpRequestId": "nonsense"}, (400, "INVALID_REQUEST")),
        ({"otpKind": "sms"}, (400, "INVALID_REQUEST")),
    ],
)
def test_a_wrong_call_changes_nothing(body, refused, caller, alice):
    job = start(alice)
    rows = all_rows()
    right = {"otpRequestId": str(job.otp_requests.get().pk), "otpValue": GOOD}

    assert code_of(caller.post("/api/jobs/otp-received", right | body)) == refused

    assert all_rows() == rows
    assert OtpRequest.objects.get().otp_value is None


def test_another_teams_request_is_not_found(alice, bob):
    job = start(alice)
    body = {"otpRequestId": str(job.otp_requests.get().pk), "otpValue": GOOD}

    assert code_of(Caller(bob).post("/api/jobs/otp-received", body)) == (404, "NOT_FOUND")
    assert get_step(job, "a").status == Status.WAITING


def test_a_second_code_is_told_that_it_is_late(caller, alice):
    job = start(alice)
    body = {"otpRequestId": str(job.otp_requests.get().pk), "otpValue": GOOD}
    caller.post("/api/jobs/otp-received", body)

    assert code_of(caller.post("/api/jobs/otp-received", body)) == (409, "WAIT_CLOSED")


# ---- approvals and signals ----------------------------------------------------------------------


def test_an_approval_is_answered_once(caller, alice):
    job = start(alice, approval("pay", "Pay ₹6,000?", ("pay", "stop")))
    path = f"/api/jobs/{job.pk}/waits/{job.waits.get().pk}"

    assert code_of(caller.post(path, {"choice": "maybe"})) == (400, "INVALID_ANSWER")
    assert caller.post(path, {"choice": "pay"}).json() == {"success": True}
    assert code_of(caller.post(path, {"choice": "stop"})) == (409, "WAIT_CLOSED")
    assert result(job) == {"choice": "pay"}


@pytest.mark.parametrize("wait", ["nonsense", NOBODY])
def test_an_unknown_wait_is_not_found(wait, caller, alice):
    job = start(alice, approval("pay", "Pay?"))

    answer = caller.post(f"/api/jobs/{job.pk}/waits/{wait}", {"choice": "approve"})

    assert code_of(answer) == (404, "NOT_FOUND")


def test_another_teams_approval_is_not_found(alice, bob):
    job = start(alice, approval("pay", "Pay?"))
    path = f"/api/jobs/{job.pk}/waits/{job.waits.get().pk}"

    assert code_of(Caller(bob).post(path, {"choice": "approve"})) == (404, "NOT_FOUND")


def test_a_signal_wakes_the_job_of_its_own_team(caller, alice, bob):
    job = start(alice, signal("issued", "voucher.issued", {"order": 5}))
    body = {"topic": "voucher.issued", "fields": {"order": 5}, "key": "v-1"}

    assert Caller(bob).post("/api/signals", body).json()["job_id"] is None
    assert caller.post("/api/signals", body).json()["job_id"] == str(job.pk)
    assert caller.post("/api/signals", body).json()["job_id"] == str(job.pk)

    assert Signal.objects.count() == 2
    assert result(job) == {"order": 5}


def test_many_signals_in_one_call_wake_their_jobs(caller, alice):
    job = start(alice, signal("issued", "voucher.issued", {"order": 5}))
    signals = [{"topic": "voucher.issued", "fields": {"order": n}} for n in (4, 5)]

    sent = caller.post("/api/signals/bulk", {"signals": signals}).json()["signals"]

    assert [each["job_id"] for each in sent] == [None, str(job.pk)]
    assert [str(each.pk) for each in Signal.objects.order_by("id")] == [
        each["signal_id"] for each in sent
    ]


@pytest.mark.parametrize(
    "signals", [[], [{"topic": "x"}, {"fields": {}}], [{"topic": "x"}] * 501, "x"]
)
def test_a_bad_signal_among_many_sends_none(signals, caller):
    answer = caller.post("/api/signals/bulk", {"signals": signals})

    assert code_of(answer) == (400, "INVALID_REQUEST")
    assert not Signal.objects.exists()


# ---- what the log says --------------------------------------------------------------------------


def refusals(caplog):
    return [
        (record.msg["code"], record.msg["user"])
        for record in caplog.records
        if isinstance(record.msg, dict) and record.msg["event"] == "answer_refused"
    ]


@pytest.mark.parametrize("whose", ["unknown", "closed", "another team's"])
def test_a_refused_answer_is_logged_without_its_code(whose, caller, alice, bob, caplog):
    job = start(alice, approval("person", "Is it there?"))
    wait = job.waits.get(name="person")
    sender, user, refused = caller, "alice", "NOT_FOUND"
    if whose == "closed":
        caller.post(f"/api/jobs/{job.pk}/waits/{wait.pk}", {"choice": "approve"})
        refused = "WAIT_CLOSED"
    elif whose == "another team's":
        sender, user = Caller(bob), "bob"
    pk = NOBODY if whose == "unknown" else wait.pk

    sender.post(f"/api/jobs/{job.pk}/waits/{pk}", {"choice": "reject"})
    sender.post("/api/jobs/otp-received", {"otpRequestId": NOBODY, "otpValue": GOOD})

    assert refusals(caplog) == [(refused, user), ("NOT_FOUND", user)]
    assert GOOD not in caplog.text
    assert "reject" not in caplog.text
