"""What the fault points' verbs act on, and at which functions each of them commits.

Nothing is asserted here; `test_fault_points.py` kills each verb at each of its commits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.db.models.functions import Now

from accounts.models import FIRST_WORKSPACE, User, Workspace
from jobs import effects, flow, keys, steps, waits
from jobs.effects import DidNotHappen, Happened
from jobs.errors import BusinessError, TransientError
from jobs.models import (
    Artifact,
    Effect,
    Event,
    FlowLimit,
    InboundMessage,
    Job,
    OtpRequest,
    Signal,
    Status,
    Step,
    Wait,
    WebhookDelivery,
    WebhookEndpoint,
)
from jobs.otp import messages
from jobs.otp.messages import Inbound
from jobs.otp.requests import otp
from jobs.plans import Done, Postpone, WaitFor
from jobs.runner import runner
from jobs.waits import NewSignal
from jobs.webhooks import deliveries, endpoints
from jobs.webhooks.deliveries import Answer
from jobs.webhooks.outbox import fan_out
from tests.jobs.crashing import VERBS
from tests.jobs.receivers import endpoint_at
from tests.jobs.rows import LONG_AGO, let_leases_expire
from tests.jobs.workflows import BEHAVIOURS, submit_toy

SHOP = "vendor:shop"
AT_SHOP = {"a": {"keys": [SHOP]}}
MONTH_AGO = timedelta(days=31)
CODE = "482913"
VICTIM = {"worker": "victim"}

ALWAYS, UNLESS_DONE, NEVER = ("before", "after"), ("before",), ()

# What the world outside was made to do, by the handlers.
PAID: list[str] = []
TYPED: list[str] = []


@dataclass(frozen=True)
class Case:
    """`prepare` gets a folder and returns what the verb gets. `points`: the commits it makes, in
    order. `repeats`: when whoever asked asks again, as a client or the next sweep does; a person
    who sees that it is done does not, and a worker is dead: another one takes over its step."""

    verb: str
    prepare: Callable[[Path], tuple[tuple[Any, ...], Mapping[str, Any]]]
    points: tuple[str, ...]
    repeats: tuple[str, ...] = ALWAYS


# ---- what verbs act on --------------------------------------------------------------------------


def claim(name: str = "a", chain=(("a",), ("b",)), **submission):
    """A claimed step, and what it does when it is run."""
    submit_toy([list(group) for group in chain], **submission)
    return steps.claim_next(["steps"], worker="victim")


def let_postponed_be_due() -> None:
    """As if their time had passed; what waits for an answer or for a place goes on waiting."""
    waiting = Step.objects.filter(status=Status.WAITING, limited_by="")
    waiting.exclude(waits__status="open").update(due_at=Now() - LONG_AGO)


def alice() -> User:
    return User.objects.get_or_create(username="alice")[0]


def pays(context):
    def pay():
        PAID.append("paid")
        return {"receipt": 1}

    def look(effect):
        return Happened({"receipt": 1}) if PAID else DidNotHappen()

    return Done(context.perform("pay:5", title="Pay ₹6,000", intent={}, act=pay, reconcile=look))


def asks_approval(context):
    answer = context.find_answer("pay")
    asks = WaitFor([waits.approval("pay", "Pay ₹6,000?")], "Asking")
    return Done(dict(answer.data)) if answer else asks


def wants_signal(order):
    def behave(context):
        answer = context.find_answer("code")
        asks = WaitFor([waits.signal("code", "issued", {"order": order})], "Waiting")
        return Done(dict(answer.data)) if answer else asks

    return behave


def logs_in(context):
    """Asks first where it is, as a handler must: who is logged in types nothing."""
    code = context.find_code("otp")
    if CODE in TYPED:
        if code:
            context.accept_code("otp")
        return Done({"logged_in": True})
    if code is None:
        return WaitFor([otp("otp", otp_type="login", service="gyftr")], "Waiting for the code")
    TYPED.append(code.value)
    if code.value != CODE:
        context.reject_code("otp")
        return WaitFor([otp("otp", otp_type="login", service="gyftr")], "Wrong; once more")
    context.accept_code("otp")
    return Done({"logged_in": True})


def does(behaviour, chain=(("a",), ("b",))) -> Job:
    """A job whose step `a` does this, as far as it comes."""
    job = submit_toy([list(group) for group in chain])
    BEHAVIOURS["a"] = behaviour
    runner.run_ready_steps(["steps"])
    return job


def wants_person(context):
    if context.claim.fence == 1:
        raise BusinessError("captcha", "A captcha.", effects.Becomes.MANUAL)
    return Done({})


def refused(context):
    if context.claim.fence == 1:
        raise BusinessError("out_of_stock", "Sold out.")
    return Done({})


def hold_back(count: int, **limit) -> None:
    """So many jobs, all of them held back at the shop."""
    flow.pause(SHOP, by="alice")
    if limit:
        flow.set_limit(SHOP, **limit, by="alice")
    for _ in range(count):
        submit_toy([["a"]], options=AT_SHOP)
    runner.run_ready_steps(["steps"])
    assert count_held() == count


def count_held() -> int:
    return Step.objects.filter(limited_by=SHOP, status=Status.WAITING).count()


def sms(text: str = f"Your gyftr OTP is {CODE}", **more) -> Inbound:
    return Inbound("VM-GYFTR", text, external_id="sms-17", **more)


def receive(inbound: Inbound | None = None) -> InboundMessage:
    return messages.receive(inbound or sms(), workspace_id=FIRST_WORKSPACE)


def claim_woken(code: str):
    """The step `a`, claimed with the code that has come for it."""
    does(logs_in)
    receive(sms(f"Your gyftr OTP is {code}"))
    return steps.claim_next(["steps"], worker="victim")


def intend():
    claimed = claim()
    BEHAVIOURS["a"] = pays
    return claimed, effects.begin(claimed, "pay:5", title="Pay ₹6,000", intent={})[0]


def unknown_effect() -> Effect:
    _, effect = intend()
    PAID.append("paid")
    Effect.objects.update(status="unknown", reason="The page does not open.", settled_at=Now())
    job = Job.objects.get()
    steps.fail(
        steps.ClaimedStep.of(job.steps.get(name="a")),
        BusinessError("unknown_outcome", "Look there."),
        becomes=Status.MANUAL,
    )
    return effect


def delivery() -> WebhookDelivery:
    endpoint_at()
    submit_toy([["a"]])
    fan_out()
    return WebhookDelivery.objects.get()


def message_to_send():
    delivery()
    (message,) = deliveries.claim_due(1)
    return message


def old_things(folder: Path) -> None:
    """Two jobs of last month with evidence, evidence whose time is over, and what came in then."""
    Artifact._meta.get_field("file").storage = FileSystemStorage(folder)
    waits.send_signal("issued", {}, workspace_id=FIRST_WORKSPACE, key="old")
    Signal.objects.update(expires_at=Now() - MONTH_AGO)
    receive()
    InboundMessage.objects.update(received_at=Now() - MONTH_AGO)
    old = [submit_toy([["a"]]) for _ in range(2)]
    young = submit_toy([["a"]])
    runner.run_ready_steps(["steps"])
    Job.objects.filter(pk__in=[job.pk for job in old]).update(finished_at=Now() - MONTH_AGO)
    keep(old[0], expires_in=timedelta(days=1))
    keep(young, expires_in=-timedelta(days=1))


def keep(job: Job, *, expires_in: timedelta) -> None:
    Artifact.objects.create(
        job=job,
        step=job.steps.get(),
        attempt=1,
        kind=Artifact.Kind.PAGE,
        file=ContentFile(b"<p>", name="page.html"),
        expires_at=Now() + expires_in,
    )


# ---- the cases ----------------------------------------------------------------------------------


def given(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    return args, kwargs


def submit(folder):
    return given([["a"], ["b"]], idempotency_key="order-5")


def claim_ready(folder):
    submit_toy([["a"], ["b"]])
    return given(["steps"], **VICTIM)


def claim_limited(folder):
    flow.set_limit(SHOP, concurrency=2, by="alice")
    submit_toy([["a"]], options=AT_SHOP)
    return given("steps", **VICTIM)


def claim_without_place(folder):
    flow.set_limit(SHOP, concurrency=1, by="alice")
    for _ in range(3):
        submit_toy([["a"]], options=AT_SHOP)
    steps.claim_next(["steps"], worker="other")
    return given("steps", **VICTIM)


def claim_orphan(folder):
    job = submit_toy([["a", "b"]])
    Job.objects.filter(pk=job.pk).update(status=Status.CANCELLED, finished_at=Now())
    return given(["steps"], **VICTIM)


def complete(folder):
    return given(claim(), {"ran": "a"}, queues=["steps"], **VICTIM)


def complete_and_tell(folder):
    return given(claim(workflow="toy.with_rows"), {"ran": "a"}, queues=["steps"], **VICTIM)


def begin_to_wait(folder):
    claimed = claim()
    BEHAVIOURS["a"] = asks_approval
    return given(claimed, WaitFor([waits.approval("pay", "Pay ₹6,000?")], "Asking"))


def begin_to_wait_for_code(folder):
    receive()  # it came first
    claimed = claim()
    BEHAVIOURS["a"] = logs_in
    return given(claimed, WaitFor([otp("otp", otp_type="login", service="gyftr")], "Waiting"))


def fail(folder):
    def sees_captcha(context):
        raise BusinessError("captcha", "A captcha.")

    claimed = claim()
    BEHAVIOURS["a"] = sees_captcha
    return given(claimed)


def once(kind, outcome):
    """A step that has this outcome until its event tells of it, then is done."""

    def behave(context):
        if Event.objects.filter(step_id=context.claim.id, kind=kind).exists():
            return Done({})
        return outcome()

    return behave


def postpone(folder):
    claimed = claim()
    delay = timedelta(hours=1)
    BEHAVIOURS["a"] = once("step.postponed", lambda: Postpone(delay, "Not now."))
    return given(claimed, delay=delay, reason="Not now.")


def retry(folder):
    def time_out():
        raise TransientError("site_timeout", "No answer.")

    claimed = claim()
    BEHAVIOURS["a"] = once("step.retrying", time_out)
    return given(claimed, delay=timedelta(hours=1))


def release(folder):
    return given(claim())


def postponed(folder):
    claimed = claim()
    steps.postpone(claimed, delay=timedelta(hours=1), reason="Not now.")
    return claimed.job_id


def postponed_three(folder):
    for _ in range(3):
        steps.postpone(claim(), delay=timedelta(hours=1), reason="Not now.")
    Step.objects.filter(status=Status.WAITING).update(due_at=Now() - LONG_AGO)
    return given()


def checkpoint(folder):
    def clicks(context):
        if context.checkpoint is None:
            context.save_checkpoint({"clicked": True})
        return Done({})

    claimed = claim()
    BEHAVIOURS["a"] = clicks
    return given(claimed, {"clicked": True})


def set_key(folder):
    def takes_account(context):
        keys.set_key(context.claim, "account", "7", of="b")
        return Done({})

    claimed = claim()
    BEHAVIOURS["a"] = takes_account
    return given(claimed, "account", "7", of="b")


def evidence(folder):
    def keeps(context):
        if not Artifact.objects.exists():
            VERBS["keep artifact"](context.claim, folder)
        return Done({})

    claimed = claim()
    BEHAVIOURS["a"] = keeps
    return given(claimed, folder)


def begin(folder):
    claimed = claim()
    BEHAVIOURS["a"] = pays
    return given(claimed, "pay:5", title="Pay ₹6,000", intent={})


def begin_again(folder):
    claimed, effect = intend()
    effects.settle(claimed, effect, DidNotHappen())
    return given(claimed, effect)


def settle(folder):
    claimed, effect = intend()
    PAID.append("paid")
    return given(claimed, effect, Happened({"receipt": 1}))


def lost_workers(folder):
    for _ in range(3):
        claim()
    let_leases_expire()
    return given()


def stranded(folder):
    for _ in range(2):
        submit_toy([["a"]], options={"a": {"queue": "host.gone"}})
    Step.objects.update(due_at=Now() - LONG_AGO)
    return given("host.gone")


def everything_to_sweep(folder):
    """Something for each part of the sweep."""
    hold_back(1)
    FlowLimit.objects.all().delete()
    receive()
    InboundMessage.objects.update(received_at=Now() - MONTH_AGO)
    claim()
    steps.postpone(claim(), delay=timedelta(hours=1), reason="Not now.")
    let_postponed_be_due()
    let_leases_expire()
    return given()


def long_ready(folder):
    submit_toy([["a"]])
    Step.objects.update(due_at=Now() - timedelta(hours=2))
    submit_toy([["a"]], priority=5)
    return given()


def renew(folder):
    claimed = claim()
    return given({(claimed.id, claimed.fence)}, lease=steps.LEASE)


def cancel(folder):
    submit_toy([["a"], ["b"]])
    return given(Job.objects.get().pk, by="alice")


def rerun(folder):
    return given(does(refused).pk, by="alice")


def rerun_three(folder):
    for _ in range(3):
        does(refused)
    return given()


def resume(folder):
    return given(does(wants_person).pk, by="alice")


def cancel_three(folder):
    for _ in range(3):
        submit_toy([["a"]])
    return given()


def resume_key(folder):
    hold_back(2)
    return given(SHOP, by="alice")


def raise_limit(folder):
    hold_back(3)
    FlowLimit.objects.update(paused_at=None, paused_by="", concurrency=1)
    return given(SHOP, concurrency=2, by="alice")


def take_limit_away(folder):
    hold_back(3)
    FlowLimit.objects.update(paused_at=None, paused_by="", concurrency=1)
    return given(SHOP, by="alice")


def wake(folder):
    hold_back(2)
    FlowLimit.objects.all().delete()
    return given([SHOP])


def pause(folder):
    submit_toy([["a"]], options=AT_SHOP)
    return given(SHOP, by="alice", reason="Sale")


def hasten(folder):
    postponed(folder)
    return given()


def wait_for_signal(folder):
    does(wants_signal(5))
    return given("issued", {"order": 5}, workspace_id=FIRST_WORKSPACE, key="sms-17")


def wait_for_signals(folder):
    for order in (5, 6):
        does(wants_signal(order))
    new = [NewSignal("issued", {"order": order}, f"sms-{order}") for order in (5, 6, 7)]
    return given(new, workspace_id=FIRST_WORKSPACE)


def choose(folder):
    does(asks_approval)
    return given(Wait.objects.get(), "approve", alice())


def receive_message(folder):
    does(logs_in)
    return given(sms(), workspace_id=FIRST_WORKSPACE)


def assign(folder):
    does(logs_in)
    message = receive(sms(f"Your gyftr OTP is {CODE}, or OTP 111222"))
    assert message.status == "unclear"
    return given(message, OtpRequest.objects.get().pk, alice(), code=CODE)


def enter(folder):
    does(logs_in)
    return given(OtpRequest.objects.get().pk, CODE, alice())


def accept(folder):
    claimed = claim_woken(CODE)
    TYPED.append(CODE)
    return given(claimed, "otp")


def reject(folder):
    claimed = claim_woken("111222")
    TYPED.append("111222")
    return given(claimed, "otp")


def old_codes(folder):
    receive(sms("Your amazon OTP is 999888"))
    does(logs_in, [["a"]])
    messages.receive(Inbound("VM-GYFTR", f"gyftr OTP {CODE}"), workspace_id=FIRST_WORKSPACE)
    BEHAVIOURS["a"] = lambda context: Done({})
    InboundMessage.objects.update(received_at=Now() - LONG_AGO)
    OtpRequest.objects.update(timeout_at=Now() - LONG_AGO)
    return given()


def new_endpoint(folder):
    submit_toy([["a"]])
    return given(
        Workspace.objects.get(pk=FIRST_WORKSPACE), "https://erp.example/hooks", events=["job.*"]
    )


def change_over_rest(folder):
    User.objects.filter(pk=alice().pk).update(is_staff=True)
    changes = {"url": "https://erp.example/new", "enabled": False}
    return given(alice(), endpoint_at().pk, changes)


def gone(folder):
    return given(message_to_send(), Answer(status=410))


def disabled_endpoint(folder):
    endpoint = endpoint_at()
    endpoints.disable(endpoint.pk, "Because.")
    return given(endpoint.pk)


def rotated(folder):
    endpoint = endpoint_at()
    endpoints.rotate_secret(endpoint.pk)
    WebhookEndpoint.objects.update(old_secret_expires_at=Now() - LONG_AGO)
    return given()


def to_fan_out(folder):
    endpoint_at()
    submit_toy([["a"], ["b"]])
    return given()


def sent_again(folder):
    deliveries.record(message_to_send(), Answer(status=204))
    return given(WebhookDelivery.objects.get())


def old_deliveries(folder):
    delivery()
    WebhookDelivery.objects.update(created_at=Now() - MONTH_AGO)
    return given()


def archive(folder):
    old_things(folder)
    return given(folder)


LIMIT_CHANGED = ("statements.limits.set_due_of_held", "statements.waiting.make_held_ready")
ARCHIVE_PARTS = (
    "archive.delete_artifacts",
    "archive.delete_old",
    "archive.delete_old",
    "archive.delete_artifacts",
    "archive.archive_batch",
)

CASES: dict[str, Case] = {
    "submitting": Case("submit", submit, ("statements.creating.create_jobs",)),
    "claiming": Case("claim", claim_ready, ("statements.claiming.claim_next",), repeats=NEVER),
    "claiming with a limit": Case(
        "claim apart", claim_limited, ("steps.claim_apart",), repeats=NEVER
    ),
    "holding back": Case("claim apart", claim_without_place, ("steps.claim_apart",), repeats=NEVER),
    "claiming of an ended job": Case(
        "claim", claim_orphan, ("statements.claiming.claim_next", "steps._cancel_orphan")
    ),
    "completing": Case(
        "complete", complete, ("statements.completing.complete_steps",), repeats=NEVER
    ),
    "completing, and telling the workflow": Case(
        "complete", complete_and_tell, ("steps._complete_and_tell",), repeats=NEVER
    ),
    "retrying": Case("retry", retry, ("steps._put_off",), repeats=NEVER),
    "postponing": Case("postpone", postpone, ("steps._put_off",), repeats=NEVER),
    "releasing": Case("release", release, ("steps._put_off",), repeats=NEVER),
    "beginning to wait": Case("suspend", begin_to_wait, ("steps.suspend",), repeats=NEVER),
    "beginning to wait for a code that is there": Case(
        "suspend", begin_to_wait_for_code, ("steps.suspend",), repeats=NEVER
    ),
    "failing": Case("fail", fail, ("steps.fail",), repeats=NEVER),
    "hastening a job": Case(
        "make ready", lambda folder: given(postponed(folder)), ("steps.make_ready",)
    ),
    "reporting progress": Case(
        "report progress",
        lambda _: given(claim(), 50, "Half way"),
        ("statements.claiming.report_progress",),
        repeats=NEVER,
    ),
    "saving a checkpoint": Case(
        "save checkpoint", checkpoint, ("steps.save_checkpoint",), repeats=NEVER
    ),
    "setting a key": Case("set key", set_key, ("statements.keying.set_key",), repeats=NEVER),
    "keeping evidence": Case(
        "keep artifact", evidence, ("context.StepContext.keep_artifact",), repeats=NEVER
    ),
    "intending": Case("begin effect", begin, ("effects.begin",), repeats=NEVER),
    "intending again": Case("begin effect again", begin_again, ("effects._change",), repeats=NEVER),
    "settling": Case("settle effect", settle, ("effects._change",), repeats=NEVER),
    "deciding": Case(
        "decide",
        lambda _: given(unknown_effect().pk, happened=True, by=alice()),
        ("effects.decide",),
    ),
    "sweeping what is due": Case("make due ready", postponed_three, ("sweep.make_due_ready",)),
    "sweeping lost leases": Case("recover expired", lost_workers, ("sweep._recover",) * 3),
    "sweeping what is stranded": Case("return stranded", stranded, ("steps.return_stranded",) * 2),
    "sweeping": Case(
        "sweep",
        everything_to_sweep,
        (
            "otp.messages.erase_old_codes",
            "otp.messages.erase_old_codes",
            "sweep.make_due_ready",
            "sweep._recover",
            "statements.waiting.make_held_ready",
        ),
    ),
    "ageing": Case("age steps", long_ready, ("statements.limits.age_steps",) * 2),
    "renewing leases": Case(
        "renew leases", renew, ("statements.claiming.renew_leases",), repeats=NEVER
    ),
    "cancelling": Case("cancel", cancel, ("control.cancel_job",)),
    "running again": Case("rerun", rerun, ("control._go_on",)),
    "resuming": Case("resume", resume, ("control._go_on",)),
    "cancelling many": Case("cancel all", cancel_three, ("control.cancel_job",) * 3),
    "running many again": Case("rerun all", rerun_three, ("control._go_on",) * 3),
    "pausing": Case("pause", pause, ("flow.pause", "statements.limits.set_due_of_held")),
    "ending a pause": Case("resume key", resume_key, ("flow.resume", *LIMIT_CHANGED)),
    "raising a limit": Case("set limit", raise_limit, ("flow.set_limit", *LIMIT_CHANGED)),
    "taking a limit away": Case("set limit", take_limit_away, ("flow.set_limit", *LIMIT_CHANGED)),
    "waking": Case("wake", wake, ("statements.waiting.make_held_ready",)),
    "bringing forward": Case("bring forward", hasten, ("flow.bring_forward",)),
    "sending a signal": Case("send signal", wait_for_signal, ("waits.send_signals",)),
    "sending signals": Case("send signals", wait_for_signals, ("waits.send_signals",)),
    "choosing": Case("choose", choose, ("waits.choose",)),
    "receiving a message": Case("receive message", receive_message, ("otp.messages.receive",)),
    "assigning a message": Case("assign message", assign, ("otp.messages.assign",)),
    "entering a code": Case("enter code", enter, ("otp.requests.enter_code",)),
    "accepting a code": Case("accept code", accept, ("otp.requests._settle",), repeats=NEVER),
    "rejecting a code": Case("reject code", reject, ("otp.requests._settle",), repeats=NEVER),
    "erasing old codes": Case("erase old codes", old_codes, ("otp.messages.erase_old_codes",) * 2),
    "adding a webhook": Case(
        "add webhook", new_endpoint, ("webhooks.endpoints.add_endpoint",), repeats=UNLESS_DONE
    ),
    "sending a test": Case(
        "send test",
        lambda _: given(endpoint_at()),
        ("webhooks.deliveries.send_test",),
        repeats=UNLESS_DONE,
    ),
    "changing a webhook over REST": Case(
        "patch webhook", change_over_rest, ("api.webhooks.WebhookView.patch",)
    ),
    "changing a webhook": Case(
        "change webhook",
        lambda _: ((endpoint_at(),), {"url": "https://erp.example/new"}),
        ("webhooks.endpoints.change_endpoint",),
    ),
    "enabling a webhook": Case("enable webhook", disabled_endpoint, ("webhooks.endpoints.enable",)),
    "disabling a webhook": Case(
        "disable webhook",
        lambda _: given(endpoint_at().pk, "Because."),
        ("webhooks.endpoints.disable",),
    ),
    "deleting a webhook": Case(
        "delete webhook",
        lambda _: given(delivery().endpoint_id),
        ("webhooks.endpoints.delete_endpoint",),
    ),
    "rotating a secret": Case(
        "rotate secret",
        lambda _: given(endpoint_at().pk),
        ("webhooks.endpoints.rotate_secret",),
    ),
    "forgetting old secrets": Case(
        "forget old secrets", rotated, ("webhooks.endpoints.forget_old_secrets",)
    ),
    "fanning out": Case("fan out", to_fan_out, ("webhooks.outbox.fan_out",)),
    "claiming deliveries": Case(
        "claim deliveries",
        lambda _: (delivery(), given(100))[1],
        ("webhooks.deliveries.claim_due",),
        repeats=NEVER,
    ),
    "recording a delivery": Case(
        "record delivery",
        lambda _: given(message_to_send(), Answer(status=204)),
        ("webhooks.deliveries.record",),
    ),
    "recording that a receiver is gone": Case(
        "record delivery", gone, ("webhooks.deliveries.record",)
    ),
    "sending a message again": Case("send again", sent_again, ("webhooks.deliveries.redeliver",)),
    "forgetting old deliveries": Case(
        "forget old deliveries", old_deliveries, ("webhooks.deliveries.forget_old",)
    ),
    "archiving": Case("archive", archive, ARCHIVE_PARTS),
    "archiving by the day": Case(
        "archive daily", archive, ("archive.DailyArchive.work", *ARCHIVE_PARTS)
    ),
}
