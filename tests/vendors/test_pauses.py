"""A vendor or an account that is paused gets no new work; the rest of the queue goes on."""

import pytest

from jobs import flow, steps
from jobs.models import Job, Step
from tests.vendors.test_pool import new_account, new_job
from vendors import cart_queue, pool
from vendors.errors import NoAccountFree
from vendors.models import Vendor


def claim():
    return steps.claim_next(["steps"], worker="alice")


def enqueue(vendor):
    url = f"https://{vendor.domain}/product/1"
    return cart_queue.enqueue(cart_queue.CartRequest(vendor=vendor, product_url=url))


@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_paused_vendor_starts_and_its_name_is_said(vendor, account):
    vendor.refresh_from_db()
    other = Vendor.objects.create(
        name="Other Co", domain="other.example", login_url="https://other.example/",
        cart_url="https://other.example/cart", selectors=vendor.selectors,
    )  # fmt: skip
    held, runs = enqueue(vendor), enqueue(other)

    flow.pause(f"vendor:{vendor.pk}", by="olga", reason="Their site is down.")

    assert claim().job_id == runs.job_id
    assert claim() is None
    job = Job.objects.get(pk=held.job_id)
    assert job.events.last().message == (
        "The vendor Vendor Co is paused by olga: Their site is down."
    )
    flow.resume(f"vendor:{vendor.pk}", by="olga")
    assert claim().job_id == held.job_id


@pytest.mark.django_db(transaction=True)
def test_all_steps_of_an_add_have_the_vendors_key(vendor, account):
    item = enqueue(vendor)

    keys = {tuple(step.flow_keys) for step in Step.objects.filter(job=item.job_id)}

    assert keys == {(f"vendor:{vendor.pk}", "workflow:cart_add")}


def test_paused_account_is_not_reserved(vendor, account):
    two = new_account(vendor, "two")
    flow.pause(f"account:{account.pk}", by="olga")

    assert pool.reserve_account(vendor, new_job().pk) == two
    with pytest.raises(NoAccountFree, match="busy"):
        pool.reserve_account(vendor, new_job().pk)


def test_job_waits_while_every_account_is_paused(vendor, account):
    flow.pause(f"account:{account.pk}", by="olga")
    job = new_job()

    with pytest.raises(NoAccountFree, match=r"The account one@vendor\.example is paused by olga"):
        pool.reserve_account(vendor, job.pk)

    flow.resume(f"account:{account.pk}", by="olga")
    assert pool.reserve_account(vendor, job.pk) == account


def test_key_that_is_no_id_pauses_nobody(vendor, account):
    flow.pause("account:alice", by="olga")

    assert pool.reserve_account(vendor, new_job().pk) == account
