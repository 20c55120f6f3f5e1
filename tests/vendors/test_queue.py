"""The cart queue: what is queued, and how an item follows its job."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from jobs import live, steps
from jobs.control import cancel_job, rerun_job
from jobs.errors import BusinessError, TransientError
from jobs.models import Job, Status, Step
from jobs.statements import ClaimedStep
from jobs.sweep import recover_expired
from vendors import cart_queue, pool
from vendors.cart_queue import CartRequest, decide_status, enqueue
from vendors.errors import NoAccountFree, RequestRefused
from vendors.models import AccountUsage, CartItem, QueueItem, VendorAccount

URL = "https://vendor.example/product/1"
RUN = {"queues": ["steps"], "worker": "test"}
LINE = {"name": "Gel pen, black", "quantity": 2}


@pytest.fixture(autouse=True)
def _hints_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


def queued(vendor, **request: Any) -> QueueItem:
    return enqueue(CartRequest(vendor, URL, **request))


def claim() -> ClaimedStep:
    claimed = steps.claim_next(**RUN)
    assert claimed is not None
    return claimed


def reserve(item: QueueItem) -> ClaimedStep:
    """Runs the item's first step as its handler would; returns the second, claimed."""
    first = claim()
    account = pool.reserve_account(item.vendor, first.job_id)
    second = steps.complete(first, {"account": str(account.pk)}, **RUN)
    assert second is not None
    assert second.name == "add_to_cart"
    return second


def added(account: VendorAccount) -> Mapping[str, Any]:
    return {"account": str(account.pk), "quantity": 2, "line": LINE, "signed_in": True}


def state(item: QueueItem) -> tuple[str, int, str | None]:
    item.refresh_from_db()
    return item.status, item.attempts, item.error_code


def test_queued_item_has_a_job_that_names_the_purchase(vendor):
    item = queued(vendor, product_name="Gel pen", product_data={"quantity": 2})

    assert item.status == "pending"
    assert item.job.title == "Add 2 × Gel pen to the cart at Vendor Co"
    assert item.job.params == {"queue_item": str(item.pk), "vendor": str(vendor.pk)}
    names = item.job.steps.values_list("name", "status")
    assert list(names) == [("reserve_account", "ready"), ("add_to_cart", "pending")]


def test_refused_request_leaves_nothing(vendor, nothing_happens):
    with nothing_happens(), pytest.raises(RequestRefused) as refusal:
        enqueue(CartRequest(vendor, "https://other.example/p"))

    assert refusal.value.code == "FOREIGN_PRODUCT_URL"


def test_job_that_cannot_be_submitted_leaves_no_item(vendor, nothing_happens, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no job today")

    monkeypatch.setattr(cart_queue, "plan_jobs", fail)

    with nothing_happens(), pytest.raises(RuntimeError):
        queued(vendor)


def test_item_for_a_person_has_no_job(vendor):
    vendor.requires_captcha = True

    item = queued(vendor)

    assert state(item) == ("manual_required", 0, "manual_vendor")
    assert item.job is None
    assert "captcha" in item.error_message
    assert Job.objects.count() == 0


def test_item_is_completed_with_its_cart_line_and_frees_its_account(vendor, account):
    item = queued(vendor, product_data={"quantity": 2})
    assert state(item) == ("pending", 0, "")

    second = reserve(item)

    assert state(item) == ("processing", 1, "")
    assert item.assigned_account == account
    assert VendorAccount.objects.get().held_by_id == item.job_id

    steps.complete(second, added(account), **RUN)

    assert state(item) == ("completed", 1, "")
    assert item.completed_at is not None
    assert item.completed_at >= item.created_at
    line = CartItem.objects.get()
    assert (line.queue_item, line.vendor_account, line.quantity) == (item, account, 2)
    assert line.product_name == "Gel pen, black"  # the request had no name of its own
    account.refresh_from_db()
    assert (account.held_by, account.total_items_added) == (None, 1)
    assert account.last_used_at is not None
    assert AccountUsage.objects.get().items_added == 1


def test_failed_attempt_makes_the_item_pending_again_and_says_why(vendor, account):
    item = queued(vendor)
    second = reserve(item)

    steps.retry(second, TransientError("page_changed", "No button."), delay=timedelta(seconds=2))

    assert state(item) == ("pending", 1, "page_changed")
    assert item.error_message == "No button."
    assert item.completed_at is None

    Step.objects.filter(status="waiting").update(status="ready")
    again = claim()
    assert state(item)[:2] == ("processing", 2)
    steps.complete(again, added(account), **RUN)

    assert state(item) == ("completed", 2, "")
    assert item.error_message is None


@pytest.mark.parametrize(
    ("becomes", "status"),
    [(Status.FAILED, "failed"), (Status.MANUAL, "manual_required")],
)
def test_item_ends_as_its_job_does_and_frees_its_account(vendor, account, becomes, status):
    item = queued(vendor)
    second = reserve(item)

    steps.fail(second, BusinessError("out_of_stock", "It is sold out."), becomes=becomes)

    assert state(item) == (status, 1, "out_of_stock")
    assert item.error_message == "It is sold out."
    assert item.completed_at is None
    assert not CartItem.objects.exists()
    assert VendorAccount.objects.get().held_by is None
    assert not AccountUsage.objects.exists()


def test_item_without_an_account_waits_and_goes_on_when_one_is_free(
    vendor, account, django_capture_on_commit_callbacks
):
    first, second = queued(vendor), queued(vendor)
    adding = reserve(first)
    waiting = claim()
    with pytest.raises(pool.NoAccountFree) as busy:
        pool.reserve_account(vendor, waiting.job_id)
    steps.postpone(waiting, delay=busy.value.come_again_in, reason=str(busy.value))
    assert state(second) == ("pending", 0, "")

    with django_capture_on_commit_callbacks(execute=True):
        steps.complete(adding, added(account), **RUN)

    assert claim().job_id == second.job_id  # at once, not when its wait would have ended


@pytest.mark.parametrize(
    ("job", "step", "status"),
    [
        (Status.PENDING, Status.READY, "pending"),
        (Status.RUNNING, Status.RUNNING, "processing"),
        (Status.RUNNING, Status.COMPLETED, "processing"),
        (Status.RUNNING, Status.WAITING, "pending"),
        (Status.WAITING, Status.WAITING, "pending"),
        (Status.COMPLETED, Status.COMPLETED, "completed"),
        (Status.MANUAL, Status.FAILED, "manual_required"),
        (Status.FAILED, Status.FAILED, "failed"),
        (Status.CANCELLED, Status.CANCELLED, "failed"),
    ],
)
def test_item_has_the_documents_word_for_where_its_job_stands(job, step, status):
    assert decide_status(job, step) == status


# --- What people do to the job ------------------------------------------------------------------


def test_cancelled_item_has_failed_and_frees_its_account_once_its_browser_has_stopped(
    vendor, account
):
    item = queued(vendor)
    second = reserve(item)

    cancel_job(item.job_id, by="alice", reason="Ordered by hand")

    assert state(item) == ("failed", 1, "cancelled")
    assert item.error_message == "Cancelled by alice: Ordered by hand"
    assert VendorAccount.objects.get().held_by_id == item.job_id
    with pytest.raises(NoAccountFree):
        pool.reserve_account(vendor, queued(vendor).job_id)

    steps.stop(second)

    assert VendorAccount.objects.get().held_by is None
    assert state(item) == ("failed", 1, "cancelled")


def test_account_of_a_cancelled_item_whose_worker_died_is_free_after_its_lease(vendor, account):
    item, next_item = queued(vendor), queued(vendor)
    reserve(item)
    cancel_job(item.job_id, by="alice")
    Step.objects.filter(status=Status.RUNNING).update(lease_expires_at=Now() - timedelta(hours=1))

    recover_expired()

    assert pool.reserve_account(vendor, next_item.job_id) == account


def test_cancelled_item_that_had_not_begun_has_failed(vendor, account):
    item = queued(vendor)

    cancel_job(item.job_id, by="alice")

    assert state(item) == ("failed", 0, "cancelled")


def test_item_that_is_with_a_person_has_failed_once_it_is_not_needed_any_more(vendor, account):
    item = queued(vendor)
    steps.fail(reserve(item), BusinessError("captcha", "A captcha."), becomes=Status.MANUAL)
    assert state(item) == ("manual_required", 1, "captcha")

    cancel_job(item.job_id, by="alice", reason="Bought by hand")

    assert state(item) == ("failed", 1, "cancelled")
    assert item.error_message == "Cancelled by alice: Bought by hand"


@pytest.mark.parametrize("from_step", ["reserve_account", "add_to_cart"])
def test_item_whose_job_runs_again_is_pending_with_nothing_held_against_it(
    from_step, vendor, account
):
    item = queued(vendor, product_data={"quantity": 2})
    steps.fail(reserve(item), BusinessError("captcha", "A captcha."), becomes=Status.MANUAL)
    assert state(item) == ("manual_required", 1, "captcha")

    rerun_job(item.job_id, from_step, by="alice")

    assert state(item)[::2] == ("pending", "")
    assert (item.error_message, item.completed_at) == (None, None)
    second = reserve(item) if from_step == "reserve_account" else claim()
    assert state(item) == ("processing", 1, "")
    steps.complete(second, added(account), **RUN)
    assert state(item) == ("completed", 1, "")
    assert VendorAccount.objects.get().held_by is None


def test_completed_item_that_runs_again_keeps_one_cart_line(vendor, account):
    item = queued(vendor, product_data={"quantity": 2})
    steps.complete(reserve(item), added(account), **RUN)
    rerun_job(item.job_id, "add_to_cart", by="alice")
    assert state(item) == ("pending", 0, "")
    assert item.completed_at is None

    steps.complete(claim(), added(account), **RUN)

    assert state(item) == ("completed", 1, "")
    assert CartItem.objects.get().queue_item == item
