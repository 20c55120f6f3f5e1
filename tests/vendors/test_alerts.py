"""Alerts: what opens and closes them, who is told, and a vendor that goes to people by itself."""

import json
from datetime import timedelta
from functools import partial

import pytest
from auditlog.models import LogEntry
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import User, Workspace
from jobs import duties, steps
from jobs.errors import Becomes, BusinessError
from jobs.models import Job, Status, WebhookDelivery
from jobs.webhooks.outbox import fan_out
from jobs.webhooks.payload import make_body
from tests.jobs.receivers import endpoint_at
from tests.jobs.rivals import elsewhere
from tests.jobs.workers import running_scheduler
from tests.vendors.items import ended, waiting
from tests.vendors.test_pool import new_account
from tests.waiting import wait_until
from vendors import alerts, cart_queue, pool
from vendors.alerts import Kind, open_alerts, tell_admins
from vendors.health_sweep import sweep_alerts
from vendors.models import Alert, QueueItem, Vendor

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)
URL = "https://vendor.example/product/1"


@pytest.fixture(autouse=True)
def two_accounts(vendor, account):
    """So that nothing is the matter."""
    return [account, new_account(vendor, "two")]


@pytest.fixture
def olga():
    return User.objects.create_user("olga", email="olga@shop.example", is_staff=True)


def kinds() -> list[str]:
    return sorted(open_alerts().values_list("kind", flat=True))


def is_automated(vendor) -> bool:
    return Vendor.objects.get(pk=vendor.pk).can_automate


def enqueue(vendor) -> QueueItem:
    vendor = Vendor.objects.get(pk=vendor.pk)
    return cart_queue.enqueue(cart_queue.CartRequest(vendor=vendor, product_url=URL))


# ---- more than 10 % failures (PRD 13.1, R1) -----------------------------------------------------


def test_more_than_a_tenth_of_failures_turns_the_vendor_off(vendor):
    ended(vendor, "completed", 17)
    ended(vendor, "failed", 3, code="page_changed")

    sweep_alerts()

    assert not is_automated(vendor)
    alert = open_alerts().get()
    assert (alert.kind, alert.details) == ("failures", {"failed": 3, "ended": 20})
    assert alert.message.startswith("3 of the newest 20 items of Vendor Co failed, which is more")
    assert enqueue(vendor).status == "manual_required"
    [entry] = LogEntry.objects.filter(additional_data__act="paused")
    assert entry.additional_data["by"] == "Cartwright"
    assert entry.changes == {"can_automate": [True, False]}


def test_exactly_a_tenth_is_no_alert(vendor):
    ended(vendor, "completed", 18)
    ended(vendor, "failed", 2, code="page_changed")

    sweep_alerts()

    assert (is_automated(vendor), kinds()) == (True, [])


def test_few_attempts_decide_nothing(vendor, settings):
    ended(vendor, "failed", 19, code="page_changed")
    sweep_alerts()
    assert is_automated(vendor)

    settings.ALERT_LEAST_ATTEMPTS = 19
    sweep_alerts()

    assert not is_automated(vendor)


@pytest.mark.parametrize(
    "code", ["out_of_stock", "option_unavailable", "quantity_refused", "product_not_found"]
)
def test_what_the_shop_just_says_no_to_is_no_failure_of_its_automation(vendor, code):
    ended(vendor, "completed", 20)
    ended(vendor, "failed", 20, code=code)
    ended(vendor, "failed", 20, code="cancelled")
    ended(vendor, "manual_required", 20, code="captcha")

    sweep_alerts()

    assert (is_automated(vendor), kinds()) == (True, [])


def test_failures_before_the_window_are_over(vendor):
    ended(vendor, "failed", 30, code="page_changed", ago=241 * MINUTE)

    sweep_alerts()

    assert is_automated(vendor)


def test_other_vendors_go_on(vendor):
    other = Vendor.objects.create(
        name="Other Co", domain="other.example", login_url="https://other.example/",
        cart_url="https://other.example/cart", selectors=vendor.selectors,
    )  # fmt: skip
    new_account(other, "three")
    new_account(other, "four")
    ended(vendor, "failed", 30, code="page_changed")
    ended(other, "completed", 30)

    sweep_alerts()

    assert (is_automated(vendor), is_automated(other)) == (False, True)


def test_waiting_items_go_to_a_person_with_the_reason(vendor):
    item = enqueue(vendor)
    first = steps.claim_next(["steps"], worker="alice")
    steps.postpone(first, delay=timedelta(hours=5), reason="No account is free.")
    ended(vendor, "failed", 30, code="page_changed")

    sweep_alerts()

    again = steps.claim_next(["steps"], worker="alice")
    assert again.id == first.id
    with pytest.raises(BusinessError) as refusal:
        alerts.check_automation(Vendor.objects.get(pk=vendor.pk), bound=None)
    assert (refusal.value.code, refusal.value.becomes) == ("manual_vendor", Becomes.MANUAL)
    steps.fail(again, refusal.value, becomes=Status.MANUAL)
    item.refresh_from_db()
    assert (item.status, item.error_code) == ("manual_required", "manual_vendor")
    assert item.error_message == open_alerts().get().message


def test_item_that_may_be_in_a_cart_is_brought_to_its_end(vendor, account):
    Vendor.objects.update(can_automate=False)
    vendor.refresh_from_db()

    alerts.check_automation(vendor, bound=account.pk)  # raises nothing

    with pytest.raises(BusinessError):
        alerts.check_automation(vendor, bound=None)


def test_resumed_vendor_is_judged_by_what_comes_after(vendor, olga):
    ended(vendor, "failed", 30, code="page_changed")
    sweep_alerts()

    assert alerts.turn_on(vendor.pk, by=olga)
    sweep_alerts()

    assert (is_automated(vendor), kinds()) == (True, [])
    [closed] = Alert.objects.all()
    assert closed.closed_reason == "olga turned the automation on again."
    [entry] = LogEntry.objects.filter(additional_data__act="resumed")
    assert entry.actor == olga
    ended(vendor, "failed", 30, code="page_changed", ago=-timedelta(seconds=1))
    sweep_alerts()
    assert not is_automated(vendor)


def test_turning_it_on_by_its_switch_resumes_it_too(vendor):
    ended(vendor, "failed", 30, code="page_changed")
    sweep_alerts()

    Vendor.objects.update(can_automate=True)
    sweep_alerts()

    assert (is_automated(vendor), kinds()) == (True, [])


def test_what_a_person_turned_off_stays_off(vendor, olga):
    Vendor.objects.update(can_automate=False)
    ended(vendor, "failed", 30, code="page_changed")

    sweep_alerts()

    assert not alerts.turn_on(vendor.pk, by=olga)
    assert (is_automated(vendor), kinds()) == (False, [])


def test_vendor_is_resumed_over_rest_and_on_the_page(vendor, admin_api, erpnext, admin_client):
    ended(vendor, "failed", 30, code="page_changed")
    sweep_alerts()
    path = f"/api/admin/vendors/{vendor.pk}/resume"

    assert erpnext.post(path).status_code == 403
    assert not is_automated(vendor)
    assert admin_api.post(path).json() == {"success": True, "resumed": True}
    assert admin_api.post(path).json() == {"success": True, "resumed": False}
    assert admin_api.post("/api/admin/vendors/nonsense/resume").status_code == 404

    ended(vendor, "failed", 30, code="page_changed", ago=-timedelta(seconds=1))
    sweep_alerts()
    page = admin_client.get("/vendors/health/").content.decode()
    assert f'action="/vendors/{vendor.pk}/resume"' in page
    assert admin_client.post(f"/vendors/{vendor.pk}/resume").status_code == 302
    assert is_automated(vendor)


# ---- accounts, blocks, deadlines ----------------------------------------------------------------


def test_fewer_than_two_healthy_accounts_is_an_alert_until_there_are_two(vendor, account):
    pool.set_aside(account, "Suspended.")

    sweep_alerts()

    assert kinds() == ["accounts", "block"]
    assert open_alerts(Kind.ACCOUNTS).get().details == {"healthy": 1, "blocked": 1}
    new_account(vendor, "three")
    sweep_alerts()
    assert kinds() == ["block"]


def test_vendor_that_a_person_adds_for_needs_no_accounts(vendor, two_accounts):
    Vendor.objects.update(requires_captcha=True)
    for each in two_accounts:
        each.delete()

    sweep_alerts()

    assert kinds() == []


def test_block_is_an_alert_at_once_and_until_it_is_unblocked(vendor, account):
    pool.set_aside(account, "Account suspended.")

    alert = open_alerts().get()
    assert (alert.kind, alert.account_id) == ("block", account.pk)
    assert "Account suspended." in alert.message
    pool.unblock(type(account).objects.all())
    sweep_alerts()
    assert kinds() == []
    assert Alert.objects.get(kind="block").closed_reason == "The account was unblocked."


def test_block_that_is_undone_leaves_no_alert(account):
    with transaction.atomic():
        pool.set_aside(account, "Suspended.")
        transaction.set_rollback(True)

    assert (Alert.objects.count(), Job.objects.count()) == (0, 0)


def test_block_that_nobody_told_of_is_found(account):
    type(account).objects.filter(pk=account.pk).update(is_blocked=True, blocked_reason="Locked.")

    sweep_alerts()

    assert "Locked." in open_alerts(Kind.BLOCK).get().message


def test_items_past_their_deadline_are_one_alert_with_the_oldest(vendor):
    oldest = waiting(vendor, age=timedelta(seconds=90))
    waiting(vendor, status="processing", age=timedelta(seconds=61))
    waiting(vendor, age=timedelta(seconds=50))

    sweep_alerts()

    alert = open_alerts().get()
    assert (alert.kind, alert.item_id, alert.details) == ("late", oldest.pk, {"count": 2})
    QueueItem.objects.filter(created_at__lt=timezone.now() - MINUTE).update(status="processing")
    QueueItem.objects.filter(created_at__lt=timezone.now() - MINUTE).update(status="completed")
    sweep_alerts()
    assert kinds() == []


# ---- once ---------------------------------------------------------------------------------------


def test_sweeping_again_opens_nothing_and_tells_nobody(vendor, account):
    pool.set_aside(account, "Suspended.")
    sweep_alerts()
    before = Alert.objects.count(), Job.objects.count()

    sweep_alerts()

    assert (Alert.objects.count(), Job.objects.count()) == before == (2, 2)


def test_a_cause_has_one_open_alert_whoever_opens_it(vendor, account):
    """The database says so, where two schedulers find it in the same moment."""
    assert alerts.open_alert(Kind.ACCOUNTS, vendor, "Too few.")
    assert elsewhere(lambda: alerts.open_alert(Kind.ACCOUNTS, vendor, "Too few.")) == [None]

    with pytest.raises(IntegrityError):
        Alert.objects.create(kind=Kind.ACCOUNTS, vendor=vendor, message="Too few.")


def test_closed_alert_opens_anew_when_its_cause_comes_back(vendor):
    first = alerts.open_alert(Kind.ACCOUNTS, vendor, "Too few.")
    assert alerts.close_alert(first, "Enough.")
    assert not alerts.close_alert(first, "Enough, again.")

    assert alerts.open_alert(Kind.ACCOUNTS, vendor, "Too few.") is not None
    assert Alert.objects.get(pk=first.pk).closed_reason == "Enough."


# ---- telling ------------------------------------------------------------------------------------


@pytest.fixture
def sender_address(settings):
    settings.MAIL_FROM = "cartwright@shop.example"


def test_admins_are_written_to_once_of_all_that_is_new(vendor, account, olga, sender_address):
    others = Workspace.objects.create(name="Others")
    User.objects.create_user(
        "charlie", email="charlie@shop.example", is_staff=True, workspace=others
    )
    User.objects.create_user("bob", email="bob@shop.example")  # no admin
    pool.set_aside(account, "Suspended.")
    sweep_alerts()

    assert (tell_admins(), tell_admins()) == (2, 0)

    assert sorted(each.to for each in mail.outbox) == [
        ["charlie@shop.example"],
        ["olga@shop.example"],
    ]
    told = mail.outbox[0]
    assert told.subject == "Alerts: 2"
    assert "Vendor Co: Vendor Co refuses the account one@vendor.example: Suspended." in told.body
    assert "Vendor Co has 1 healthy account; 2 are the least." in told.body
    assert "/vendors/health/" in told.body


def test_mail_server_that_is_away_is_tried_again(account, olga, sender_address, settings):
    pool.set_aside(account, "Suspended.")
    away = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = f"{__name__}.Away"
    assert tell_admins() == 0

    settings.EMAIL_BACKEND = away

    assert tell_admins() == 1
    assert len(mail.outbox) == 1


class Away(BaseEmailBackend):
    def open(self):
        raise ConnectionRefusedError


def test_without_a_sender_or_an_admin_nothing_is_claimed(account, settings, olga):
    pool.set_aside(account, "Suspended.")

    assert tell_admins() == 0
    settings.MAIL_FROM = "cartwright@shop.example"
    User.objects.update(is_active=False)
    assert tell_admins() == 0

    assert open_alerts().get().told_at is None


def test_webhooks_are_told_when_it_opens_and_when_it_is_over(vendor, account):
    endpoint_at("https://erp.example/hooks", "alert.*")
    pool.set_aside(account, "Suspended.")
    alert = open_alerts().get()
    alerts.close_alert(alert, "The account was unblocked.")

    while fan_out():
        pass

    bodies = [make_body(each) for each in WebhookDelivery.objects.order_by("event_number")]
    opened, closed = [json.loads(body) for body in bodies]
    assert [opened["type"], closed["type"]] == ["alert.opened", "alert.closed"]
    told = opened["data"]["job"]["result"]
    assert (told["id"], told["kind"], told["closed_at"]) == (str(alert.pk), "block", None)
    assert told["account_id"] == str(account.pk)
    assert closed["data"]["job"]["result"]["closed_reason"] == "The account was unblocked."
    assert opened["data"]["job"]["status"] == "completed"


def test_job_that_bears_an_alert_is_shown_and_takes_no_worker(account, admin_client):
    pool.set_aside(account, "Suspended.")

    job = open_alerts().get().job

    assert steps.claim_next(["steps"], worker="alice") is None
    assert admin_client.get(job.get_absolute_url()).status_code == 200
    assert list(job.events.values_list("number", "kind")) == [(1, "alert.opened")]


# ---- the scheduler ------------------------------------------------------------------------------


def test_scheduler_sweeps_each_minute_and_tells_each_few_seconds(monkeypatch):
    done, registered = [], duties._duties
    monkeypatch.setattr(duties, "_duties", {})
    for name in ("vendor_alerts", "vendor_alerts_by_mail"):
        work = partial(done.append, name)
        duties.register_duty(name, work, every=registered[name].every)

    for second in (0, 4, 5, 10, 59, 60):
        duties.do_due_duties(float(second))

    assert done.count("vendor_alerts") == 2
    assert done.count("vendor_alerts_by_mail") == 4


def test_a_running_scheduler_finds_what_is_the_matter(tmp_path, account):
    type(account).objects.filter(pk=account.pk).update(is_blocked=True, blocked_reason="Locked.")

    with running_scheduler(tmp_path):
        wait_until(lambda: kinds() == ["accounts", "block"])


def test_duty_that_fails_keeps_no_other_from_its_turn(monkeypatch):
    done = []
    monkeypatch.setattr(duties, "_duties", {})
    duties.register_duty("breaks", lambda: 1 / 0, every=MINUTE)
    duties.register_duty("works", lambda: done.append(1), every=MINUTE)

    duties.do_due_duties(0.0)

    assert done == [1]
