"""Queue items that ended leave the queue after 30 days, and can be asked about still."""

import sys
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F

from accounts.models import User
from jobs import archive, live, steps
from jobs.archive import DailyArchive
from jobs.models import ArchivedJob, ArchiveRun, Job
from tests.vendors.test_queue import RUN, added, queued, reserve
from vendors import presentation  # noqa: F401  says what a job is about, as the pages' URLs do
from vendors.models import ArchivedQueueItem, CartItem, QueueItem

# Not imported here: that the app does so is what has the scheduler call it.
queue_archive = sys.modules["vendors.queue_archive"]

MONTH = timedelta(days=30)
URL = "https://vendor.example/product/1"


@pytest.fixture(autouse=True)
def _hints_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.messenger, "post", lambda *_, **__: None)


def ended(vendor, ago: timedelta, status="failed", **fields) -> QueueItem:
    item = QueueItem.objects.create(vendor=vendor, product_url=URL, status=status, **fields)
    QueueItem.objects.filter(pk=item.pk).update(updated_at=F("updated_at") - ago)
    return item


def test_only_what_ended_longer_ago_is_put_away(vendor):
    old = ended(vendor, MONTH + timedelta(minutes=1), error_message="No.", attempts=3)
    kept = {
        ended(vendor, MONTH - timedelta(minutes=1)).pk,
        ended(vendor, 2 * MONTH, "manual_required").pk,
        ended(vendor, 2 * MONTH, "pending").pk,
        ended(vendor, 2 * MONTH, "processing").pk,
    }

    assert queue_archive.archive_batch(MONTH) == 1

    assert set(QueueItem.objects.values_list("pk", flat=True)) == kept
    record = ArchivedQueueItem.objects.get()
    assert (record.pk, record.status, record.attempts) == (old.pk, "failed", 3)
    assert (record.vendor_name, record.error_message) == ("Vendor Co", "No.")
    assert queue_archive.archive_batch(MONTH) == 0


def test_batches_go_on_until_nothing_old_is_left(vendor, monkeypatch):
    monkeypatch.setattr(queue_archive, "BATCH", 2)
    for _ in range(5):
        ended(vendor, 2 * MONTH)

    assert list(queue_archive.archive_all(MONTH)) == [2, 2, 1]
    assert ArchivedQueueItem.objects.count() == 5


def test_schedulers_archive_takes_the_job_first_and_its_item_then(vendor, account):
    item = queued(vendor, product_data={"quantity": 2})
    steps.complete(reserve(item), added(account), **RUN)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE cart_queue SET updated_at = updated_at - interval '31 days'")
    Job.objects.update(finished_at=F("finished_at") - timedelta(days=31))
    assert queue_archive.archive_batch(MONTH) == 0  # its job would be told without its item

    daily = DailyArchive()
    while daily.work():
        pass

    assert ArchiveRun.objects.get().finished_at is not None
    assert QueueItem.objects.count() == Job.objects.count() == 0
    assert ArchivedQueueItem.objects.get().pk == item.pk
    assert ArchivedJob.objects.get().snapshot["subject"]["facts"][0]["text"] == "Gel pen, black"
    line = CartItem.objects.get()  # what was added is kept for reports
    assert (line.queue_item, line.quantity) == (None, 2)


def test_day_is_not_done_while_items_are_left(vendor, monkeypatch):
    monkeypatch.setattr(queue_archive, "BATCH", 1)
    for _ in range(2):
        ended(vendor, 2 * MONTH)

    assert archive.archive_batch(MONTH).is_last is False
    assert archive.archive_batch(MONTH).is_last is False
    assert archive.archive_batch(MONTH).is_last is True


def test_status_of_an_archived_item_is_still_answered(erpnext, admin_api, vendor):
    caller = User.objects.get(username="erpnext")
    mine = ended(vendor, 2 * MONTH, "completed", created_by=caller, product_name="Pen")
    others = ended(vendor, 2 * MONTH)
    before = erpnext.get(f"/api/cart/status/{mine.pk}").json()

    assert queue_archive.archive_batch(MONTH) == 2

    assert erpnext.get(f"/api/cart/status/{mine.pk}").json() == before
    assert erpnext.get(f"/api/cart/status/{others.pk}").status_code == 404
    assert admin_api.get(f"/api/cart/status/{others.pk}").json()["status"] == "failed"


def test_key_of_an_archived_item_can_be_used_again(erpnext, vendor):
    body = {"vendor_id": str(vendor.pk), "product_url": URL}
    headers = {"Idempotency-Key": "a-key"}
    first = erpnext.post("/api/cart/add", body, "json", headers=headers).json()["queue_id"]
    Job.objects.all().delete()
    QueueItem.objects.update(status="failed", updated_at=F("updated_at") - 2 * MONTH)
    queue_archive.archive_batch(MONTH)

    second = erpnext.post("/api/cart/add", body, "json", headers=headers).json()["queue_id"]

    assert first != second
