"""Codes: asked for by a step, given once, tried at most three times, and erased."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import FIRST_WORKSPACE, User, Workspace
from jobs.control import rerun_job
from jobs.errors import InvalidAnswer, WaitClosed
from jobs.models import Event, InboundMessage, OtpRequest, OtpRule, Status, Step, Wait
from jobs.otp import messages
from jobs.otp.messages import Inbound, erase_old_codes, receive
from jobs.otp.requests import enter_code, otp
from jobs.plans import Done, WaitFor
from jobs.runner import runner
from jobs.steps import claim_next
from jobs.sweep import make_due_ready
from tests.jobs.rivals import elsewhere
from tests.jobs.rows import LONG_AGO, event_kinds, get_job, get_step
from tests.jobs.workflows import BEHAVIOURS, submit_toy

GOOD = "482913"
PHONE = "+91 98765 43210"
TYPED: list[str] = []  # what the site was shown, in order


def run_all():
    return runner.run_ready_steps(["steps"])


def log_in(*, service="gyftr", good=GOOD, **asked):
    """A step that types codes until the site takes one."""

    def behave(context):
        wanted = otp("otp", otp_type="gyftr_login", service=service, phone=PHONE, **asked)
        code = context.find_code("otp")
        if code is None:
            return WaitFor([wanted], "Waiting for the code")
        TYPED.append(code.value)
        if code.value != good:
            context.reject_code("otp")
            return WaitFor([wanted], "The code was wrong; waiting for another one")
        context.accept_code("otp")
        return Done({"attempt": code.attempt})

    return behave


def start(name="a", **how):
    job = submit_toy([[name]])
    BEHAVIOURS[name] = log_in(**how)
    run_all()
    return job


def sms(text=f"Your OTP is {GOOD}", *, sender="VM-GYFTR", recipient=PHONE, **more):
    inbound = Inbound(sender, text, recipient=recipient, **more)
    return receive(inbound, workspace_id=FIRST_WORKSPACE)


def request_of(job):
    return job.otp_requests.get()


@pytest.fixture(autouse=True)
def nothing_typed():
    TYPED.clear()


@pytest.fixture
def alice(db):
    return User.objects.create_user("alice")


# ---- asking and getting -------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_request_is_a_row_with_its_deadline():
    job = start()

    request = request_of(job)
    assert (request.otp_type, request.service, request.status) == (
        "gyftr_login",
        "gyftr",
        "requested",
    )
    assert request.timeout_at - request.requested_at == timedelta(minutes=5)
    assert get_step(job, "a").due_at == request.timeout_at


@pytest.mark.django_db
def test_a_message_wakes_the_step_which_types_the_code():
    job = start()

    message = sms()
    assert (message.status, message.given_to) == ("given", request_of(job))
    run_all()

    assert TYPED == [GOOD]
    assert get_job(job).result == {"attempt": 1}
    assert request_of(job).status == "verified"


@pytest.mark.django_db
def test_a_message_that_is_there_first_is_kept_and_used():
    message = sms()
    assert message.status == "kept"

    start()
    run_all()

    assert TYPED == [GOOD]
    message.refresh_from_db()
    assert message.status == "given"


@pytest.mark.django_db
def test_a_step_that_has_its_code_goes_before_all_others():
    waiting = start()
    submit_toy([["b"]], priority=10)

    sms()

    assert claim_next(["steps"], worker="alice").job_id == waiting.pk


@pytest.mark.django_db
def test_a_message_from_long_before_is_not_used():
    message = sms()
    InboundMessage.objects.update(received_at=Now() - timedelta(minutes=3))

    job = start()
    run_all()

    assert TYPED == []
    assert request_of(job).status == "requested"
    message.refresh_from_db()
    assert message.status == "kept"


@pytest.mark.django_db
def test_what_came_before_the_site_was_asked_is_not_used():
    sms()

    start(sent_after=timezone.now())
    run_all()

    assert TYPED == []


@pytest.mark.parametrize(
    ("text", "recipient"),
    [("Your OTP is 482913", "+91 90000 00001"), ("Your parcel 482913 is on its way", PHONE)],
)
@pytest.mark.django_db
def test_another_phones_message_or_one_without_a_code_wakes_nobody(text, recipient):
    job = start()

    message = sms(text, recipient=recipient)

    assert message.status in ("kept", "no_code")
    assert get_step(job, "a").status == Status.WAITING


@pytest.mark.django_db
def test_another_workspaces_message_wakes_nobody():
    job = start()
    theirs = Workspace.objects.create(name="Theirs")

    receive(Inbound("VM-GYFTR", f"OTP {GOOD}", PHONE), workspace_id=theirs.pk)

    assert get_step(job, "a").status == Status.WAITING


@pytest.mark.django_db
def test_rules_tell_two_services_on_one_phone_apart():
    OtpRule.objects.create(service="gyftr", sender="GYFTR")
    OtpRule.objects.create(service="amazon", sender="AMZN")
    gyftr, amazon = start("g"), start("a", service="amazon", good="551002")

    sms("551002 is your OTP", sender="AX-AMZNIN")
    sms(sender="VM-GYFTR")
    run_all()

    assert (get_job(gyftr).status, get_job(amazon).status) == (Status.COMPLETED, Status.COMPLETED)
    assert sorted(TYPED) == [GOOD, "551002"]


# ---- one taker ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_same_message_twice_is_one_message():
    first, second = start("a"), sms()
    assert second.status == "given"
    run_all()
    other = start("b")

    assert sms() == second

    assert InboundMessage.objects.count() == 1
    assert request_of(other).status == "requested"
    assert get_job(first).status == Status.COMPLETED


@pytest.mark.django_db
def test_the_sources_id_makes_two_messages_of_the_same_words():
    one, two = sms(external_id="1"), sms(external_id="2")

    assert one != two
    assert sms(external_id="1", text="Your OTP is 999999") == one


@pytest.mark.django_db(transaction=True)
def test_a_message_delivered_eight_times_at_once_is_given_once():
    job = start()

    messages = elsewhere(*[sms] * 8)

    assert len({message.pk for message in messages}) == 1
    assert event_kinds(job).count("step.answered") == 1


@pytest.mark.django_db(transaction=True)
def test_two_requests_and_two_messages_at_once_each_get_one():
    OtpRule.objects.create(service="gyftr", pattern=r"order (?P<context>\d+) is (?P<code>\d{6})")
    jobs = [
        start("a", context="1", good="111111"),
        start("b", context="2", good="222222"),
    ]

    elsewhere(
        lambda: sms("OTP for order 2 is 222222"),
        lambda: sms("OTP for order 1 is 111111"),
        lambda: sms("OTP for order 1 is 111111"),
    )
    run_all()

    assert sorted(TYPED) == ["111111", "222222"]
    assert [get_job(job).status for job in jobs] == [Status.COMPLETED] * 2


# ---- a person -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_two_that_could_be_meant_wait_for_a_person(alice):
    first, second = start("a"), start("b")

    message = sms()

    assert (message.status, message.code) == ("unclear", GOOD)
    assert "2 requests may be meant" in message.reason
    assert request_of(first).status == request_of(second).status == "requested"

    messages.assign(message, request_of(second).pk, alice)
    run_all()

    assert (get_job(first).status, get_job(second).status) == (Status.RUNNING, Status.COMPLETED)
    with pytest.raises(WaitClosed):
        messages.assign(message, request_of(first).pk, alice)


@pytest.mark.django_db
def test_a_code_may_be_typed_by_hand(alice):
    job = start()

    enter_code(request_of(job).pk, " 482 913 ", alice)
    run_all()

    assert get_job(job).status == Status.COMPLETED
    assert job.events.get(kind="step.answered").message == "alice entered the code."


@pytest.mark.parametrize("code", ["", "12", "a code with words in it", "1234567890123"])
@pytest.mark.django_db
def test_what_is_no_code_changes_nothing(code, alice):
    job = start()

    with pytest.raises(InvalidAnswer):
        enter_code(request_of(job).pk, code, alice)

    assert request_of(job).status == "requested"
    assert get_step(job, "a").status == Status.WAITING


@pytest.mark.django_db
def test_a_code_for_a_request_that_has_one_is_refused(alice):
    job = start()
    enter_code(request_of(job).pk, GOOD, alice)

    with pytest.raises(WaitClosed):
        enter_code(request_of(job).pk, "551002", alice)

    run_all()
    assert TYPED == [GOOD]


# ---- wrong, late, never -------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_wrong_code_is_asked_for_again():
    job = start()

    sms("Your OTP is 111111")
    run_all()
    assert request_of(job).status == "requested"
    sms()
    run_all()

    assert TYPED == ["111111", GOOD]
    assert get_job(job).result == {"attempt": 2}
    assert (request_of(job).attempts_count, job.waits.count()) == (2, 2)


@pytest.mark.django_db
def test_after_three_wrong_codes_a_person_takes_over():
    job = start()

    for code in ("111111", "222222", "333333"):
        sms(f"Your OTP is {code}")
        run_all()

    job = get_job(job)
    assert (job.status, job.error["code"]) == (Status.MANUAL, "otp_rejected")
    assert TYPED == ["111111", "222222", "333333"]
    assert sms().status == "kept"


@pytest.mark.django_db
def test_a_code_that_never_comes_fails_the_step_after_five_minutes():
    job = start()
    Wait.objects.update(deadline_at=Now() - LONG_AGO)
    Step.objects.filter(status=Status.WAITING).update(due_at=Now() - LONG_AGO)
    make_due_ready()
    run_all()

    assert get_job(job).error["code"] == "otp_expired"
    assert request_of(job).status == "expired"
    assert sms().status == "kept"  # too late: recorded, never used


@pytest.mark.django_db
def test_a_worker_lost_with_the_code_in_hand_has_it_again():
    job = start()
    sms()
    answered = BEHAVIOURS["a"]
    BEHAVIOURS["a"] = lambda context: context.find_code("otp") and 1 / 0
    run_all()
    assert get_step(job, "a").status == Status.WAITING  # a retry

    BEHAVIOURS["a"] = answered
    Step.objects.filter(status=Status.WAITING).update(due_at=Now() - LONG_AGO)
    make_due_ready()
    run_all()

    assert get_job(job).status == Status.COMPLETED


@pytest.mark.parametrize("codes", [[GOOD], ["111111", "222222", "333333"]])
@pytest.mark.django_db
def test_a_step_that_is_run_again_asks_for_codes_anew(codes):
    job = start()
    for code in codes:
        sms(f"Your OTP is {code}")
        run_all()
    TYPED.clear()

    rerun_job(job.pk, "a", by="alice")
    run_all()
    assert (request_of(job).status, TYPED) == ("requested", [])
    for number, code in enumerate(("444444", GOOD)):
        sms(f"Your OTP is {code}", external_id=str(number))
        run_all()

    assert TYPED == ["444444", GOOD]
    assert get_job(job).status == Status.COMPLETED


# ---- secrets ------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_no_code_is_left_in_any_row_after_its_use():
    job = start()
    sms()
    run_all()

    assert request_of(job).otp_value is None
    message = InboundMessage.objects.get()
    assert (message.text, message.code) == (None, None)
    said = [*Event.objects.values_list("message", "data"), *Wait.objects.values_list("answer")]
    assert GOOD not in repr(said)


@pytest.mark.django_db
def test_codes_that_nobody_used_are_erased_after_a_quarter_of_an_hour():
    job = start()
    sms("OTP 482913 or 551002?")
    other = sms("Your OTP is 777777", recipient="+91 90000 00001")
    assert erase_old_codes() == 0

    InboundMessage.objects.update(received_at=Now() - timedelta(minutes=16))

    assert erase_old_codes() == 2
    other.refresh_from_db()
    assert (other.text, other.code) == (None, None)
    assert request_of(job).status == "requested"


@pytest.mark.django_db
def test_codes_stand_sealed_and_are_in_no_log(caplog):
    job = start()
    BEHAVIOURS["a"] = lambda context: 1 / 0
    sms()
    run_all()

    sealed = OtpRequest.objects.filter(job=job).values_list("otp_value", flat=True).get()
    assert GOOD.encode() not in bytes(sealed)
    assert GOOD not in caplog.text
