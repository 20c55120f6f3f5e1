"""What people do to queue items, one by one, in bulk and from the command line."""

from io import StringIO

import pytest
from auditlog.models import LogEntry
from django.core.management import CommandError, call_command

from jobs import live, steps
from jobs.control import cancel_job
from jobs.errors import BusinessError, InvalidFilter, NotPossible
from jobs.models import Effect, Job, Status, Step
from tests.vendors.test_queue import RUN, added, claim, queued, reserve, state
from vendors import queue_bulk, queue_control
from vendors.models import CartItem, QueueItem, Vendor, VendorAccount
from vendors.queue_bulk import Action, ItemFilter


@pytest.fixture(autouse=True)
def _hints_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


def failed(vendor, code="out_of_stock", becomes=Status.FAILED) -> QueueItem:
    item = queued(vendor)
    steps.fail(reserve(item), BusinessError(code, "No."), becomes=becomes)
    item.refresh_from_db()
    return item


def with_person(vendor) -> QueueItem:
    return failed(vendor, "captcha", Status.MANUAL)


def job_status(item: QueueItem) -> str:
    return Job.objects.get(pk=item.job_id).status


def test_failed_item_is_retried_in_its_own_job_with_all_of_its_attempts(vendor, account):
    item = failed(vendor)

    retried = queue_control.retry_item(item.pk, by="alice")

    assert (retried.status, retried.error_message, retried.job_id) == ("pending", None, item.job_id)
    assert job_status(item) == "pending"
    again = claim()
    assert (again.job_id, again.attempt) == (item.job_id, 1)
    steps.complete(again, added(account), **RUN)
    assert state(item)[0] == "completed"
    assert LogEntry.objects.filter(additional_data__act="rerun", object_pk=str(item.pk)).exists()


def test_item_that_never_had_a_job_gets_one_once_its_vendor_can_be_automated(vendor, account):
    Vendor.objects.update(can_automate=False)
    vendor.refresh_from_db()
    item = queued(vendor)
    with pytest.raises(NotPossible) as refusal:
        queue_control.retry_item(item.pk, by="alice")
    assert refusal.value.code == "VENDOR_NEEDS_A_PERSON"
    assert state(item)[0] == "manual_required"
    assert Job.objects.count() == 0

    Vendor.objects.update(can_automate=True)
    queue_control.retry_item(item.pk, by="alice")

    assert state(item) == ("pending", 0, "")
    assert item.job == Job.objects.get()


@pytest.mark.parametrize(
    ("verb", "start"),
    [
        (queue_control.retry_item, queued),
        (queue_control.cancel_item, failed),
        (queue_control.cancel_item, with_person),
        (queue_control.complete_by_hand, queued),
        (queue_control.complete_by_hand, failed),
        (queue_control.fail_by_hand, queued),
    ],
)
def test_what_makes_no_sense_for_the_items_status_is_refused(
    verb, start, vendor, account, nothing_happens
):
    item = start(vendor)
    before = (*state(item), job_status(item))

    with nothing_happens(), pytest.raises(NotPossible) as refusal:
        verb(item.pk, by="alice")

    assert refusal.value.code == "NOT_POSSIBLE_NOW"
    assert (*state(item), job_status(item)) == before


def test_item_that_is_worked_on_is_cancelled_but_not_routed(vendor, account):
    item = queued(vendor)
    second = reserve(item)
    with pytest.raises(NotPossible):
        queue_control.route_to_manual(item.pk, by="alice", reason="By hand.")
    assert state(item)[0] == "processing"

    queue_control.cancel_item(item.pk, by="alice", reason="Ordered elsewhere")

    assert state(item) == ("failed", 1, "cancelled")
    assert item.error_message == "Cancelled by alice: Ordered elsewhere"
    steps.stop(second)
    assert state(item)[0] == "failed"
    assert VendorAccount.objects.get().held_by is None


def test_waiting_item_is_handed_to_a_person_with_the_reason(vendor, account):
    item = queued(vendor)

    queue_control.route_to_manual(item.pk, by="alice", reason="It needs a date.")

    assert state(item) == ("manual_required", 0, "routed_by_person")
    assert item.error_message == "It needs a date."
    assert job_status(item) == "cancelled"
    assert steps.claim_next(**RUN) is None


def test_person_is_told_of_the_cart_that_the_item_may_be_in_already(vendor, account):
    item = queued(vendor)
    steps.fail(reserve(item), BusinessError("site_error", "It broke."), becomes=Status.FAILED)
    Effect.objects.create(
        job_id=item.job_id,
        workspace=item.job.workspace,
        step=item.job.steps.get(name="add_to_cart"),
        key=f"cart_add:{item.pk}",
        title="Add 1 × Pen",
        intent={"add": {"account": str(account.pk)}},
    )

    queue_control.route_to_manual(item.pk, by="alice", reason="By hand.")

    item.refresh_from_db()
    assert item.error_message == (
        "By hand. It may be in the cart of one@vendor.example already: look there first."
    )


def test_step_that_stops_late_does_not_take_the_item_from_the_person(vendor, account):
    item = queued(vendor)
    second = reserve(item)
    cancel_job(item.job_id, by="alice")
    queue_control.route_to_manual(item.pk, by="alice", reason="It needs a date.")

    steps.stop(second)

    assert state(item) == ("manual_required", 1, "routed_by_person")


def test_routed_item_can_be_retried_after_all(vendor, account):
    item = queued(vendor)
    queue_control.route_to_manual(item.pk, by="alice", reason="It needs a date.")

    queue_control.retry_item(item.pk, by="alice")

    assert state(item) == ("pending", 0, "")
    steps.complete(reserve(item), added(account), **RUN)
    assert state(item)[0] == "completed"


@pytest.mark.parametrize("start", [with_person, "manual_vendor"])
def test_item_that_a_person_added_is_completed_and_its_job_is_over(start, vendor, account):
    if start == "manual_vendor":
        vendor.requires_captcha = True
        item = queued(vendor)
    else:
        item = start(vendor)

    done = queue_control.complete_by_hand(item.pk, by="alice")

    assert (done.status, done.error_message, done.error_code) == ("completed", None, "")
    assert done.completed_at >= done.created_at
    assert CartItem.objects.count() == 0  # which account's cart it is in, nobody said
    assert not Job.objects.exclude(status="cancelled").exists()
    assert Step.objects.filter(status__in=["ready", "waiting", "running"]).count() == 0


def test_item_that_a_person_gave_up_has_failed_with_the_reason(vendor, account):
    item = with_person(vendor)

    queue_control.fail_by_hand(item.pk, by="alice", reason="Sold out")

    assert state(item) == ("failed", 1, "failed_by_person")
    assert item.error_message == "Failed by alice: Sold out"


def test_higher_priority_goes_first_and_equals_go_first_in_first_out(vendor, account):
    first, second = queued(vendor), queued(vendor)
    urgent = queued(vendor, priority=5)

    order = [claim().job_id for _ in range(3)]

    assert order == [urgent.job_id, first.job_id, second.job_id]


# --- Many ---------------------------------------------------------------------------------------


def test_filter_means_only_what_fits_all_of_it(vendor, account):
    wanted = failed(vendor)
    failed(vendor, "captcha")
    with_person(vendor)
    queued(vendor)

    items = ItemFilter(vendor_id=vendor.pk, error_code="out_of_stock").items(Action.RETRY)

    assert list(items) == [wanted]


def test_empty_filter_means_none(db):
    with pytest.raises(InvalidFilter, match="Say which items"):
        ItemFilter().items(Action.RETRY)


def test_status_that_an_action_is_not_for_is_refused(db):
    with pytest.raises(InvalidFilter, match="retry is for items that are failed, manual_required"):
        ItemFilter(status=["completed"]).items(Action.RETRY)


def test_bulk_goes_on_where_it_stopped_and_says_what_it_skipped(vendor, account):
    items = [failed(vendor) for _ in range(3)]
    wanted = ItemFilter(vendor_id=vendor.pk).items(Action.RETRY)

    first = queue_bulk.apply(Action.RETRY, wanted, by="alice", most=2)
    assert (first.done, first.skipped, first.last) == (2, 0, items[1].pk)
    rest = queue_bulk.apply(Action.RETRY, wanted, by="alice", after=first.last)

    assert (rest.done, rest.last) == (1, None)
    assert QueueItem.objects.filter(status="pending").count() == 3
    again = queue_bulk.apply(Action.RETRY, QueueItem.objects.all(), by="alice")
    assert (again.done, again.skipped) == (0, 3)
    assert again.examples[0].id == items[0].pk


def run(name: str, *args: str) -> str:
    written = StringIO()
    call_command(name, *args, stdout=written, stderr=written)
    return written.getvalue()


def test_cart_retry_counts_first_and_then_retries(vendor, account):
    item = failed(vendor)

    assert "Retry: 1 item." in run("cart_retry", "--vendor", vendor.domain, "--dry-run")
    assert state(item)[0] == "failed"
    assert "1 item retried." in run("cart_retry", "--vendor", vendor.domain, "--yes")

    assert state(item)[0] == "pending"


def test_cart_manual_hands_waiting_items_to_a_person(vendor, account):
    item = queued(vendor)
    options = ["--vendor", str(vendor.pk), "--reason", "The shop is down."]

    assert "Hand to a person: 1 item." in run("cart_manual", *options, "--dry-run")
    assert state(item)[0] == "pending"
    assert "1 item handed to a person." in run("cart_manual", *options, "--yes")

    assert state(item) == ("manual_required", 0, "routed_by_person")
    assert item.error_message == "The shop is down."


def test_command_without_a_filter_or_with_an_unknown_vendor_does_nothing(vendor, account):
    item = failed(vendor)

    with pytest.raises(CommandError, match="an empty filter means none"):
        run("cart_retry", "--yes")
    with pytest.raises(CommandError, match="No vendor has"):
        run("cart_retry", "--vendor", "nowhere.example", "--yes")
    with pytest.raises(CommandError) as skipped:
        run("cart_manual", str(failed(vendor).pk), str(with_person(vendor).pk), "--reason", "x")

    assert skipped.value.returncode == 3
    assert state(item)[0] == "failed"
