"""What people do to jobs, limits, waits, effects and webhooks is in the audit trail, each in the
transaction of the act. Olga is an admin."""

from datetime import timedelta

import pytest
from auditlog.models import LogEntry
from django.core.management import call_command
from django.db.models.functions import Now
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import ApiKey, User, Workspace
from jobs import archive, effects, flow, steps, waits
from jobs.effects import CannotTell
from jobs.errors import BusinessError, InvalidLimit, NotPossible, WaitClosed
from jobs.models import (
    Effect,
    FlowLimit,
    InboundMessage,
    InboundSource,
    Job,
    OtpRequest,
    OtpRule,
    Status,
    Wait,
    WebhookDelivery,
    WebhookEndpoint,
)
from jobs.otp.messages import Inbound, receive
from jobs.otp.requests import otp
from jobs.plans import Done, WaitFor
from jobs.runner import runner
from jobs.webhooks import deliveries, endpoints
from tests.audited import acts, entries, facts, trail_holds
from tests.jobs.crashing import crash
from tests.jobs.receivers import endpoint_at
from tests.jobs.rows import get_job
from tests.jobs.workflows import BEHAVIOURS, submit_toy

pytestmark = pytest.mark.django_db(transaction=True)

ADDRESS = "203.0.113.7"
SHOP = "vendor:shop"
CODE = "482913"


@pytest.fixture
def olga() -> User:
    return User.objects.create_user("olga", is_staff=True, is_superuser=True)


@pytest.fixture
def api(olga) -> APIClient:
    key, secret = ApiKey.issue(olga, "desk")
    return APIClient(headers={"authorization": f"token {key.key}:{secret}"}, REMOTE_ADDR=ADDRESS)


@pytest.fixture
def page(olga) -> Client:
    client = Client(REMOTE_ADDR=ADDRESS)
    client.force_login(olga)
    return client


def post(api, path, body=None):
    answer = api.post(f"/api/{path}", body or {}, format="json")
    assert answer.status_code in (200, 201), answer.json()
    return answer.json()


def last(row) -> LogEntry:
    return entries(row)[-1]


def assert_is(entry: LogEntry, act: str, by: User, **what) -> None:
    assert (entry.additional_data["act"], entry.actor, entry.remote_addr) == (act, by, ADDRESS)
    assert facts(entry) == what


# ---- jobs ---------------------------------------------------------------------------------------


def failed_job(becomes=Status.FAILED) -> Job:
    job = submit_toy([["a"], ["b"]])
    step = steps.claim_next(["steps"], worker="w")
    steps.fail(step, BusinessError("out_of_stock", "It is sold out."), becomes=becomes)
    return job


def test_cancelled_job_is_noted_with_its_reason(api, olga):
    job = submit_toy([["a"]])

    post(api, f"jobs/{job.pk}/cancel", {"reason": "Ordered by hand"})
    post(api, f"jobs/{job.pk}/cancel")

    (entry,) = entries(job)
    assert_is(entry, "cancelled", olga, reason="Ordered by hand")
    assert (entry.object_repr, entry.action) == ("Toy", LogEntry.Action.UPDATE)


def test_job_that_is_run_again_is_noted_with_its_step(api, olga):
    job = failed_job()

    post(api, f"jobs/{job.pk}/rerun", {"from_step": "a"})

    assert_is(last(job), "rerun", olga, step="a")


def test_jobs_of_a_bulk_act_are_noted_one_by_one_under_one_request(api, olga):
    jobs = [failed_job(Status.MANUAL) for _ in range(3)]
    other = failed_job()

    post(api, "jobs/bulk", {"action": "resume", "filter": {"workflow": "toy"}})

    assert [acts(job) for job in (*jobs, other)] == [["resumed"]] * 3 + [[]]
    assert len({entry.cid for entry in entries(Job)}) == 1
    assert {entry.actor for entry in entries(Job)} == {olga}


def test_jobs_of_the_admins_action_are_noted(page, olga):
    job = submit_toy([["a"]])

    page.post(
        "/admin/jobs/job/",
        {"action": "cancel_selected", "_selected_action": [job.pk], "confirmed": "1"},
    )

    assert_is(last(job), "cancelled", olga, reason="")


def test_job_that_a_command_cancels_is_noted_with_who_ran_it(monkeypatch):
    monkeypatch.setenv("LOGNAME", "night-operator")
    job = submit_toy([["a"]])

    call_command("jobs_cancel", str(job.pk), "--reason", "Stocktaking")

    entry = last(job)
    assert entry.additional_data == {
        "act": "cancelled",
        "by": "night-operator on the command line",
        "facts": {"reason": "Stocktaking"},
    }
    assert (entry.actor, entry.remote_addr) == (None, None)


def test_refused_act_is_not_noted(api):
    job = submit_toy([["a"]])

    assert api.post(f"/api/jobs/{job.pk}/rerun", {}, format="json").status_code == 409

    assert entries(job) == []


def test_run_of_a_job_writes_nothing_into_the_trail():
    job = submit_toy([["a"], ["b", "c"], ["d"]])

    runner.run_ready_steps(["steps"])

    assert get_job(job).status == Status.COMPLETED
    assert not LogEntry.objects.exists()


# ---- limits and pauses --------------------------------------------------------------------------


def test_pause_and_resume_over_rest_are_noted(api, olga):
    post(api, f"limits/{SHOP}/pause", {"reason": "Their site is down."})
    post(api, f"limits/{SHOP}/resume")
    post(api, f"limits/{SHOP}/resume")

    paused, resumed = entries(FlowLimit)
    assert_is(paused, "paused", olga, reason="Their site is down.")
    assert_is(resumed, "resumed", olga)
    assert (paused.object_pk, paused.object_repr) == (SHOP, "vendor shop")
    assert resumed.object_pk == SHOP


def test_limit_is_noted_with_what_changed(api, olga):
    api.put(f"/api/limits/{SHOP}", {"concurrency": 2}, format="json")
    api.put(f"/api/limits/{SHOP}", {"concurrency": 2}, format="json")
    api.put(
        f"/api/limits/{SHOP}", {"concurrency": 3, "rate": 5, "period_seconds": 10}, format="json"
    )
    api.put(f"/api/limits/{SHOP}", {}, format="json")

    assert not FlowLimit.objects.exists()
    assert acts(FlowLimit) == ["limited"] * 3
    assert [entry.changes for entry in entries(FlowLimit)] == [
        {"concurrency": [None, 2]},
        {"concurrency": [2, 3], "rate": [None, 5], "period_seconds": [60, 10]},
        {"concurrency": [3, None], "rate": [5, None], "period_seconds": [10, 60]},
    ]
    assert {entry.actor for entry in entries(FlowLimit)} == {olga}


def test_limits_in_the_admin_are_noted(page, olga):
    limits = "/admin/jobs/flowlimit/"
    page.post(f"{limits}add/", {"key": SHOP, "concurrency": 2, "rate": "", "period_seconds": 60})
    page.post(limits, {"action": "pause_selected", "_selected_action": [SHOP]})
    page.post(limits, {"action": "resume_selected", "_selected_action": [SHOP]})
    page.post(limits, {"action": "delete_selected", "_selected_action": [SHOP], "post": "yes"})

    assert not FlowLimit.objects.exists()
    assert acts(FlowLimit) == ["limited", "paused", "resumed", "limited"]
    assert {(entry.actor, entry.remote_addr) for entry in entries(FlowLimit)} == {(olga, ADDRESS)}


def test_pause_by_a_command_is_noted_with_who_they_say_they_are():
    call_command("flow_pause", SHOP, "--by", "olga", "--reason", "Stocktaking")
    call_command("flow_resume", SHOP, "--by", "olga")

    assert acts(FlowLimit) == ["paused", "resumed"]
    assert [entry.additional_data["by"] for entry in entries(FlowLimit)] == ["olga", "olga"]


def test_refused_limit_is_not_noted():
    with pytest.raises(InvalidLimit):
        flow.pause("workflow:nonsense", by="olga")

    assert entries(FlowLimit) == []


# ---- answers ------------------------------------------------------------------------------------


def wants_approval(context):
    answer = context.find_answer("pay")
    asks = WaitFor([waits.approval("pay", "Pay ₹6,000?")], "…")
    return Done(dict(answer.data)) if answer else asks


def wants_code(context):
    asks = WaitFor([otp("otp", otp_type="login", service="gyftr", phone="9876543210")], "…")
    return Done({}) if context.find_code("otp") else asks


def waiting_for(behaviour, name="a") -> Job:
    job = submit_toy([[name]])
    BEHAVIOURS[name] = behaviour
    runner.run_ready_steps(["steps"])
    return job


def test_choice_is_noted_with_what_was_chosen(api, olga):
    job = waiting_for(wants_approval)
    wait = Wait.objects.get()

    post(api, f"jobs/{job.pk}/waits/{wait.pk}", {"choice": "approve"})

    (entry,) = entries(wait)
    assert_is(entry, "chosen", olga, choice="approve", job=str(job.pk))


def test_choice_that_comes_too_late_is_not_noted(olga):
    waiting_for(wants_approval)
    wait = Wait.objects.get()
    waits.choose(wait, "approve", olga)

    with pytest.raises(WaitClosed):
        waits.choose(wait, "reject", olga)

    assert acts(wait) == ["chosen"]


def test_code_that_is_typed_is_noted_and_not_kept(api, olga):
    job = waiting_for(wants_code)

    post(api, f"jobs/{job.pk}/waits/{Wait.objects.get().pk}", {"code": CODE})

    assert_is(last(OtpRequest.objects.get()), "code_entered", olga)
    assert not trail_holds(CODE)


def test_message_given_to_a_request_is_noted_without_its_code(api, olga):
    first, _ = (waiting_for(wants_code, name) for name in ("a", "b"))
    inbound = Inbound("GYFTR", f"Your OTP is {CODE}", "9876543210")
    message = receive(inbound, workspace_id=olga.workspace_id)
    request = first.otp_requests.get()

    post(api, f"otp/messages/{message.pk}/assign", {"request": str(request.pk)})

    assert_is(last(InboundMessage), "assigned", olga, request=str(request.pk))
    assert not trail_holds(CODE)


# ---- effects ------------------------------------------------------------------------------------


def unknown_effect() -> Effect:
    def pays(context):
        def die():
            raise ConnectionError

        return Done(
            context.perform(
                "pay:5",
                title="Pay ₹6,000",
                intent={"order": 5},
                act=die if context.attempt == 1 else dict,
                reconcile=lambda effect: CannotTell("The order page does not open."),
            )
        )

    job = waiting_for(pays)
    job.steps.update(status=Status.READY)
    runner.run_ready_steps(["steps"])
    return job.effects.get()


@pytest.mark.parametrize(
    ("happened", "said"), [(True, "it happened"), (False, "it did not happen")]
)
def test_settled_effect_is_noted_with_the_decision(happened, said, api, olga):
    effect = unknown_effect()

    post(api, f"effects/{effect.pk}/settle", {"happened": happened})

    (entry,) = entries(effect)
    job = str(effect.job_id)
    assert_is(entry, "settled", olga, decision=said, key="pay:5", job=job)
    assert entry.object_repr == "Pay ₹6,000"
    assert acts(Job) == ["resumed"]


def test_second_decision_is_not_noted(olga):
    effect = unknown_effect()
    effects.decide(effect.pk, happened=True, by=olga)

    with pytest.raises(NotPossible):
        effects.decide(effect.pk, happened=False, by=olga)

    assert acts(effect) == ["settled"]


# ---- webhooks and messages ----------------------------------------------------------------------


HOOK = {"url": "https://erp.example/hooks", "description": "ERPNext", "events": ["job.*"]}


def test_life_of_a_webhook_is_noted_and_no_secret_of_it(api, olga):
    made = post(api, "webhooks", HOOK)
    path = f"webhooks/{made['id']}"
    api.patch(f"/api/{path}", {"description": "ERP"}, format="json")
    rotated = post(api, f"{path}/rotate")
    api.patch(f"/api/{path}", {"enabled": False}, format="json")
    api.patch(f"/api/{path}", {"enabled": True}, format="json")
    api.delete(f"/api/{path}")

    assert not WebhookEndpoint.objects.exists()
    created, changed, renewed, disabled, enabled, deleted = entries(WebhookEndpoint)
    assert created.additional_data["act"] == "created"
    assert changed.changes == {"description": ["ERPNext", "ERP"]}
    assert_is(renewed, "new_secret", olga, columns=["secret"])
    assert_is(disabled, "disabled", olga, reason="Disabled by olga.")
    assert_is(enabled, "enabled", olga)
    assert deleted.additional_data["act"] == "deleted"
    assert {entry.actor for entry in entries(WebhookEndpoint)} == {olga}
    assert made["secret"] != rotated["secret"]
    assert not trail_holds(made["secret"])
    assert not trail_holds(rotated["secret"])


def test_webhook_that_is_disabled_for_failing_is_noted_as_nobodys():
    endpoint = endpoint_at("https://erp.example/hooks")

    endpoints.disable(endpoint.pk, "The receiver answered 410 Gone.", for_failing=True)

    entry = last(endpoint)
    assert entry.actor is None
    assert facts(entry) == {"reason": "The receiver answered 410 Gone."}


def test_delivery_that_is_sent_again_is_noted(api, olga):
    endpoint = endpoint_at("https://erp.example/hooks")
    delivery = deliveries.send_test(endpoint)

    post(api, f"webhooks/{endpoint.pk}/deliveries/{delivery.pk}/redeliver")

    assert_is(last(WebhookDelivery), "sent_again", olga, webhook=str(endpoint))


def test_sources_and_rules_of_messages_are_noted_without_the_secret(page, olga):
    source = {"name": "Phone", "kind": "sms_gateway", "phone_number": "", "is_active": "on"}
    page.post("/admin/jobs/inboundsource/add/", source | {"new_secret": "s3cret-key"})
    pk = InboundSource.objects.get().pk
    page.post(
        f"/admin/jobs/inboundsource/{pk}/change/",
        source | {"name": "Old phone", "new_secret": "0ther-key"},
    )
    page.post("/admin/jobs/otprule/add/", {"service": "amex", "sender": "AMEX"})
    rule = OtpRule.objects.get()
    page.post(f"/admin/jobs/otprule/{rule.pk}/delete/", {"post": "yes"})

    assert acts(InboundSource) == ["created", "changed", "new_secret"]
    assert acts(OtpRule) == ["created", "deleted"]
    assert entries(InboundSource)[1].changes == {"name": ["Phone", "Old phone"]}
    assert entries(OtpRule)[1].changes["sender"] == ["AMEX", None]
    assert {entry.actor for entry in entries(InboundSource)} == {olga}
    assert not trail_holds("s3cret-key")
    assert not trail_holds("0ther-key")


# ---- one transaction ----------------------------------------------------------------------------


def renamed_user():
    user = User.objects.create_user("bob")
    user.first_name = "Bob"
    return user


def paused():
    flow.pause(SHOP, by="olga")
    LogEntry.objects.all().delete()
    return SHOP


def disabled():
    endpoint = endpoint_at("https://erp.example/hooks")
    endpoints.disable(endpoint.pk, "")
    return endpoint.pk


def failed_delivery():
    return deliveries.send_test(endpoint_at("https://erp.example/hooks"))


CASES = {
    "cancel": (lambda: submit_toy([["a"]]).pk, {"by": "olga"}),
    "rerun": (lambda: failed_job().pk, {"by": "olga"}),
    "resume": (lambda: failed_job(Status.MANUAL).pk, {"by": "olga"}),
    "pause": (lambda: SHOP, {"by": "olga"}),
    "resume key": (paused, {"by": "olga"}),
    "set limit": (lambda: SHOP, {"concurrency": 2, "by": "olga"}),
    "enable webhook": (disabled, {}),
    "rotate secret": (lambda: endpoint_at("https://erp.example/hooks").pk, {}),
    "send again": (failed_delivery, {}),
    "save": (renamed_user, {}),
}


def everything() -> list:
    tables = (Job, FlowLimit, WebhookEndpoint, WebhookDelivery, User, Workspace)
    return [list(table.objects.order_by("pk").values()) for table in tables]


@pytest.mark.parametrize("verb", CASES)
def test_process_killed_at_the_commit_leaves_act_and_entry_or_neither(verb):
    prepare, how = CASES[verb]
    subject = prepare()
    rows, before = everything(), acts()

    crash("before", verb, subject, **how)
    assert (everything(), acts()) == (rows, before)

    crash("after", verb, subject, **how)
    assert everything() != rows
    assert len(acts()) == len(before) + 1


def test_process_killed_while_a_person_decides_leaves_act_and_entry_or_neither(olga):
    effect = unknown_effect()
    waiting_for(wants_approval, "b")
    wait = Wait.objects.get()

    crash("before", "decide", effect.pk, happened=True, by=olga)
    crash("before", "choose", wait, "approve", olga)
    assert (acts(effect), acts(wait)) == ([], [])
    assert Effect.objects.get().status == Effect.Status.UNKNOWN
    assert Wait.objects.get().status == Wait.Status.OPEN

    crash("after", "decide", effect.pk, happened=True, by=olga)
    crash("after", "choose", wait, "approve", olga)
    assert (acts(effect), acts(wait)) == (["settled"], ["chosen"])
    assert Effect.objects.get().status == Effect.Status.CONFIRMED
    assert Wait.objects.get().status == Wait.Status.ANSWERED


# ---- retention ----------------------------------------------------------------------------------


def test_daily_archive_deletes_what_is_older_than_its_days(settings):
    settings.AUDIT_DAYS = 10
    flow.pause(SHOP, by="olga")
    LogEntry.objects.update(timestamp=Now() - timedelta(days=11))
    flow.resume(SHOP, by="olga")

    archive.DailyArchive().work()

    assert acts() == ["resumed"]
