"""Requests of the same moment are queued by one statement, and each is answered for itself."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import User
from jobs.models import Job, Step
from tests.waiting import wait_until
from vendors import cart_queue, statements
from vendors.cart_queue import CartRequest, enqueue
from vendors.errors import KeyReused
from vendors.models import QueueItem

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def together(monkeypatch):
    """Runs all requests in threads; the first one's statement waits until the others have come."""
    real, sizes = statements.queue_items, []

    def run(requests):
        def queue_items(items, planned):
            if not sizes:
                others = len(requests) - 1
                wait_until(lambda: len(cart_queue._together._waiting) == others)
            sizes.append(len(items))
            return real(items, planned)

        def ask(request):
            try:
                return enqueue(request)
            except (IntegrityError, KeyReused) as error:
                return type(error)
            finally:
                connection.close()

        monkeypatch.setattr(statements, "queue_items", queue_items)
        with ThreadPoolExecutor(len(requests)) as threads:
            return list(threads.map(ask, requests, timeout=30)), sizes

    return run


def request_for(vendor, number, **options) -> CartRequest:
    return CartRequest(vendor, f"https://vendor.example/{number}", **options)


def test_requests_of_a_moment_are_one_statement_and_each_has_its_own_item(vendor, together):
    users = [User.objects.create_user(f"user-{number}") for number in range(4)]

    items, sizes = together(
        [
            request_for(vendor, number, requested_by=user, priority=number)
            for number, user in enumerate(users)
        ]
    )

    assert sizes == [1, 3]
    for number, item in enumerate(items):
        item.refresh_from_db()
        assert item.product_url == f"https://vendor.example/{number}"
        assert item.created_by == item.job.created_by == users[number]
        assert item.job.params["queue_item"] == str(item.pk)
        assert item.job.priority == number
    assert Step.objects.filter(status="ready").count() == 4


def test_same_key_twice_in_a_statement_is_one_item(vendor, together):
    user = User.objects.create_user("erpnext")
    same = request_for(vendor, 1, requested_by=user, idempotency_key="key:a")

    items, sizes = together([request_for(vendor, 0), same, same, same])

    assert sizes == [1, 3]
    assert len({item.pk for item in items[1:]}) == 1
    assert sorted(item.is_replay for item in items[1:]) == [False, True, True]
    assert QueueItem.objects.count() == Job.objects.count() == 2


def test_request_that_cannot_be_written_fails_alone(vendor, together):
    gone = User.objects.create_user("gone")
    requests = [request_for(vendor, number) for number in range(3)]
    requests.append(request_for(vendor, 3, requested_by=gone))
    User.objects.filter(pk=gone.pk).delete()

    answers, _ = together(requests)

    assert [answer for answer in answers if not isinstance(answer, QueueItem)] == [IntegrityError]
    assert QueueItem.objects.count() == Job.objects.count() == 3


def test_key_that_was_used_for_something_else_is_refused_alone(vendor, together):
    user = User.objects.create_user("erpnext")
    used = {"requested_by": user, "idempotency_key": "key:a"}
    enqueue(request_for(vendor, 9, **used))

    answers, _ = together(
        [*(request_for(vendor, number) for number in range(3)), request_for(vendor, 3, **used)]
    )

    assert answers[3] is KeyReused
    assert QueueItem.objects.count() == Job.objects.count() == 4


def test_request_within_a_transaction_goes_with_it(vendor):
    """Not with others, whose transactions may come to another end."""
    with transaction.atomic():
        enqueue(request_for(vendor, 1))
        assert QueueItem.objects.count() == Job.objects.count() == 1
        transaction.set_rollback(True)

    assert QueueItem.objects.count() == Job.objects.count() == 0
